#include "devices/legacy/tpm_backend.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/log.h"

namespace atl::devices {
namespace {

enum Command : u32 { kInit = 2, kShutdown = 3, kStop = 14, kSetDataFd = 16 };
constexpr size_t kHeaderBytes = 10;      // of a TPM command or response: tag, length, code
constexpr size_t kMaxResponse = 4096;
constexpr timeval kPatience = {.tv_sec = 120, .tv_usec = 0};

Status send_all(int fd, std::span<const u8> data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return os_error("send");
    data = data.subspan(static_cast<size_t>(sent));
  }
  return {};
}

Status receive_all(int fd, std::span<u8> out) {
  while (!out.empty()) {
    const ssize_t got = ::recv(fd, out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error("receive");
    if (got == 0) return Error(ErrorKind::Io, "the TPM closed its channel");
    out = out.subspan(static_cast<size_t>(got));
  }
  return {};
}

/// One message, with a descriptor if there is one to pass.
Status send_with_fd(int socket, std::vector<u8> data, int passed) {
  if (passed < 0) return send_all(socket, data);
  iovec part = {data.data(), data.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(data.size()) ? Status{} : Status(os_error("send"));
}

Result<Fd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return Error(ErrorKind::Invalid, "is no path of a Unix socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return os_error("socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) return os_error("connect");
  return fd;
}

}  // namespace

Result<std::unique_ptr<SwtpmBackend>> SwtpmBackend::create(const std::string& path) {
  std::unique_ptr<SwtpmBackend> tpm(new SwtpmBackend());
  tpm->path_ = path;
  tpm->control_ = TRY(connect_to(path).context(fmt::format("TPM at {}", path)));
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return os_error("socketpair");
  tpm->data_ = Fd(pair[0]);
  const Fd theirs(pair[1]);
  for (int fd : {tpm->control_.get(), tpm->data_.get()}) ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  TRY(tpm->control(kSetDataFd, {}, theirs.get()));
  const std::array<u8, 4> no_flags{};
  TRY(tpm->control(kInit, no_flags));
  tpm->thread_ = TRY(LoopThread::start("TPM"));
  return tpm;
}

SwtpmBackend::~SwtpmBackend() {
  if (thread_) thread_->stop();
  if (control_) static_cast<void>(control(kShutdown, {}));
}

/// Every reply begins with a result, 0 for success.
Status SwtpmBackend::control(u32 command, std::span<const u8> argument, int passed_fd) {
  std::vector<u8> request(4);
  store_be(request.data(), command);
  request.insert(request.end(), argument.begin(), argument.end());
  std::array<u8, 4> reply{};
  Status answered = send_with_fd(control_.get(), std::move(request), passed_fd);
  if (answered) answered = receive_all(control_.get(), reply);
  if (!answered) return std::move(answered).context(fmt::format("TPM at {}", path_));
  const u32 result = load_be<u32>(reply.data());
  if (result == 0) return {};
  return Error(ErrorKind::Io, fmt::format("TPM at {}: control command {} failed with {:#x}", path_, command, result));
}

std::vector<u8> SwtpmBackend::exchange(std::span<const u8> command) {
  std::vector<u8> response(kHeaderBytes);
  Status done = send_all(data_.get(), command);
  if (done) done = receive_all(data_.get(), response);
  const size_t size = load_be<u32>(&response[2]);
  if (done && (size < kHeaderBytes || size > kMaxResponse)) done = Error(ErrorKind::Io, fmt::format("a response of {} bytes", size));
  if (done) {
    response.resize(size);
    done = receive_all(data_.get(), std::span(response).subspan(kHeaderBytes));
  }
  if (done) return response;
  log_error("TPM at {}: {}", path_, done.error().text());
  return {};
}

void SwtpmBackend::execute(std::vector<u8> command, std::function<void(std::vector<u8>)> done) {
  thread_->loop().post([this, command = std::move(command), done = std::move(done)] { done(exchange(command)); });
}

Status SwtpmBackend::restart() {
  return thread_->run_on([this]() -> Status {
    TRY(control(kStop, {}));
    const std::array<u8, 4> no_flags{};
    return control(kInit, no_flags);
  });
}

}  // namespace atl::devices
