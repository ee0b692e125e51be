#include "control/gdb/registers.h"

#include <array>
#include <cstring>

#include <fmt/format.h>

namespace atl::control {
namespace {

enum class Place : u8 { Gpr, Rip, Rflags, Selector, St, X87Word, Xmm, Mxcsr, SegmentBase };

struct Row {
  const char* name;
  const char* type;
  u8 bytes;
  Place place;
  u16 index;  // Gpr, SegReg, vector register, or offset in the FXSAVE image
};

constexpr Row kCore[] = {
    {"rax", "int64", 8, Place::Gpr, cpu::kRax},     {"rbx", "int64", 8, Place::Gpr, cpu::kRbx},
    {"rcx", "int64", 8, Place::Gpr, cpu::kRcx},     {"rdx", "int64", 8, Place::Gpr, cpu::kRdx},
    {"rsi", "int64", 8, Place::Gpr, cpu::kRsi},     {"rdi", "int64", 8, Place::Gpr, cpu::kRdi},
    {"rbp", "data_ptr", 8, Place::Gpr, cpu::kRbp},  {"rsp", "data_ptr", 8, Place::Gpr, cpu::kRsp},
    {"r8", "int64", 8, Place::Gpr, cpu::kR8},       {"r9", "int64", 8, Place::Gpr, cpu::kR9},
    {"r10", "int64", 8, Place::Gpr, cpu::kR10},     {"r11", "int64", 8, Place::Gpr, cpu::kR11},
    {"r12", "int64", 8, Place::Gpr, cpu::kR12},     {"r13", "int64", 8, Place::Gpr, cpu::kR13},
    {"r14", "int64", 8, Place::Gpr, cpu::kR14},     {"r15", "int64", 8, Place::Gpr, cpu::kR15},
    {"rip", "code_ptr", 8, Place::Rip, 0},          {"eflags", "int32", 4, Place::Rflags, 0},
    {"cs", "int32", 4, Place::Selector, cpu::kCs},  {"ss", "int32", 4, Place::Selector, cpu::kSs},
    {"ds", "int32", 4, Place::Selector, cpu::kDs},  {"es", "int32", 4, Place::Selector, cpu::kEs},
    {"fs", "int32", 4, Place::Selector, cpu::kFs},  {"gs", "int32", 4, Place::Selector, cpu::kGs},
    {"st0", "i387_ext", 10, Place::St, 0},          {"st1", "i387_ext", 10, Place::St, 1},
    {"st2", "i387_ext", 10, Place::St, 2},          {"st3", "i387_ext", 10, Place::St, 3},
    {"st4", "i387_ext", 10, Place::St, 4},          {"st5", "i387_ext", 10, Place::St, 5},
    {"st6", "i387_ext", 10, Place::St, 6},          {"st7", "i387_ext", 10, Place::St, 7},
    {"fctrl", "int", 4, Place::X87Word, 0},         {"fstat", "int", 4, Place::X87Word, 2},
    {"ftag", "int", 4, Place::X87Word, 4},          {"fiseg", "int", 4, Place::X87Word, 12},
    {"fioff", "int", 4, Place::X87Word, 8},         {"foseg", "int", 4, Place::X87Word, 20},
    {"fooff", "int", 4, Place::X87Word, 16},        {"fop", "int", 4, Place::X87Word, 6},
};

constexpr Row kSse[] = {
    {"xmm0", "uint128", 16, Place::Xmm, 0},   {"xmm1", "uint128", 16, Place::Xmm, 1},   {"xmm2", "uint128", 16, Place::Xmm, 2},
    {"xmm3", "uint128", 16, Place::Xmm, 3},   {"xmm4", "uint128", 16, Place::Xmm, 4},   {"xmm5", "uint128", 16, Place::Xmm, 5},
    {"xmm6", "uint128", 16, Place::Xmm, 6},   {"xmm7", "uint128", 16, Place::Xmm, 7},   {"xmm8", "uint128", 16, Place::Xmm, 8},
    {"xmm9", "uint128", 16, Place::Xmm, 9},   {"xmm10", "uint128", 16, Place::Xmm, 10}, {"xmm11", "uint128", 16, Place::Xmm, 11},
    {"xmm12", "uint128", 16, Place::Xmm, 12}, {"xmm13", "uint128", 16, Place::Xmm, 13}, {"xmm14", "uint128", 16, Place::Xmm, 14},
    {"xmm15", "uint128", 16, Place::Xmm, 15}, {"mxcsr", "int", 4, Place::Mxcsr, 0},
};

constexpr Row kSegments[] = {
    {"fs_base", "int64", 8, Place::SegmentBase, cpu::kFs},
    {"gs_base", "int64", 8, Place::SegmentBase, cpu::kGs},
};

struct Feature {
  const char* name;
  std::span<const Row> rows;
};
constexpr Feature kFeatures[] = {
    {"org.gnu.gdb.i386.core", kCore}, {"org.gnu.gdb.i386.sse", kSse}, {"org.gnu.gdb.i386.segments", kSegments}};

// Offsets in the FXSAVE image (SDM vol. 1, table 10-2).
constexpr size_t kFxSt = 32, kFxMxcsr = 24, kFxXmm = 160;

/// The bytes of the state that hold a register; fewer than the row has if the rest reads as zero.
std::span<u8> storage(cpu::VcpuState& state, const Row& row) {
  auto bytes_of = [](auto& value) { return std::span<u8>(reinterpret_cast<u8*>(&value), sizeof value); };
  std::span<u8> fx(state.xsave.bytes);
  switch (row.place) {
    case Place::Gpr: return bytes_of(state.gpr[row.index]);
    case Place::Rip: return bytes_of(state.rip);
    case Place::Rflags: return bytes_of(state.rflags).first(4);
    case Place::Selector: return bytes_of(state.seg[row.index].selector);
    case Place::St: return fx.subspan(kFxSt + 16 * row.index, 10);
    case Place::X87Word: return fx.subspan(row.index, row.index == 8 || row.index == 16 ? 4 : 2);
    case Place::Xmm: return fx.subspan(kFxXmm + 16 * row.index, 16);
    case Place::Mxcsr: return fx.subspan(kFxMxcsr, 4);
    default: return bytes_of(state.seg[row.index].base);
  }
}

template <class F>
void for_each_row(F f) {
  for (const Feature& feature : kFeatures) {
    for (const Row& row : feature.rows) f(row);
  }
}

const Row* find_row(u64 number) {
  for (const Feature& feature : kFeatures) {
    if (number < feature.rows.size()) return &feature.rows[number];
    number -= feature.rows.size();
  }
  return nullptr;
}

std::vector<u8> read_row(const cpu::VcpuState& state, const Row& row) {
  std::span<const u8> from = storage(const_cast<cpu::VcpuState&>(state), row);
  std::vector<u8> bytes(row.bytes);
  std::memcpy(bytes.data(), from.data(), from.size());
  return bytes;
}

void write_row(cpu::VcpuState& state, const Row& row, std::span<const u8> bytes) {
  // Loading a selector alone would leave the hidden part behind; gdb sends selectors back unchanged.
  if (row.place == Place::Selector) return;
  std::span<u8> to = storage(state, row);
  std::memcpy(to.data(), bytes.data(), to.size());
}

}  // namespace

std::vector<u8> gdb_registers(const cpu::VcpuState& state) {
  std::vector<u8> all;
  for_each_row([&](const Row& row) {
    auto bytes = read_row(state, row);
    all.insert(all.end(), bytes.begin(), bytes.end());
  });
  return all;
}

bool set_gdb_registers(cpu::VcpuState& state, std::span<const u8> bytes) {
  size_t total = 0;
  for_each_row([&](const Row& row) { total += row.bytes; });
  if (bytes.size() != total) return false;
  for_each_row([&](const Row& row) {
    write_row(state, row, bytes.first(row.bytes));
    bytes = bytes.subspan(row.bytes);
  });
  return true;
}

std::vector<u8> gdb_register(const cpu::VcpuState& state, u64 number) {
  const Row* row = find_row(number);
  return row ? read_row(state, *row) : std::vector<u8>();
}

bool set_gdb_register(cpu::VcpuState& state, u64 number, std::span<const u8> bytes) {
  const Row* row = find_row(number);
  if (!row || bytes.size() != row->bytes) return false;
  write_row(state, *row, bytes);
  return true;
}

std::string gdb_target_description() {
  std::string xml =
      "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>i386:x86-64</architecture>";
  for (const Feature& feature : kFeatures) {
    xml += fmt::format("<feature name=\"{}\">", feature.name);
    for (const Row& row : feature.rows)
      xml += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\"/>", row.name, row.bytes * 8, row.type);
    xml += "</feature>";
  }
  return xml + "</target>";
}

}  // namespace atl::control
