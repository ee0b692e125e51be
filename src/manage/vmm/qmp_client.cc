#include "manage/vmm/qmp_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/sockets.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr size_t kLongestLine = 64 * kMiB;  // a reply longer than that is no reply
constexpr size_t kReadBytes = 64 * kKiB;

Error timed_out(std::string_view what) { return Error(Code::OperationTimeout, fmt::format("{}: the monitor does not answer", what)); }
Error monitor_gone() { return internal_error("End of file from qemu monitor"); }

/// Connects without waiting: the socket listens already, or there is no VM.
Result<Fd> connect_unix(const std::string& path) {
  sockaddr_un address = TRY(unix_address(path));
  Fd fd = TRY(make_socket(AF_UNIX));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return os_error("connect to " + path);
  return fd;
}

/// One sendmsg of what is left; the descriptor goes with the first byte. Gives the bytes taken, 0 if the socket is full.
Result<size_t> send_part(int socket, std::string_view rest, int passed) {
  iovec part{const_cast<char*>(rest.data()), rest.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (passed >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  }
  ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return static_cast<size_t>(sent);
  if (errno == EAGAIN || errno == EINTR) return size_t{0};
  return os_error("send to the monitor");
}

/// Milliseconds until the deadline, for poll().
int left_ms(u64 deadline_ns) {
  const u64 now = monotonic_ns();
  return deadline_ns <= now ? 0 : static_cast<int>((deadline_ns - now) / 1'000'000 + 1);
}

}  // namespace

QmpClient::QmpClient(LoopThread& thread, Fd fd, Callbacks callbacks)
    : thread_(thread), fd_(std::move(fd)), callbacks_(std::move(callbacks)) {}

QmpClient::~QmpClient() { close(); }

Result<std::unique_ptr<QmpClient>> QmpClient::connect(LoopThread& thread, const std::string& path, Callbacks callbacks, u64 timeout_ns) {
  const u64 deadline = monotonic_ns() + timeout_ns;
  Fd fd = TRY(connect_unix(path));
  std::unique_ptr<QmpClient> client(new QmpClient(thread, std::move(fd), std::move(callbacks)));
  QmpClient* raw = client.get();
  thread.run_on([raw] {
    raw->watch_ = std::make_unique<Loop::Watch>(raw->thread_.loop(), raw->fd_.get(), POLLIN, [raw](u32) { raw->read_some(); });
  });
  {
    Lock lock(raw->mutex_);
    const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout_ns);
    while (!raw->greeted_ && !raw->lost_)
      if (raw->changed_.wait_until(lock, until) == std::cv_status::timeout) break;
    if (raw->lost_) return monitor_gone();
    if (!raw->greeted_) return timed_out("greeting");
  }
  const u64 now = monotonic_ns();
  TRY(raw->execute("qmp_capabilities", Json::object(), deadline > now ? deadline - now : 0));
  return client;
}

Result<Json> QmpClient::execute(std::string_view command, Json arguments, u64 timeout_ns, int fd) {
  Json message = {{"execute", command}};
  if (!arguments.empty()) message["arguments"] = std::move(arguments);
  Json reply = TRY(exchange(std::move(message), timeout_ns, fd));
  if (auto error = reply.find("error"); error != reply.end()) {
    const std::string text = error->is_object() ? error->value("desc", "unknown error") : "unknown error";
    return internal_error(fmt::format("unable to execute QEMU command '{}': {}", command, text));
  }
  return reply.value("return", Json::object());
}

Result<std::string> QmpClient::pass_through(std::string_view message, u64 timeout_ns, int fd) {
  Json parsed = Json::parse(message, nullptr, false);
  if (!parsed.is_object()) return invalid_arg("cannot parse the monitor command: a JSON object is expected");
  Json reply = TRY(exchange(std::move(parsed), timeout_ns, fd));
  return reply.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Json> QmpClient::exchange(Json message, u64 timeout_ns, int fd) {
  const u64 deadline = monotonic_ns() + timeout_ns;
  u64 id;
  {
    Lock lock(mutex_);
    if (lost_) return monitor_gone();
    id = next_id_++;
    replies_.emplace(id, nullptr);
  }
  message["id"] = fmt::format("atoll-{}", id);
  // Bytes that are no UTF-8 would be an error of ours at the other side.
  Status sent = send(message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\r\n", fd, deadline);
  Result<Json> reply = sent ? wait_for(id, deadline) : Result<Json>(std::move(sent).error());
  Lock lock(mutex_);
  replies_.erase(id);
  return reply;
}

Result<Json> QmpClient::wait_for(u64 id, u64 deadline_ns) {
  Lock lock(mutex_);
  for (;;) {
    auto& reply = replies_.at(id);
    if (reply) return std::move(*reply);
    if (lost_) return monitor_gone();
    const u64 now = monotonic_ns();
    if (now >= deadline_ns) return timed_out("reply");
    changed_.wait_for(lock, std::chrono::nanoseconds(deadline_ns - now));
  }
}

Status QmpClient::send(const std::string& line, int fd, u64 deadline_ns) {
  Lock lock(send_mutex_);
  std::string_view rest = line;
  while (!rest.empty()) {
    const size_t taken = TRY(send_part(fd_.get(), rest, fd));
    rest.remove_prefix(taken);
    if (taken) {
      fd = -1;
      continue;
    }
    pollfd wait{fd_.get(), POLLOUT, 0};
    if (::poll(&wait, 1, left_ms(deadline_ns)) == 0 && monotonic_ns() >= deadline_ns) {
      // Half a message has gone out: nothing more can be said on this connection.
      if (rest.size() < line.size()) ::shutdown(fd_.get(), SHUT_RDWR);
      return timed_out("send");
    }
  }
  return {};
}

void QmpClient::read_some() {
  const size_t before = input_.size();
  input_.resize(before + kReadBytes);
  const ssize_t got = ::recv(fd_.get(), input_.data() + before, kReadBytes, MSG_DONTWAIT);
  const int problem = errno;
  input_.resize(before + (got > 0 ? static_cast<size_t>(got) : 0));
  if (got == 0 || (got < 0 && problem != EAGAIN && problem != EINTR) || input_.size() > kLongestLine) return lose();
  size_t start = 0;
  for (size_t end; (end = input_.find('\n', std::max(start, start ? start : before))) != std::string::npos; start = end + 1)
    take_line(std::string_view(input_).substr(start, end - start));
  input_.erase(0, start);
}

void QmpClient::take_line(std::string_view line) {
  Json message = Json::parse(line, nullptr, false);
  if (!message.is_object()) return;
  if (auto event = message.find("event"); event != message.end() && event->is_string()) {
    const Json time = message.value("timestamp", Json::object());
    const Json data = message.value("data", Json());
    callbacks_.event(event->get<std::string>(), data, time.value("seconds", i64{0}), time.value("microseconds", u32{0}));
    return;
  }
  Lock lock(mutex_);
  if (message.contains("QMP")) greeted_ = true;
  const Json id = message.value("id", Json());
  if (id.is_string() && id.get_ref<const std::string&>().starts_with("atoll-")) {
    const u64 number = std::strtoull(id.get_ref<const std::string&>().c_str() + 6, nullptr, 10);
    message.erase("id");
    if (auto at = replies_.find(number); at != replies_.end()) at->second = std::make_unique<Json>(std::move(message));
  }
  changed_.notify_all();
}

void QmpClient::lose() {
  watch_.reset();
  {
    Lock lock(mutex_);
    if (std::exchange(lost_, true)) return;
    changed_.notify_all();
  }
  callbacks_.closed();
}

void QmpClient::close() {
  {
    Lock lock(mutex_);
    lost_ = true;
    changed_.notify_all();
  }
  thread_.run_on([this] { watch_.reset(); });
}

}  // namespace atl::manage
