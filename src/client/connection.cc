#include "client/connection.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/endian.h"
#include "base/sockets.h"
#include "base/strings.h"

namespace atl::client {

using manage::rpc::Frame;
using manage::rpc::FrameStatus;
using manage::rpc::FrameType;

namespace {

constexpr u32 kPing = 1, kPong = 2;

/// Our own folder, or libvirt's if only that is there.
std::string default_folder() {
  for (const char* dir : {"/run/atoll", "/run/libvirt"})
    if (::access((std::string(dir) + "/libvirt-sock").c_str(), F_OK) == 0) return dir;
  return "/run/atoll";
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    auto code = text[i] == '%' && i + 2 < text.size() ? parse_hex(text.substr(i + 1, 2)) : std::nullopt;
    out += code ? static_cast<char>(*code) : text[i];
    if (code) i += 2;
  }
  return out;
}

}  // namespace

Result<std::string> socket_of(const std::string& uri, bool read_only) {
  if (uri.starts_with("/")) return uri;
  size_t question = uri.find('?');
  std::string_view base = std::string_view(uri).substr(0, question);
  if (!base.empty() && base != "qemu:///system" && base != "qemu+unix:///system")
    return manage::Error(manage::Code::NoConnect, uri, manage::Part::None);
  if (question != uri.npos)
    for (std::string_view part : split(std::string_view(uri).substr(question + 1), '&'))
      if (part.starts_with("socket=")) return percent_decoded(part.substr(7));
  return default_folder() + (read_only ? "/libvirt-sock-ro" : "/libvirt-sock");
}

Result<std::unique_ptr<Connection>> Connection::open(const std::string& uri, bool read_only) {
  std::string path = TRY(socket_of(uri, read_only));
  sockaddr_un address = TRY(unix_address(path));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return atl::Error(os_error("create a socket"));
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    return atl::Error(os_error(fmt::format("Failed to connect socket to '{}'", path)));
  std::unique_ptr<Connection> connection(new Connection(std::move(socket)));
  auto kinds = TRY(connection->get<std::vector<i32>>(Proc::AUTH_LIST));
  if (std::ranges::find(kinds, 0) == kinds.end())
    return manage::Error(manage::Code::AuthFailed, "the daemon wants a login, which this client lacks",
                         manage::Part::Rpc);
  TRY(connection->call(Proc::CONNECT_OPEN, std::optional<std::string>("qemu:///system"), u32{read_only}));
  return connection;
}

Connection::~Connection() { (void)call(Proc::CONNECT_CLOSE); }

Status Connection::send(FrameType type, FrameStatus status, std::span<const u8> payload) {
  header_.type = type;
  header_.status = status;
  TRY(write_all(socket_, manage::rpc::encode_frame(header_, payload)));
  return {};
}

Status Connection::read_exact(std::span<u8> out) {
  while (!out.empty()) {
    ssize_t n = ::read(socket_.get(), out.data(), out.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return atl::Error(os_error("read from the daemon"));
    if (n == 0) return manage::rpc_error("End of file while reading data: the daemon closed the connection");
    out = out.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<Frame> Connection::receive() {
  while (true) {
    std::vector<u8> bytes(manage::rpc::kHeaderBytes);
    TRY(read_exact(bytes));
    u32 length = 0;
    if (manage::rpc::scan_frame(bytes, length) == manage::rpc::Scan::Bad) return manage::rpc_error("malformed frame");
    bytes.resize(length);
    TRY(read_exact(std::span(bytes).subspan(manage::rpc::kHeaderBytes)));
    Frame frame = manage::rpc::parse_frame(bytes);
    if (frame.header.program == manage::rpc::kKeepaliveProgram && frame.header.procedure == kPing) {
      manage::rpc::Header pong = frame.header;
      pong.procedure = kPong;
      TRY(write_all(socket_, manage::rpc::encode_frame(pong, {})));
    } else if (frame.header.type != FrameType::Message && frame.header.serial == header_.serial) {
      return frame;
    }
  }
}

Result<std::vector<u8>> Connection::exchange(u32 procedure, std::vector<u8> payload) {
  header_ = {};
  header_.procedure = procedure;
  header_.serial = next_serial_++;
  TRY(send(FrameType::Call, FrameStatus::Ok, payload));
  Frame frame = TRY(receive());
  if (frame.header.status == FrameStatus::Ok) return std::move(frame.payload);
  manage::Error error = TRY(manage::rpc::decode_error(frame.payload));
  if (error.code() == manage::Code::Rpc && error.message().starts_with("unknown procedure"))
    return manage::Error(manage::Code::NoSupport, std::string(manage::procedure_name(procedure)));
  return error;
}

Status Connection::send_stream(std::span<const u8> data) {
  while (!data.empty()) {
    size_t n = std::min<size_t>(data.size(), manage::rpc::kStreamChunk);
    TRY(send(FrameType::Stream, FrameStatus::Continue, data.first(n)));
    data = data.subspan(n);
  }
  return {};
}

Status Connection::finish_stream() {
  TRY(send(FrameType::Stream, FrameStatus::Ok, {}));
  while (true) {
    Frame frame = TRY(receive());
    if (frame.header.status == FrameStatus::Error) return TRY(manage::rpc::decode_error(frame.payload));
    if (frame.header.status == FrameStatus::Ok) return {};
  }
}

Status Connection::receive_stream(const std::function<Status(std::span<const u8>)>& sink) {
  while (true) {
    Frame frame = TRY(receive());
    if (frame.header.status == FrameStatus::Error) return TRY(manage::rpc::decode_error(frame.payload));
    if (frame.payload.empty()) return finish_stream();
    TRY(sink(frame.payload));
  }
}

Status Connection::run_console(int terminal, u8 escape) {
  while (true) {
    pollfd fds[] = {{socket_.get(), POLLIN, 0}, {terminal, POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return atl::Error(os_error("poll"));
    if (fds[0].revents) {
      Frame frame = TRY(receive());
      if (frame.header.status == FrameStatus::Error) return TRY(manage::rpc::decode_error(frame.payload));
      if (frame.payload.empty()) return finish_stream();
      TRY(write_all(Fd(::dup(STDOUT_FILENO)), frame.payload));
    }
    if (fds[1].revents) {
      u8 keys[1024];
      ssize_t n = ::read(terminal, keys, sizeof keys);
      std::span<const u8> typed(keys, n > 0 ? static_cast<size_t>(n) : 0);
      auto end = std::ranges::find(typed, escape);
      TRY(send_stream(typed.first(static_cast<size_t>(end - typed.begin()))));
      if (typed.empty() || end != typed.end()) return finish_stream();
    }
  }
}

}  // namespace atl::client
