// fw_cfg's table loader script (QEMU docs/specs/fw_cfg; hw/acpi/bios-linker-loader describes the format): 128-byte
// commands that make firmware allocate the blobs, patch pointers and compute checksums.
#include "base/endian.h"
#include "machine/acpi/tables.h"

namespace atl::machine {
namespace {

constexpr std::string_view kTables = "etc/acpi/tables", kRsdp = "etc/acpi/rsdp";
enum Command : u32 { kAllocate = 1, kAddPointer = 2, kAddChecksum = 3 };
enum Zone : u8 { kHigh = 1, kFSegment = 2 };
constexpr size_t kEntryBytes = 128, kNameBytes = 56;

class Script {
 public:
  void allocate(std::string_view file, u32 alignment, Zone zone) {
    u8* e = entry(kAllocate);
    put_name(e + 4, file);
    store_le(e + 60, alignment);
    e[64] = zone;
  }
  /// Adds the address of `target` to the `bytes` wide value at `offset` of `file`.
  void add_pointer(std::string_view file, std::string_view target, u32 offset, u8 bytes) {
    u8* e = entry(kAddPointer);
    put_name(e + 4, file);
    put_name(e + 60, target);
    store_le(e + 116, offset);
    e[120] = bytes;
  }
  void add_checksum(std::string_view file, u32 offset, u32 start, u32 length) {
    u8* e = entry(kAddChecksum);
    put_name(e + 4, file);
    store_le(e + 60, offset);
    store_le(e + 64, start);
    store_le(e + 68, length);
  }
  std::vector<u8> take() { return std::move(out_); }

 private:
  u8* entry(Command command) {
    out_.resize(out_.size() + kEntryBytes);
    u8* e = &out_[out_.size() - kEntryBytes];
    store_le(e, static_cast<u32>(command));
    return e;
  }
  static void put_name(u8* at, std::string_view name) { std::memcpy(at, name.data(), std::min(name.size(), kNameBytes - 1)); }

  std::vector<u8> out_;
};

}  // namespace

std::vector<u8> table_loader_script(const AcpiBlob& blob) {
  Script script;
  script.allocate(kRsdp, 16, kFSegment);
  script.allocate(kTables, 64, kHigh);
  for (const auto& p : blob.pointers) script.add_pointer(kTables, kTables, p.offset, p.bytes);
  for (const auto& c : blob.checksums) script.add_checksum(kTables, c.offset, c.start, c.length);
  script.add_pointer(kRsdp, kTables, 16, 4);
  script.add_pointer(kRsdp, kTables, 24, 8);
  script.add_checksum(kRsdp, 8, 0, 20);
  script.add_checksum(kRsdp, 32, 0, 36);
  return script.take();
}

}  // namespace atl::machine
