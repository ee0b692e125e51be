#include "machine/monitor_text.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/core.h>

#include "base/endian.h"
#include "cpu/spec.h"

namespace atl::machine {
namespace {

using namespace cpu;

std::string segment_line(std::string_view name, const Segment& s) {
  const u32 flags = u32{s.attributes & 0xffu} << 8 | u32{s.attributes & 0xf000u} << 8;
  return fmt::format("{:3}={:04x} {:016x} {:08x} {:08x}\n", name, s.selector, s.base, s.limit, flags);
}

std::string flag_letters(u64 rflags) {
  static constexpr std::pair<u64, char> kFlags[] = {{kDF, 'D'}, {kOF, 'O'}, {kSF, 'S'}, {kZF, 'Z'}, {kAF, 'A'}, {kPF, 'P'}, {kCF, 'C'}};
  std::string out;
  for (auto [bit, letter] : kFlags) out += rflags & bit ? letter : '-';
  return out;
}

std::string general_registers(const VcpuState& s) {
  static constexpr std::pair<const char*, unsigned> kOrder[] = {
      {"RAX", kRax}, {"RBX", kRbx}, {"RCX", kRcx}, {"RDX", kRdx}, {"RSI", kRsi}, {"RDI", kRdi}, {"RBP", kRbp}, {"RSP", kRsp},
      {"R8 ", kR8}, {"R9 ", kR9}, {"R10", kR10}, {"R11", kR11}, {"R12", kR12}, {"R13", kR13}, {"R14", kR14}, {"R15", kR15}};
  std::string out;
  unsigned column = 0;
  for (auto [name, index] : kOrder) out += fmt::format("{}={:016x}{}", name, s.gpr[index], ++column % 4 ? ' ' : '\n');
  return out;
}

/// The paging structures of every mode share this shape: levels of tables with `bits` index bits each (SDM vol. 3, ch. 4).
struct PagingMode {
  unsigned levels = 0;
  unsigned index_bits = 9;
  unsigned top_bits = 9;
  unsigned entry_bytes = 8;
};

PagingMode paging_mode(const VcpuState& s) {
  if (s.efer & kEferLMA) return {4, 9, 9, 8};
  if (s.cr4 & kCr4PAE) return {3, 9, 2, 8};
  return {2, 10, 10, 4};
}

/// Walks page tables in address order and joins neighbours with equal rights.
class TableWalk {
 public:
  /// `each`: a line for every page, with its translation.
  TableWalk(const VcpuState& state, const memory::GuestMemory& memory, bool each = false)
      : state_(state), memory_(memory), mode_(paging_mode(state)), each_(each) {}

  std::string run() {
    const GuestAddr root = state_.cr3 & (mode_.levels == 3 ? 0xffffffe0 : 0xffffffffff000);
    table(root, mode_.levels, 0, kUser | kWritable);
    flush(0);
    if (entries_ >= kMaxEntries) out_ += "(cut: too many entries)\n";
    return std::move(out_);
  }

 private:
  static constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80;
  // Tables that point at themselves must not keep the monitor busy.
  static constexpr size_t kMaxEntries = 4 << 20, kMaxLines = 128 << 10;

  void table(GuestAddr at, unsigned level, u64 base, u64 rights) {
    const unsigned bits = level == mode_.levels ? mode_.top_bits : mode_.index_bits;
    const unsigned shift = 12 + mode_.index_bits * (level - 1);
    for (u64 i = 0; i < u64{1} << bits && entries_ < kMaxEntries; ++i, ++entries_) {
      u64 address = base | i << shift;
      if (mode_.levels == 4 && address >> 47 & 1) address |= 0xffff000000000000;
      entry(at + i * mode_.entry_bytes, level, address, rights, u64{1} << shift);
    }
  }

  void entry(GuestAddr at, unsigned level, u64 address, u64 rights, u64 size) {
    std::array<u8, 8> raw{};
    const bool readable = memory_.read(at, std::span(raw).first(mode_.entry_bytes));
    const u64 value = readable ? load_le<u64>(raw.data()) : 0;
    if (!(value & kPresent)) return each_ ? void() : range(address, size, 0);
    const bool pae_top = mode_.levels == 3 && level == 3;  // PDPTEs have no rights
    if (!pae_top) rights &= value;
    const bool leaf = level == 1 || (value & kLarge && level < 4 && !pae_top);
    if (leaf && each_) return page(address, size, value);
    if (leaf) return range(address, size, (rights & (kWritable | kUser)) | kPresent);
    table(value & 0xffffffffff000, level - 1, address, rights);
  }

  /// One leaf entry: where it leads to, and its flags.
  void page(u64 address, u64 size, u64 value) {
    static constexpr std::pair<unsigned, char> kFlags[] = {{63, 'X'}, {8, 'G'}, {7, 'P'}, {6, 'D'}, {5, 'A'}, {4, 'C'}, {3, 'T'}, {2, 'U'}, {1, 'W'}};
    if (++lines_ > kMaxLines) {
      entries_ = kMaxEntries;
      return;
    }
    out_ += fmt::format("{:016x}: {:016x} ", address, value & 0xffffffffff000 & ~(size - 1));
    for (auto [bit, letter] : kFlags) out_ += value >> bit & 1 ? letter : '-';
    out_ += '\n';
  }

  void range(u64 address, u64 size, u64 rights) {
    if (rights == rights_ && address == start_ + size_) {
      size_ += size;
      return;
    }
    flush(rights);
    start_ = address;
    size_ = size;
  }

  void flush(u64 next_rights) {
    if (rights_ & kPresent) {
      out_ += fmt::format("{:016x}-{:016x} {:016x} {}r{}\n", start_, start_ + size_, size_, rights_ & kUser ? 'u' : '-',
                          rights_ & kWritable ? 'w' : '-');
    }
    rights_ = next_rights;
    size_ = 0;
  }

  const VcpuState& state_;
  const memory::GuestMemory& memory_;
  const PagingMode mode_;
  const bool each_;
  std::string out_;
  size_t entries_ = 0, lines_ = 0;
  u64 start_ = 0, size_ = 0, rights_ = 0;
};

}  // namespace

std::string registers_text(u32 index, const VcpuState& s) {
  static constexpr std::pair<const char*, SegReg> kSegments[] = {{"ES", kEs}, {"CS", kCs}, {"SS", kSs}, {"DS", kDs}, {"FS", kFs}, {"GS", kGs}};
  std::string out = fmt::format("\nCPU#{}\n", index) + general_registers(s);
  out += fmt::format("RIP={:016x} RFL={:08x} [{}] CPL={} SMM={} HLT={}\n", s.rip, s.rflags, flag_letters(s.rflags),
                     s.seg[kSs].dpl(), s.events.in_smm ? 1 : 0, s.mp_state == MpState::Halted ? 1 : 0);
  for (auto [name, segment] : kSegments) out += segment_line(name, s.seg[segment]);
  out += segment_line("LDT", s.ldtr) + segment_line("TR", s.tr);
  out += fmt::format("GDT=     {:016x} {:08x}\nIDT=     {:016x} {:08x}\n", s.gdtr.base, s.gdtr.limit, s.idtr.base, s.idtr.limit);
  out += fmt::format("CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x}\n", s.cr0, s.cr2, s.cr3, s.cr4);
  out += fmt::format("DR0={:016x} DR1={:016x} DR2={:016x} DR3={:016x}\nDR6={:016x} DR7={:016x}\n", s.dr[0], s.dr[1], s.dr[2],
                     s.dr[3], s.dr6, s.dr7);
  out += fmt::format("EFER={:016x}\n", s.efer);
  for (unsigned i = 0; i < 16; ++i) {
    const u8* xmm = &s.xsave.bytes[160 + 16 * i];
    out += fmt::format("XMM{:02}={:016x}{:016x}{}", i, load_le<u64>(xmm + 8), load_le<u64>(xmm), i % 2 ? '\n' : ' ');
  }
  return out;
}

std::string page_tables_text(const VcpuState& state, const memory::GuestMemory& memory) {
  if (!(state.cr0 & kCr0PG)) return "PG disabled\n";
  return TableWalk(state, memory).run();
}

std::string translations_text(const VcpuState& state, const memory::GuestMemory& memory) {
  if (!(state.cr0 & kCr0PG)) return "PG disabled\n";
  return TableWalk(state, memory, true).run();
}

std::string ram_blocks_text(const memory::AddressMap& map) {
  std::string out = fmt::format("{:>24} {:>8}  {:>18} {:>18} {:>18}\n", "Block Name", "PSize", "Offset", "Used", "Total");
  std::vector<const memory::RamBlock*> seen;
  for (const auto& slot : map.slots()) {
    const memory::RamBlock* block = slot.region->ram.get();
    if (!block || std::ranges::find(seen, block) != seen.end()) continue;
    seen.push_back(block);
    out += fmt::format("{:>24} {:>4} KiB  0x{:016x} 0x{:016x} 0x{:016x}\n", block->name(), block->page_bytes() / kKiB, slot.base, block->size(), block->size());
  }
  return out;
}

std::string roms_text(const memory::AddressMap& map) {
  std::string out;
  for (const auto& slot : map.slots()) {
    if (!slot.region->ram || !slot.region->readonly) continue;
    out += fmt::format("addr={:016x} size=0x{:06x} mem=rom name=\"{}\"\n", slot.base, slot.size, slot.region->name);
  }
  return out;
}

std::string memory_map_text(const memory::AddressMap& map, std::string_view name) {
  std::string out = fmt::format("FlatView: {}\n", name);
  for (const auto& slot : map.slots()) {
    const memory::Region& region = *slot.region;
    const char* kind = !region.ram ? "i/o" : region.readonly ? "rom" : "ram";
    out += fmt::format("  {:016x}-{:016x} (prio {}, {}): {}", slot.base, slot.base + slot.size - 1, region.priority, kind, region.name);
    if (const u64 offset = slot.region_offset + region.ram_offset) out += fmt::format(" @{:016x}", offset);
    out += '\n';
  }
  return out;
}

}  // namespace atl::machine
