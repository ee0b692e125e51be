#include "manage/uuid.h"

#include <sys/random.h>

#include <fmt/format.h>

#include "base/check.h"
#include "base/strings.h"

namespace atl::manage {

std::optional<Uuid> parse_uuid(std::string_view text) {
  Uuid uuid{};
  size_t bytes = 0;
  while (!text.empty()) {
    if (bytes > 0 && text.front() == '-') text.remove_prefix(1);
    if (bytes == uuid.size() || text.size() < 2) return {};
    auto value = parse_hex(text.substr(0, 2));
    if (!value) return {};
    uuid[bytes++] = static_cast<u8>(*value);
    text.remove_prefix(2);
  }
  if (bytes != uuid.size()) return {};
  return uuid;
}

std::string format_uuid(const Uuid& uuid) {
  std::string text;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

Uuid random_uuid() {
  Uuid uuid;
  // 16 bytes come whole once the kernel's generator is up.
  CHECK(::getrandom(uuid.data(), uuid.size(), 0) == static_cast<ssize_t>(uuid.size()));
  uuid[6] = static_cast<u8>((uuid[6] & 0x0f) | 0x40);
  uuid[8] = static_cast<u8>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

}  // namespace atl::manage
