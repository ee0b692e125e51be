#include "manage/vmm/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fmt/format.h>

#include "manage/vmm/ownership.h"

namespace atl::manage {
namespace {

constexpr u64 kPatience_ns = 60'000'000'000;

ProcessRequest shell(const std::string& script) {
  ProcessRequest request;
  request.program = "/bin/sh";
  request.arguments = {"-c", script};
  request.environment = {"PATH=/bin:/usr/bin"};
  return request;
}

TEST(Process, RunsWithOnlyTheDescriptorsThatItIsGiven) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  Fd read_end(ends[0]), write_end(ends[1]);
  ProcessRequest request = shell(fmt::format("ls /proc/self/fd | tr '\\n' ' ' >&{}", write_end.get()));
  request.descriptors = {write_end.get()};
  auto process = start_process(request, nullptr);
  ASSERT_TRUE(process.has_value());
  EXPECT_TRUE(wait_for_end(*process, kPatience_ns));
  char buffer[256];
  const ssize_t got = ::read(read_end.get(), buffer, sizeof buffer);
  ASSERT_GT(got, 0);
  // 3 is the folder that ls itself reads.
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(got)), fmt::format("0 1 2 3 {} ", write_end.get()));
}

TEST(Process, AProgramThatIsNotThereIsAnError) {
  ProcessRequest request;
  request.program = "/nonexistent";
  auto process = start_process(request, nullptr);
  ASSERT_FALSE(process.has_value());
  EXPECT_NE(process.error().message().find("execve: No such file"), std::string::npos);
}

TEST(Process, IsItselfUntilItEnds) {
  auto process = start_process(shell("sleep 600"), nullptr);
  ASSERT_TRUE(process.has_value());
  EXPECT_TRUE(is_alive(*process));
  EXPECT_FALSE(is_alive({process->pid, process->start_ticks + 1}));
  EXPECT_FALSE(wait_for_end(*process, 1'000'000));
  ASSERT_TRUE(signal_process(*process, SIGKILL).has_value());
  EXPECT_TRUE(wait_for_end(*process, kPatience_ns));
  EXPECT_FALSE(is_alive(*process));
  EXPECT_FALSE(signal_process(*process, SIGKILL).has_value());
}

TEST(Process, NothingRunsWhenItCannotBePutInItsGroup) {
  auto process = start_process(shell("exit 0"), [](pid_t) -> Status { return operation_failed("no group"); });
  ASSERT_FALSE(process.has_value());
  EXPECT_NE(process.error().message().find("no group"), std::string::npos);
}

TEST(Ownership, BackingFilesAreThoseThatHeadersRecord) {
  const std::string base = ::testing::TempDir() + "/no-such-base.raw";
  EXPECT_TRUE(backing_files(base, "raw")->empty());
  EXPECT_FALSE(backing_files(base, "qcow2").has_value());
}

}  // namespace
}  // namespace atl::manage
