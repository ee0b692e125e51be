#include "devices/legacy/vm_generation.h"

#include <sys/random.h>

#include <fmt/core.h>

#include "base/strings.h"

namespace atl::devices {

Result<VmGeneration::Guid> VmGeneration::parse(std::string_view text) {
  Guid guid{};
  if (text == "auto") {
    if (::getrandom(guid.data(), guid.size(), 0) != static_cast<ssize_t>(guid.size())) return os_error("getrandom");
    guid[6] = static_cast<u8>((guid[6] & 0x0f) | 0x40);  // RFC 4122, 4.4
    guid[8] = static_cast<u8>((guid[8] & 0x3f) | 0x80);
    return guid;
  }
  const Error wrong(ErrorKind::Invalid, fmt::format("'{}' is no UUID", text));
  if (text.size() != 36) return wrong;
  size_t at = 0;
  for (u8& byte : guid) {
    if (at == 8 || at == 13 || at == 18 || at == 23) {
      if (text[at++] != '-') return wrong;
    }
    const auto value = parse_hex(text.substr(at, 2));
    if (!value) return wrong;
    byte = static_cast<u8>(*value);
    at += 2;
  }
  return guid;
}

std::string VmGeneration::text() const {
  std::string out;
  for (size_t i = 0; i < guid_.size(); ++i) out += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", guid_[i]);
  return out;
}

/// In memory the first three fields of a GUID are little-endian numbers.
Result<memory::Region> VmGeneration::memory_region() {
  auto page = TRY(memory::RamBlock::create("vmgenid", kPageSize, {}));
  constexpr std::array<u8, 16> kOrder = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  for (size_t i = 0; i < guid_.size(); ++i) page->data()[i] = guid_[kOrder[i]];
  memory::Region region;
  region.name = "vmgenid";
  region.base = kBase;
  region.size = kPageSize;
  region.ram = std::move(page);
  region.readonly = true;
  return region;
}

}  // namespace atl::devices
