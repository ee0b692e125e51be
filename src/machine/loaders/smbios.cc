#include "machine/loaders/smbios.h"

#include <algorithm>
#include <numeric>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/strings.h"
#include "machine/loaders/boot_file.h"

namespace atl::machine {
namespace {

enum Type : u8 { kFirmware = 0, kSystem = 1, kBoard = 2, kChassis = 3, kProcessor = 4, kStrings = 11, kMemoryArray = 16, kMemoryDevice = 17,
                 kMemoryMap = 19, kBootInfo = 32, kEnd = 127 };
constexpr size_t kAnchorBytes = 31;
constexpr size_t kIntermediate = 16;    // where the anchor's second part begins
constexpr std::string_view kVendor = "QEMU";

u8 checksum(std::span<const u8> data) { return static_cast<u8>(-std::accumulate(data.begin(), data.end(), 0)); }

class Tables {
 public:
  /// A structure: `formatted` is what follows its 4-byte header; strings are numbered from 1.
  void add(Type type, std::vector<u8> formatted, const std::vector<std::string>& strings, u16 number = 0) {
    const size_t start = out_.size();
    const u16 handle = handle_of(type, number);
    out_.insert(out_.end(), {type, static_cast<u8>(4 + formatted.size()), static_cast<u8>(handle), static_cast<u8>(handle >> 8)});
    out_.insert(out_.end(), formatted.begin(), formatted.end());
    for (const std::string& s : strings) {
      out_.insert(out_.end(), s.begin(), s.end());
      out_.push_back(0);
    }
    if (strings.empty()) out_.push_back(0);
    out_.push_back(0);
    longest_ = std::max(longest_, out_.size() - start);
    ++count_;
  }
  /// Structures as a file holds them.
  void add_raw(std::span<const u8> structure) {
    out_.insert(out_.end(), structure.begin(), structure.end());
    longest_ = std::max(longest_, structure.size());
    ++count_;
  }
  static u16 handle_of(Type type, u16 number) { return static_cast<u16>((type << 8) + number); }
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

/// The formatted part of a structure, and its strings as they are referred to.
class Structure {
 public:
  Structure(const SmbiosSystem& system, Type type) : system_(system), type_(type) {}

  /// The user's value of a field, given last, or the default.
  std::string value(std::string_view field, std::string fallback = {}) const {
    for (const SmbiosConfig& entry : system_.entries) {
      if (!entry.file.empty() || entry.type != type_) continue;
      for (const auto& [name, text] : entry.fields) {
        if (name == field) fallback = text;
      }
    }
    return fallback;
  }
  /// A string's number; 0 for none.
  Structure& string(const std::string& text) {
    if (text.empty()) return byte(0);
    strings_.push_back(text);
    return byte(static_cast<u8>(strings_.size()));
  }
  Structure& field(std::string_view name, std::string fallback = {}) { return string(value(name, std::move(fallback))); }
  Structure& byte(u8 v) {
    body_.push_back(v);
    return *this;
  }
  Structure& word(u16 v) { return byte(static_cast<u8>(v)).byte(static_cast<u8>(v >> 8)); }
  Structure& dword(u32 v) { return word(static_cast<u16>(v)).word(static_cast<u16>(v >> 16)); }
  Structure& qword(u64 v) { return dword(static_cast<u32>(v)).dword(static_cast<u32>(v >> 32)); }
  Structure& bytes(std::span<const u8> v) {
    body_.insert(body_.end(), v.begin(), v.end());
    return *this;
  }
  void put(Tables& tables, u16 number = 0) { tables.add(type_, std::move(body_), strings_, number); }
  bool was_given() const {
    return std::ranges::any_of(system_.entries, [&](const SmbiosConfig& e) { return e.file.empty() && e.type == type_; });
  }

 private:
  const SmbiosSystem& system_;
  const Type type_;
  std::vector<u8> body_;
  std::vector<std::string> strings_;
};

constexpr u16 kNoError = 0xfffe, kNoHandle = 0xffff;  // memory error information not provided
constexpr u64 kDeviceBytes = 16 * kGiB;               // of a memory module

/// "4.2" into two bytes.
std::pair<u8, u8> release_of(const std::string& text) {
  const size_t dot = text.find('.');
  const auto major = parse_u64(text.substr(0, dot));
  const auto minor = dot == std::string::npos ? std::optional<u64>() : parse_u64(text.substr(dot + 1));
  return {static_cast<u8>(major.value_or(0)), static_cast<u8>(minor.value_or(0))};
}

/// 7.1. A virtual machine: characteristics extension byte 2, bit 4; bit 3: UEFI.
void add_firmware(Tables& tables, const SmbiosSystem& system) {
  Structure s(system, kFirmware);
  const auto [major, minor] = release_of(s.value("release", "0.0"));
  const bool uefi = s.value("uefi") == "on";
  s.field("vendor", std::string(kVendor)).field("version", "Atoll").word(0xe800).field("date", "01/01/2026").byte(0);
  s.qword(8).byte(0).byte(static_cast<u8>(0x10 | (uefi ? 0x08 : 0))).byte(major).byte(minor).byte(0xff).byte(0xff);
  s.put(tables);
}

/// 7.2. The first three groups of the UUID are little-endian since SMBIOS 2.6.
void add_system(Tables& tables, const SmbiosSystem& system) {
  Structure s(system, kSystem);
  std::array<u8, 16> uuid = parse_uuid(system.uuid).value_or(std::array<u8, 16>{});
  std::reverse(uuid.begin(), uuid.begin() + 4);
  std::reverse(uuid.begin() + 4, uuid.begin() + 6);
  std::reverse(uuid.begin() + 6, uuid.begin() + 8);
  s.field("manufacturer", std::string(kVendor)).field("product", system.product).field("version", system.version).field("serial");
  s.bytes(uuid).byte(6).field("sku").field("family");  // woken by the power switch
  s.put(tables);
}

/// 7.3: only if the user describes it.
void add_board(Tables& tables, const SmbiosSystem& system) {
  Structure s(system, kBoard);
  if (!s.was_given()) return;
  s.field("manufacturer", std::string(kVendor)).field("product", system.product).field("version", system.version).field("serial").field("asset");
  s.byte(1).field("location").word(Tables::handle_of(kChassis, 0)).byte(0x0a).byte(0);  // a motherboard
  s.put(tables);
}

/// 7.4: type "other", states safe, security unknown.
void add_chassis(Tables& tables, const SmbiosSystem& system) {
  Structure s(system, kChassis);
  s.field("manufacturer", std::string(kVendor)).byte(1).field("version", system.version).field("serial").field("asset");
  s.byte(3).byte(3).byte(3).byte(2).dword(0).byte(0).byte(0).byte(0).byte(0).field("sku");
  s.put(tables);
}

/// 7.5
void add_processor(Tables& tables, const SmbiosSystem& system, u32 index) {
  Structure s(system, kProcessor);
  const auto count = [](u32 n) { return static_cast<u8>(std::min(n, u32{0xff})); };
  s.string(s.value("sock_pfx", "CPU") + fmt::format(" {}", index)).byte(3).byte(1).field("manufacturer", std::string(kVendor));
  s.qword(0).field("version", system.version).byte(0).word(0).word(2000).word(2000).byte(0x41).byte(1);  // present and enabled
  s.word(kNoHandle).word(kNoHandle).word(kNoHandle).field("serial").field("asset").field("part");
  s.byte(count(system.cores)).byte(count(system.cores)).byte(count(system.cores * system.threads)).word(2).word(1);
  s.put(tables, static_cast<u16>(index));
}

/// 7.12: each value of -smbios type=11 is a string.
void add_strings(Tables& tables, const SmbiosSystem& system) {
  std::vector<std::string> strings;
  for (const SmbiosConfig& entry : system.entries) {
    if (!entry.file.empty() || entry.type != kStrings) continue;
    for (const auto& [name, text] : entry.fields) strings.push_back(text);
  }
  if (!strings.empty()) tables.add(kStrings, {static_cast<u8>(strings.size())}, strings);
}

/// 7.17, 7.18, 7.20: one array of modules, and where it is seen.
void add_memory(Tables& tables, const SmbiosSystem& system) {
  if (system.ram_bytes == 0) return;
  const auto modules = static_cast<u16>((system.ram_bytes + kDeviceBytes - 1) / kDeviceBytes);
  Structure array(system, kMemoryArray);
  const u64 kib = system.ram_bytes / kKiB;
  const bool large = kib >= 0x80000000;
  array.byte(1).byte(3).byte(6).dword(large ? 0x80000000 : static_cast<u32>(kib)).word(kNoError).word(modules).qword(large ? system.ram_bytes : 0);
  array.put(tables);
  for (u16 i = 0; i < modules; ++i) {
    Structure s(system, kMemoryDevice);
    const u64 mib = std::min(kDeviceBytes, system.ram_bytes - i * kDeviceBytes) / kMiB;
    s.word(Tables::handle_of(kMemoryArray, 0)).word(kNoError).word(kNoHandle).word(kNoHandle);
    s.word(static_cast<u16>(mib)).byte(9).byte(0).string(s.value("loc_pfx", "DIMM") + fmt::format(" {}", i)).field("bank");
    s.byte(7).word(2).word(0).field("manufacturer", std::string(kVendor)).field("serial").field("asset").field("part");
    s.byte(0).dword(0).word(0).word(0).word(0).word(0);
    s.put(tables, i);
  }
  Structure map(system, kMemoryMap);
  const u64 last_kib = kib - 1;
  const bool far = last_kib >= 0xffffffff;
  map.dword(far ? 0xffffffff : 0).dword(far ? 0xffffffff : static_cast<u32>(last_kib)).word(Tables::handle_of(kMemoryArray, 0)).byte(1);
  map.qword(0).qword(far ? system.ram_bytes - 1 : 0);
  map.put(tables);
}

/// A file of whole structures: each ends with two zero bytes after its strings.
Status add_file(Tables& tables, const std::string& path) {
  const BootFile file = TRY(BootFile::open("SMBIOS table", path));
  if (file.size() > 0xffff) return file.error("is larger than 64 KiB");
  const std::vector<u8> data = TRY(file.bytes(0, file.size()));
  for (size_t at = 0; at < data.size();) {
    if (data.size() - at < 6 || data[at + 1] < 4) return file.error(fmt::format("no SMBIOS structure at offset {}", at));
    size_t end = at + data[at + 1];
    while (end + 1 < data.size() && (data[end] || data[end + 1])) ++end;
    if (end + 1 >= data.size()) return file.error(fmt::format("the structure at offset {} has no end", at));
    tables.add_raw(std::span(data).subspan(at, end + 2 - at));
    at = end + 2;
  }
  return {};
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

Result<SmbiosBlob> build_smbios(const SmbiosSystem& system) {
  Tables tables;
  add_firmware(tables, system);
  add_system(tables, system);
  add_board(tables, system);
  add_chassis(tables, system);
  for (u32 i = 0; i < system.sockets; ++i) add_processor(tables, system, i);
  add_strings(tables, system);
  add_memory(tables, system);
  tables.add(kBootInfo, std::vector<u8>(7), {});  // no errors
  for (const SmbiosConfig& entry : system.entries) {
    if (!entry.file.empty()) TRY(add_file(tables, entry.file));
  }
  tables.add(kEnd, {}, {});
  SmbiosBlob blob;
  blob.tables = tables.take();
  if (blob.tables.size() > 0xffff) return Error(ErrorKind::NoSpace, "SMBIOS tables: larger than 64 KiB");
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
