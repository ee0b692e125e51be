#include "machine/loaders/smbios.h"

#include <algorithm>
#include <numeric>

#include "base/endian.h"
#include "base/strings.h"

namespace atl::machine {
namespace {

enum Type : u8 { kFirmware = 0, kSystem = 1, kChassis = 3, kEnd = 127 };
constexpr u64 kUuidOffset = 8;          // in the system structure
constexpr size_t kAnchorBytes = 31;
constexpr size_t kIntermediate = 16;    // where the anchor's second part begins
constexpr std::string_view kVendor = "QEMU";

u8 checksum(std::span<const u8> data) { return static_cast<u8>(-std::accumulate(data.begin(), data.end(), 0)); }

class Tables {
 public:
  /// A structure: `formatted` is what follows its 4-byte header; strings are numbered from 1.
  void add(Type type, std::vector<u8> formatted, std::initializer_list<std::string_view> strings) {
    const size_t start = out_.size();
    const u16 handle = static_cast<u16>(type << 8);
    out_.insert(out_.end(), {type, static_cast<u8>(4 + formatted.size()), static_cast<u8>(handle), static_cast<u8>(handle >> 8)});
    out_.insert(out_.end(), formatted.begin(), formatted.end());
    for (std::string_view s : strings) {
      out_.insert(out_.end(), s.begin(), s.end());
      out_.push_back(0);
    }
    if (strings.size() == 0) out_.push_back(0);
    out_.push_back(0);
    longest_ = std::max(longest_, out_.size() - start);
    ++count_;
  }
  std::vector<u8> take() { return std::move(out_); }
  u16 longest() const { return static_cast<u16>(longest_); }
  u16 count() const { return count_; }

 private:
  std::vector<u8> out_;
  size_t longest_ = 0;
  u16 count_ = 0;
};

std::vector<u8> make_anchor(const Tables& tables, size_t bytes) {
  std::vector<u8> a(kAnchorBytes);
  std::memcpy(&a[0], "_SM_", 4);
  a[5] = kAnchorBytes;
  a[6] = 2;
  a[7] = 8;
  store_le(&a[8], tables.longest());
  std::memcpy(&a[16], "_DMI_", 5);
  store_le(&a[22], static_cast<u16>(bytes));
  store_le(&a[28], tables.count());
  a[30] = 0x28;
  return a;
}

void sign(std::vector<u8>& anchor) {
  anchor[4] = anchor[kIntermediate + 5] = 0;
  anchor[kIntermediate + 5] = checksum(std::span(anchor).subspan(kIntermediate));
  anchor[4] = checksum(anchor);
}

}  // namespace

std::optional<std::array<u8, 16>> parse_uuid(std::string_view text) {
  static constexpr size_t kGroups[] = {8, 4, 4, 4, 12};
  const auto parts = split(text, '-');
  if (parts.size() != std::size(kGroups)) return std::nullopt;
  std::array<u8, 16> out{};
  size_t at = 0;
  for (size_t g = 0; g < parts.size(); ++g) {
    if (parts[g].size() != kGroups[g]) return std::nullopt;
    for (size_t i = 0; i < parts[g].size(); i += 2) {
      const auto byte = parse_hex(parts[g].substr(i, 2));
      if (!byte) return std::nullopt;
      out[at++] = static_cast<u8>(*byte);
    }
  }
  return out;
}

SmbiosBlob build_smbios(const SmbiosSystem& system) {
  Tables tables;
  // Vendor, version, segment, date, size, characteristics: a virtual machine (extension byte 2, bit 4).
  tables.add(kFirmware, {1, 2, 0, 0xe8, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0xff, 0xff}, {kVendor, "Atoll", "01/01/2026"});
  std::vector<u8> body(23);
  body[0] = 1;  // manufacturer, product, version; no serial number
  body[1] = 2;
  body[2] = 3;
  std::array<u8, 16> uuid = parse_uuid(system.uuid).value_or(std::array<u8, 16>{});
  // The first three groups are little-endian since SMBIOS 2.6.
  std::reverse(uuid.begin(), uuid.begin() + 4);
  std::reverse(uuid.begin() + 4, uuid.begin() + 6);
  std::reverse(uuid.begin() + 6, uuid.begin() + 8);
  std::ranges::copy(uuid, body.begin() + kUuidOffset - 4);
  body[20] = 6;  // wake-up by the power switch
  tables.add(kSystem, std::move(body), {kVendor, system.product, system.version});
  // Manufacturer, type "other", version; states safe and unknown.
  tables.add(kChassis, {1, 1, 2, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {kVendor, system.version});
  tables.add(kEnd, {}, {});
  SmbiosBlob blob;
  blob.tables = tables.take();
  blob.anchor = make_anchor(tables, blob.tables.size());
  sign(blob.anchor);
  return blob;
}

Status install_smbios(const SmbiosBlob& blob, const memory::GuestMemory& memory, GuestAddr base) {
  const GuestAddr tables = base + 32;
  std::vector<u8> anchor = blob.anchor;
  store_le(&anchor[24], static_cast<u32>(tables));
  sign(anchor);
  TRY(memory.load(base, anchor));
  return memory.load(tables, blob.tables);
}

}  // namespace atl::machine
