#include "control/sandbox.h"

#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <thread>

namespace atl::control {
namespace {

/// Installs the filter in a process of its own, does something there, and exits with status 0 if it still can.
template <class F>
void under(const SandboxConfig& config, F action) {
  if (!install_sandbox(config)) ::_exit(2);
  action();
  ::_exit(0);
}

const SandboxConfig kPlain{.enabled = true};
const SandboxConfig kStrict{.enabled = true, .elevation = SandboxConfig::Elevation::Deny, .allow_spawn = false,
                            .allow_resource_control = false};

TEST(SandboxDeathTest, LookingIntoProcessesEndsThisOne) {
  EXPECT_EXIT(under(kPlain, [] { ::ptrace(PTRACE_TRACEME, 0, 0, 0); }), testing::KilledBySignal(SIGSYS), "");
}

TEST(SandboxDeathTest, NewProgramsAreAllowedUnlessDenied) {
  EXPECT_EXIT(under(kPlain, [] { ::execl("/bin/true", "true", nullptr); }), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(under(kStrict, [] { ::execl("/bin/true", "true", nullptr); }), testing::KilledBySignal(SIGSYS), "");
}

TEST(SandboxDeathTest, NewProcessesAreDeniedButThreadsAreNot) {
  EXPECT_EXIT(under(kStrict, [] { (void)!::fork(); }), testing::KilledBySignal(SIGSYS), "");
  EXPECT_EXIT(under(kStrict, [] { std::thread([] {}).join(); }), testing::ExitedWithCode(0), "");
}

TEST(SandboxDeathTest, PrivilegesAndLimitsStayAsTheyAre) {
  EXPECT_EXIT(under(kStrict, [] { (void)!::setuid(::getuid()); }), testing::KilledBySignal(SIGSYS), "");
  rlimit limit;
  EXPECT_EXIT(under(kStrict, [&] { ::getrlimit(RLIMIT_NOFILE, &limit); }), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(under(kStrict, [&] { ::setrlimit(RLIMIT_NOFILE, &limit); }), testing::KilledBySignal(SIGSYS), "");
}

TEST(SandboxDeathTest, OffInstallsNothing) {
  EXPECT_EXIT(under({}, [] { ::ptrace(PTRACE_TRACEME, 0, 0, 0); }), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace atl::control
