#include "machine/acpi/tables.h"

#include <array>
#include <numeric>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"
#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/hpet.h"
#include "machine/acpi/spec.h"

namespace atl::machine {
namespace {

using devices::AcpiPm;

/// Appends tables to a blob and notes their references.
class Builder {
 public:
  explicit Builder(AcpiBlob& blob) : blob_(blob) {}

  /// Starts a table with its 36-byte header (5.2.6); end() fills in length and checksum.
  void begin(std::string_view signature, u8 revision) {
    align(16);
    start_ = size();
    text(signature, 4);
    u32_(0);
    u8_(revision);
    u8_(0);
    text("ATOLL ", 6);
    text("ATOLLVM ", 8);
    u32_(1);
    text("ATOL", 4);
    u32_(1);
  }
  u32 end() {
    const u32 length = size() - start_;
    store_le(&blob_.tables[start_ + 4], length);
    blob_.checksums.push_back({start_ + 9, start_, length});
    return start_;
  }

  void align(u32 to) { blob_.tables.resize(align_up(size(), to)); }
  u32 size() const { return static_cast<u32>(blob_.tables.size()); }
  void u8_(u8 v) { blob_.tables.push_back(v); }
  void u16_(u16 v) { number(v); }
  void u32_(u32 v) { number(v); }
  void u64_(u64 v) { number(v); }
  void zeroes(u32 count) { blob_.tables.resize(size() + count); }
  void bytes(std::span<const u8> data) { blob_.tables.insert(blob_.tables.end(), data.begin(), data.end()); }
  void text(std::string_view s, u32 width) {
    CHECK(s.size() <= width);
    bytes({reinterpret_cast<const u8*>(s.data()), s.size()});
    zeroes(width - static_cast<u32>(s.size()));
  }
  /// Holds the offset of the target until the blob has an address: fw_cfg's table loader adds to what is there.
  void pointer(u8 width, u32 target) {
    blob_.pointers.push_back({size(), width, target});
    u32_(target);
    zeroes(width - 4u);
  }
  /// Generic address structure (5.2.3.2) of an I/O port; all zero for port 0.
  void port(u16 number_of_port, u8 bits) {
    u8_(number_of_port ? 1 : 0);
    u8_(number_of_port ? bits : u8{0});
    u16_(0);
    u64_(number_of_port);
  }

 private:
  template <class T>
  void number(T v) {
    u8 raw[sizeof v];
    store_le(raw, v);
    bytes(raw);
  }

  AcpiBlob& blob_;
  u32 start_ = 0;
};

/// Firmware ACPI control structure (5.2.10): no header like the others', no checksum.
u32 add_facs(Builder& b) {
  b.align(64);
  const u32 at = b.size();
  b.text("FACS", 4);
  b.u32_(64);
  b.zeroes(24);
  b.u8_(1);
  b.zeroes(31);
  return at;
}

u32 add_dsdt(Builder& b, const aml::Code& terms) {
  b.begin("DSDT", 2);
  b.bytes(terms);
  return b.end();
}

enum FadtFlags : u32 { kWbinvd = 1 << 0, kProcC1 = 1 << 2, kNoSleepButton = 1 << 5, kResetRegister = 1 << 10 };
enum BootFlags : u16 { kLegacyDevices = 1 << 0, kNoVga = 1 << 2 };

/// Fixed ACPI description table (5.2.9), as of ACPI 3.0: 244 bytes.
u32 add_fadt(Builder& b, const AcpiBoard& board, u32 facs, u32 dsdt) {
  b.begin("FACP", 4);
  b.pointer(4, facs);
  b.pointer(4, dsdt);
  b.u8_(0);
  b.u8_(0);                                   // preferred profile: unspecified
  b.u16_(acpi::kSci);
  b.u32_(board.handover ? acpi::kSmiCommandPort : 0);
  b.u8_(board.handover ? AcpiPm::kSmiAcpiEnable : u8{0});
  b.u8_(board.handover ? AcpiPm::kSmiAcpiDisable : u8{0});
  b.zeroes(2);                                // S4BIOS_REQ, PSTATE_CNT
  b.u32_(board.pm_base);
  b.u32_(0);
  b.u32_(static_cast<u16>(board.pm_base + acpi::kPm1ControlOffset));
  b.u32_(0);
  b.u32_(0);                                  // PM2
  b.u32_(static_cast<u16>(board.pm_base + acpi::kPmTimerOffset));
  b.u32_(board.gpe_port);
  b.u32_(0);                                  // GPE1
  b.bytes(std::array<u8, 8>{4, 2, 0, 4, board.gpe_bytes, 0, 0, 0});  // block lengths, GPE1 base, CST_CNT
  b.u16_(0xfff);                              // C2 and C3 are not supported
  b.u16_(0xfff);
  b.zeroes(4);                                // flush size and stride
  b.zeroes(4);                                // duty cycle, day and month alarms
  b.u8_(acpi::kCmosCentury);
  b.u16_(static_cast<u16>((board.has_pic ? kLegacyDevices : 0) | kNoVga));
  b.u8_(0);
  b.u32_(kWbinvd | kProcC1 | kNoSleepButton | kResetRegister);
  b.port(acpi::kResetPort, 8);
  b.u8_(acpi::kResetValue);
  b.zeroes(3);
  b.u64_(0);                                  // X_FIRMWARE_CTRL: the 32-bit field counts
  b.pointer(8, dsdt);
  b.port(board.pm_base, 32);
  b.port(0, 0);
  b.port(static_cast<u16>(board.pm_base + acpi::kPm1ControlOffset), 16);
  b.port(0, 0);
  b.port(0, 0);
  b.port(static_cast<u16>(board.pm_base + acpi::kPmTimerOffset), 32);
  b.port(board.gpe_port, static_cast<u8>(board.gpe_bytes * 8));
  b.port(0, 0);
  return b.end();
}

void add_override(Builder& b, u8 isa_irq, u32 gsi, u16 flags) {
  b.u8_(2);
  b.u8_(10);
  b.u8_(0);
  b.u8_(isa_irq);
  b.u32_(gsi);
  b.u16_(flags);
}

/// Multiple APIC description table (5.2.12).
u32 add_madt(Builder& b, const AcpiBoard& board) {
  constexpr u16 kLevelHigh = 0xd;
  b.begin("APIC", 3);
  b.u32_(acpi::kLocalApic);
  b.u32_(board.has_pic ? 1 : 0);              // PCAT_COMPAT
  for (u32 i = 0; i < board.cpus; ++i) {
    b.u8_(0);
    b.u8_(8);
    b.u8_(static_cast<u8>(i));
    b.u8_(static_cast<u8>(i));
    b.u32_(1);
  }
  b.u8_(1);
  b.u8_(12);
  b.u8_(0);                                   // I/O APIC id
  b.u8_(0);
  b.u32_(acpi::kIoApic);
  b.u32_(0);
  if (board.has_pic) add_override(b, 0, 2, 0);
  add_override(b, acpi::kSci, acpi::kSci, kLevelHigh);
  for (u8 link : acpi::kPciLinkIrqs) {
    if (board.has_pic) add_override(b, link, link, kLevelHigh);
  }
  b.bytes(std::array<u8, 6>{4, 6, 0xff, 0, 0, 1});  // NMI at LINT1 of all processors
  return b.end();
}

/// Memory mapped configuration space (PCI Firmware Specification 3.0, 4.1.2): one segment from bus 0 on.
u32 add_mcfg(Builder& b, const AcpiBoard& board) {
  b.begin("MCFG", 1);
  b.zeroes(8);
  b.u64_(board.ecam_base);
  b.u16_(0);
  b.u8_(0);
  b.u8_(static_cast<u8>((board.ecam_size >> 20) - 1));
  b.zeroes(4);
  return b.end();
}

/// High precision event timer (IA-PC HPET Specification 1.0a, 3.2.4).
u32 add_hpet(Builder& b) {
  b.begin("HPET", 1);
  b.u32_(devices::Hpet::kBlockId);
  b.zeroes(4);                                // address space 0: memory
  b.u64_(devices::Hpet::kBase);
  b.u8_(0);                                   // number
  b.u16_(0);                                  // shortest period in ticks: not told
  b.u8_(0);                                   // page protection: none
  return b.end();
}

u32 add_root(Builder& b, std::string_view signature, u8 width, std::span<const u32> tables) {
  b.begin(signature, 1);
  for (u32 table : tables) b.pointer(width, table);
  return b.end();
}

/// Root system description pointer, revision 2 (5.2.5.3).
std::vector<u8> make_rsdp(u32 rsdt, u32 xsdt) {
  std::vector<u8> rsdp(36);
  std::memcpy(&rsdp[0], "RSD PTR ", 8);
  std::memcpy(&rsdp[9], "ATOLL ", 6);
  rsdp[15] = 2;
  store_le(&rsdp[16], rsdt);
  store_le<u32>(&rsdp[20], 36);
  store_le<u64>(&rsdp[24], xsdt);
  return rsdp;
}

u8 checksum(std::span<const u8> data) {
  return static_cast<u8>(-std::accumulate(data.begin(), data.end(), 0));
}

}  // namespace

AcpiBlob build_acpi(const AcpiBoard& board) {
  AcpiBlob blob;
  Builder b(blob);
  const u32 facs = add_facs(b);
  const u32 dsdt = add_dsdt(b, board.dsdt);
  std::vector<u32> tables = {add_fadt(b, board, facs, dsdt), add_madt(b, board)};
  if (board.ecam_size) tables.push_back(add_mcfg(b, board));
  if (board.has_hpet) tables.push_back(add_hpet(b));
  for (const auto& table : board.more) {
    b.align(16);
    tables.push_back(b.size());
    b.bytes(table);
  }
  blob.rsdt = add_root(b, "RSDT", 4, tables);
  blob.xsdt = add_root(b, "XSDT", 8, tables);
  blob.rsdp = make_rsdp(blob.rsdt, blob.xsdt);
  return blob;
}

Result<GuestAddr> install_acpi(const AcpiBlob& blob, const memory::GuestMemory& memory, GuestAddr base, u64 limit) {
  const GuestAddr tables_at = base + 64;
  if (64 + blob.tables.size() > limit) {
    return Error(ErrorKind::NoSpace, fmt::format("ACPI tables: {} bytes, {} are free", blob.tables.size(), limit));
  }
  std::vector<u8> tables = blob.tables, rsdp = blob.rsdp;
  for (const auto& p : blob.pointers) store_le_n(&tables[p.offset], tables_at + p.target, p.bytes);
  for (const auto& c : blob.checksums) tables[c.offset] = checksum(std::span(tables).subspan(c.start, c.length));
  store_le(&rsdp[16], static_cast<u32>(tables_at + blob.rsdt));
  store_le(&rsdp[24], tables_at + blob.xsdt);
  rsdp[8] = checksum(std::span(rsdp).first(20));
  rsdp[32] = checksum(rsdp);
  TRY(memory.load(base, rsdp));
  TRY(memory.load(tables_at, tables));
  return base;
}

}  // namespace atl::machine
