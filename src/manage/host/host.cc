#include "manage/host/host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sockets.h"
#include "base/strings.h"
#include "manage/config.h"
#include "manage/uuid.h"

namespace atl::manage::host {

namespace {

/// The firmware's; some boards have none, or one of all zeroes or all ones.
std::optional<Uuid> board_uuid() {
  auto text = read_file("/sys/class/dmi/id/product_uuid", 100);
  if (!text) return {};
  auto uuid = parse_uuid(trim(*text));
  if (!uuid || *uuid == Uuid{}) return {};
  return uuid;
}

Result<Uuid> own_uuid(const std::string& dir) {
  std::string path = dir + "/host-uuid";
  if (auto text = read_file(path, 100))
    if (auto uuid = parse_uuid(trim(*text))) return *uuid;
  Uuid uuid = random_uuid();
  ::mkdir(dir.c_str(), 0755);
  Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC));
  std::string text = format_uuid(uuid) + "\n";
  TRY(write_all(file, {reinterpret_cast<const u8*>(text.data()), text.size()}));
  return uuid;
}

/// Where programs are looked for: the configured folder, or the one that this program is in.
std::string program_folder(const Config& config) {
  if (!config.paths.programs.empty()) return config.paths.programs;
  char path[4096];
  ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
  std::string_view self(path, n > 0 ? static_cast<size_t>(n) : 0);
  return std::string(self.substr(0, self.rfind('/')));
}

}  // namespace

Result<std::unique_ptr<Host>> Host::create(const Config& config) {
  Node node = TRY(read_node(""));
  auto board = board_uuid();
  Uuid uuid = board ? *board : TRY(own_uuid(config.paths.config));
  return std::unique_ptr<Host>(new Host(std::move(node), uuid, program_folder(config) + "/atoll-vmm"));
}

const GuestCpu& Host::guest_cpu() const {
  std::call_once(asked_, [this] { guest_cpu_ = find_guest_cpu(); });
  return guest_cpu_;
}

Result<std::string> Host::domain_capabilities(const GuestKind& kind) const {
  return domain_capabilities_text(kind, emulator_, guest_cpu());
}

Result<std::string> Host::hostname() const {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) < 0) return atl::Error(os_error("gethostname"));
  if (std::string_view(name).contains('.') || std::string_view(name).starts_with("localhost")) return std::string(name);
  addrinfo hints{};
  hints.ai_flags = AI_CANONNAME;
  addrinfo* list = nullptr;
  if (::getaddrinfo(name, nullptr, &hints, &list) != 0) return std::string(name);
  AddressList owned(list);
  if (!list->ai_canonname || std::string_view(list->ai_canonname).starts_with("localhost")) return std::string(name);
  return std::string(list->ai_canonname);
}

}  // namespace atl::manage::host
