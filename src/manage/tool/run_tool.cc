#include "manage/tool/run_tool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/fd.h"
#include "base/strings.h"

namespace atl::manage {
namespace {

constexpr std::array kFolders = {"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"};

struct Pipe {
  Fd read, write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("make a pipe");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

/// The child and our ends of its standard streams.
class Child {
 public:
  static Result<Child> start(const std::string& program, const std::vector<std::string>& words);
  Child(Child&&) = default;
  ~Child() = default;

  /// Feeds and drains until all streams are closed; false when the time is up.
  bool converse(const ToolRequest& request, ToolResult& result);
  /// The wait status.
  int collect();
  void kill() { ::kill(pid_, SIGKILL); }

 private:
  Child() = default;
  void feed(const std::string& input);
  static void drain(Fd& from, std::string& to, size_t limit);

  pid_t pid_ = 0;
  Fd in_, out_, err_;
  size_t fed_ = 0;
};

Result<Child> Child::start(const std::string& program, const std::vector<std::string>& words) {
  Pipe in = TRY(make_pipe()), out = TRY(make_pipe()), err = TRY(make_pipe());
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in.read.get(), 0);
  ::posix_spawn_file_actions_adddup2(&actions, out.write.get(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, err.write.get(), 2);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // Messages are parsed here and there: never translated.
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C";
  char* environment[] = {path, locale, nullptr};
  Child child;
  int failed = ::posix_spawn(&child.pid_, program.c_str(), &actions, &attributes, argv.data(), environment);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failed) return os_error("start " + program, failed);
  child.in_ = std::move(in.write);
  child.out_ = std::move(out.read);
  child.err_ = std::move(err.read);
  ::fcntl(child.in_.get(), F_SETFL, O_NONBLOCK);
  return child;
}

void Child::feed(const std::string& input) {
  ssize_t count = fed_ < input.size() ? ::write(in_.get(), input.data() + fed_, input.size() - fed_) : 0;
  if (count > 0) fed_ += static_cast<size_t>(count);
  if (fed_ >= input.size() || (count < 0 && errno != EAGAIN && errno != EINTR)) in_.reset();
}

void Child::drain(Fd& from, std::string& to, size_t limit) {
  char buffer[16384];
  ssize_t count = ::read(from.get(), buffer, sizeof buffer);
  if (count < 0 && errno == EINTR) return;
  if (count <= 0) return from.reset();
  to.append(buffer, std::min(static_cast<size_t>(count), limit - std::min(limit, to.size())));
}

bool Child::converse(const ToolRequest& request, ToolResult& result) {
  u64 deadline = monotonic_ns() + u64{request.timeout_s} * 1'000'000'000;
  while (in_ || out_ || err_) {
    u64 now = monotonic_ns();
    if (now >= deadline) return false;
    pollfd polls[] = {{in_.get(), POLLOUT, 0}, {out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}};
    if (::poll(polls, 3, static_cast<int>((deadline - now) / 1'000'000) + 1) < 0 && errno != EINTR) return false;
    if (polls[0].revents) feed(request.input);
    if (polls[1].revents) drain(out_, result.output, request.output_limit);
    if (polls[2].revents) drain(err_, result.errors, 64 << 10);
  }
  return true;
}

int Child::collect() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  return status;
}

}  // namespace

std::string find_tool(const std::string& name) {
  if (name.starts_with('/')) return ::access(name.c_str(), X_OK) == 0 ? name : "";
  for (const char* folder : kFolders) {
    std::string path = fmt::format("{}/{}", folder, name);
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

Result<ToolResult> run_tool(const ToolRequest& request) {
  const std::string& name = request.words.front();
  std::string program = find_tool(name);
  if (program.empty()) return operation_unsupported(fmt::format("'{}' is not installed on this host", name));
  Child child = TRY(Child::start(program, request.words));
  ToolResult result;
  bool ended = child.converse(request, result);
  if (!ended) child.kill();
  int status = child.collect();
  if (!ended) return internal_error(fmt::format("{} did not end within {} s", name, request.timeout_s));
  if (!WIFEXITED(status)) return internal_error(fmt::format("{} was killed by signal {}", name, WTERMSIG(status)));
  result.exit_status = WEXITSTATUS(status);
  return result;
}

Result<std::string> run_tool_checked(const ToolRequest& request) {
  ToolResult result = TRY(run_tool(request));
  if (result.exit_status == 0) return std::move(result.output);
  return internal_error(fmt::format("{} failed with status {}: {}", fmt::join(request.words, " "), result.exit_status,
                                    trim(result.errors)));
}

}  // namespace atl::manage
