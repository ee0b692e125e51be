// Keyboard, screen and console of a domain.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/sockets.h"
#include "manage/domain/consoles.h"
#include "manage/domain/key_names.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

Status open_with(Call& call, bool channel) {
  std::optional<std::string> name;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, flags));
  constexpr u32 kForce = 1, kSafe = 2;
  TRY(check_flags(flags, kForce | kSafe, channel ? "virDomainOpenChannel" : "virDomainOpenConsole"));
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  OpenedPort port = TRY(open_port(*tree, name.value_or(""), channel));
  call.start_stream(TRY(call.daemon().domains().consoles().open(port.key, std::move(port.fd), (flags & kForce) != 0)));
  return {};
}

Status open_console(Call& call) { return open_with(call, false); }
Status open_channel(Call& call) { return open_with(call, true); }

/// Sockets of ours do not block: the connection is made when it can be written to.
Status connect_now(const Fd& fd, const sockaddr* address, socklen_t size) {
  constexpr int kPatience_ms = 10'000;
  if (::connect(fd.get(), address, size) == 0) return {};
  if (errno != EINPROGRESS) return os_error("connect to the screen");
  pollfd ready{.fd = fd.get(), .events = POLLOUT, .revents = 0};
  if (::poll(&ready, 1, kPatience_ms) <= 0) return Error(Code::OperationTimeout, "connect to the screen");
  socklen_t length = sizeof errno;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &errno, &length) < 0 || errno != 0) return os_error("connect to the screen");
  return {};
}

/// The host connects for the client, which may not reach the screen's port itself.
Result<Fd> connect_screen(const Element& graphics) {
  if (at(graphics, "listen", "type") == "socket") {
    const sockaddr_un address = TRY(unix_address(at(graphics, "listen", "socket")));
    Fd fd = TRY(make_socket(AF_UNIX));
    TRY(connect_now(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
    return fd;
  }
  std::string host = at(graphics, "listen", "address");
  if (host.empty() || host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  const AddressList addresses = TRY(resolve_tcp(host, graphics.attribute("port"), false));
  Fd fd = TRY(make_socket(addresses->ai_family));
  TRY(connect_now(fd, addresses->ai_addr, addresses->ai_addrlen));
  return fd;
}

Status open_graphics_fd(Call& call) {
  u32 index = 0, flags = 0;
  auto domain = TRY(read_domain(call, index, flags));
  constexpr u32 kSkipAuth = 1;
  TRY(check_flags(flags, kSkipAuth, "virDomainOpenGraphicsFD"));
  auto tree = domain->live();
  if (!tree) return operation_invalid("domain is not running");
  const auto screens = devices_of(*tree).children("graphics");
  if (index >= screens.size()) return internal_error(fmt::format("No graphics backend with index {}", index));
  call.pass_fd(TRY(connect_screen(*screens[index])));
  return {};
}

/// The VM writes the picture into its own folder.
Status screenshot(Call& call) {
  u32 screen = 0, flags = 0;
  auto domain = TRY(read_domain(call, screen, flags));
  TRY(check_flags(flags, 0, "virDomainScreenshot"));
  if (screen != 0) return operation_invalid("no such screen ID");
  auto job = TRY(domain->begin_job());
  auto vm = domain->running();
  if (!vm) return operation_invalid("domain is not running");
  const std::string path = vm->folder + "/screen.png";
  TRY(ask(*domain, "screendump", {{"filename", path}, {"format", "png"}}));
  constexpr u64 kLargestPicture = 256 * kMiB;
  const std::string picture = TRY(read_file(path, kLargestPicture));
  ::unlink(path.c_str());
  call.write(std::optional<std::string>("image/png"));
  call.start_stream(std::make_unique<BufferStream>(std::vector<u8>(picture.begin(), picture.end())));
  return {};
}

Status send_key(Call& call) {
  u32 codeset = 0, hold_ms = 0, flags = 0;
  std::vector<u32> codes;
  auto domain = TRY(read_domain(call, codeset, hold_ms, codes, flags));
  TRY(check_flags(flags, 0, "virDomainSendKey"));
  constexpr size_t kMaxKeys = 16;
  if (codes.empty() || codes.size() > kMaxKeys) return invalid_arg("between 1 and 16 keys can be sent at once");
  Json keys = Json::array();
  for (u32 code : codes) {
    auto number = pc_scancode(codeset, code);
    if (!number) return invalid_arg(fmt::format("invalid keycode {} of codeset {}", code, codeset));
    keys.push_back({{"type", "number"}, {"data", *number}});
  }
  auto job = TRY(domain->begin_job());
  Json arguments = {{"keys", std::move(keys)}};
  if (hold_ms) arguments["hold-time"] = hold_ms;
  TRY(ask(*domain, "send-key", std::move(arguments)));
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_OPEN_CONSOLE, Access::Write, open_console},
    {Proc::DOMAIN_OPEN_CHANNEL, Access::Write, open_channel},
    {Proc::DOMAIN_OPEN_GRAPHICS_FD, Access::Write, open_graphics_fd},
    {Proc::DOMAIN_SCREENSHOT, Access::Read, screenshot},
    {Proc::DOMAIN_SEND_KEY, Access::Write, send_key},
};

}  // namespace

std::span<const Procedure> domain_console_rows() { return kRows; }

}  // namespace atl::manage
