// x, xp and print: guest memory and expressions in the formats of the manual (x d u o c i, sizes b h w g).
#include <algorithm>

#include <fmt/format.h>

#include "base/endian.h"
#include "control/hmp/command.h"
#include "control/hmp/expression.h"
#include "cpu/spec.h"

namespace atl::control {
namespace {

constexpr u64 kMaxUnits = 65536;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

struct DumpFormat {
  u64 count = 1;
  char form = 'x';
  unsigned width = 4;
};

Result<DumpFormat> parse_format(std::string_view text, DumpFormat format) {
  u64 count = 0;
  while (!text.empty() && text.front() >= '0' && text.front() <= '9' && count <= kMaxUnits) {
    count = count * 10 + static_cast<u64>(text.front() - '0');
    text.remove_prefix(1);
  }
  if (count > kMaxUnits) return invalid(fmt::format("at most {} units are shown", kMaxUnits));
  if (count) format.count = count;
  bool width_given = false;
  for (char c : text) {
    switch (c) {
      case 'x': case 'd': case 'u': case 'o': case 'c': case 'i': format.form = c; break;
      case 'b': format.width = 1; width_given = true; break;
      case 'h': format.width = 2; width_given = true; break;
      case 'w': format.width = 4; width_given = true; break;
      case 'g': format.width = 8; width_given = true; break;
      default: return invalid(fmt::format("invalid char in format: '{}'", c));
    }
  }
  if (format.form == 'c' && !width_given) format.width = 1;
  return format;
}

/// Columns that any value of the width needs.
unsigned octal_digits(unsigned width) { return (width * 8 + 2) / 3; }
unsigned decimal_digits(unsigned width) { return width == 1 ? 3 : width == 2 ? 5 : width == 4 ? 10 : 20; }

std::string character_text(u64 value) {
  char c = static_cast<char>(value);
  switch (c) {
    case '\'': return "'\\''";
    case '\\': return "'\\\\'";
    case '\n': return "'\\n'";
    case '\r': return "'\\r'";
    default: break;
  }
  return c >= 32 && c <= 126 ? fmt::format("'{}'", c) : fmt::format("'\\x{:02x}'", static_cast<u8>(c));
}

i64 sign_extended(u64 value, unsigned width) {
  unsigned shift = 64 - 8 * width;
  return static_cast<i64>(value << shift) >> shift;
}

std::string unit_text(u64 value, const DumpFormat& format) {
  switch (format.form) {
    case 'd': return fmt::format("{:{}}", sign_extended(value, format.width), decimal_digits(format.width));
    case 'u': return fmt::format("{:{}}", value, decimal_digits(format.width));
    case 'o': return fmt::format("{:#{}o}", value, octal_digits(format.width));
    case 'c': return character_text(value);
    default: return fmt::format("0x{:0{}x}", value, 2 * format.width);
  }
}

u64 units_a_line(const DumpFormat& format) {
  return format.form == 'c' ? 8 : std::max<u64>(1, format.width == 1 ? 8 : 16 / format.width);
}

struct NamedRegister {
  std::string_view name;
  u64 (*read)(const cpu::VcpuState&);
};
constexpr NamedRegister kRegisters[] = {
    {"rip", [](const cpu::VcpuState& s) { return s.rip; }},
    {"eip", [](const cpu::VcpuState& s) { return s.rip; }},
    {"pc", [](const cpu::VcpuState& s) { return s.seg[cpu::kCs].base + s.rip; }},
    {"eflags", [](const cpu::VcpuState& s) { return s.rflags; }},
    {"rflags", [](const cpu::VcpuState& s) { return s.rflags; }},
    {"cr0", [](const cpu::VcpuState& s) { return s.cr0; }},
    {"cr2", [](const cpu::VcpuState& s) { return s.cr2; }},
    {"cr3", [](const cpu::VcpuState& s) { return s.cr3; }},
    {"cr4", [](const cpu::VcpuState& s) { return s.cr4; }},
    {"cs.base", [](const cpu::VcpuState& s) { return s.seg[cpu::kCs].base; }},
    {"cs", [](const cpu::VcpuState& s) { return u64{s.seg[cpu::kCs].selector}; }},
    {"ss", [](const cpu::VcpuState& s) { return u64{s.seg[cpu::kSs].selector}; }},
    {"ds", [](const cpu::VcpuState& s) { return u64{s.seg[cpu::kDs].selector}; }},
    {"es", [](const cpu::VcpuState& s) { return u64{s.seg[cpu::kEs].selector}; }},
    {"fs", [](const cpu::VcpuState& s) { return u64{s.seg[cpu::kFs].selector}; }},
    {"gs", [](const cpu::VcpuState& s) { return u64{s.seg[cpu::kGs].selector}; }},
};
constexpr std::string_view kGprNames[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};

std::optional<u64> register_of(const cpu::VcpuState& state, std::string_view name) {
  for (const auto& entry : kRegisters)
    if (entry.name == name) return entry.read(state);
  for (size_t i = 0; i < 16; ++i) {
    if (i < 8 ? name.size() == 3 && name.substr(1) == kGprNames[i] && (name[0] == 'r' || name[0] == 'e') : name == fmt::format("r{}", i))
      return name[0] == 'e' ? state.gpr[i] & 0xffffffff : state.gpr[i];
  }
  return std::nullopt;
}

/// Registers are read once, and only if the expression names one.
RegisterLookup lookup_in(HmpContext& context) {
  return [&context, state = std::optional<cpu::VcpuState>()](std::string_view name) mutable -> std::optional<u64> {
    if (!state) {
      auto read = context.vm.machine().cpu_state(context.cpu);
      if (!read) return std::nullopt;
      state = *read;
    }
    return register_of(*state, name);
  };
}

Result<u64> only_expression(HmpContext& context, std::string_view text) {
  u64 value = TRY(take_expression(text, lookup_in(context)));
  if (!text.empty()) return invalid("extraneous characters at the end of line");
  return value;
}

/// Bits of addresses that the dump shows: 16 digits, as for a 64-bit target.
void print_units(std::string& out, u64 address, std::span<const u8> bytes, const DumpFormat& format) {
  u64 a_line = units_a_line(format);
  for (u64 i = 0; i * format.width < bytes.size(); ++i) {
    if (i % a_line == 0) out += fmt::format("{}{:016x}:", i ? "\n" : "", address + i * format.width);
    out += ' ';
    out += unit_text(load_le_n(bytes.data() + i * format.width, format.width), format);
  }
  out += '\n';
}

Status dump(HmpContext& context, const HmpArguments& arguments, bool physical) {
  DumpFormat format = TRY(parse_format(arguments.format, {}));
  u64 address = TRY(only_expression(context, arguments.text));
  if (format.form == 'i') return hmp_disassemble(context, physical, address, format.count);
  auto bytes = context.vm.machine().read_memory(physical, context.cpu, address, format.count * format.width);
  if (!bytes) return invalid(fmt::format("Cannot access memory: {}", bytes.error().text()));
  print_units(context.output, address, *bytes, format);
  return {};
}

}  // namespace

Result<u64> take_number(HmpContext& context, std::string_view& text) { return take_expression(text, lookup_in(context)); }

Result<unsigned> access_width(std::string_view format) {
  const DumpFormat parsed = TRY(parse_format(format, {}));
  if (parsed.count != 1 || parsed.width > 4) return invalid("one port of 1, 2 or 4 bytes is expected: /b, /h or /w");
  return parsed.width;
}

Status hmp_dump_linear(HmpContext& context, const HmpArguments& arguments) { return dump(context, arguments, false); }
Status hmp_dump_physical(HmpContext& context, const HmpArguments& arguments) { return dump(context, arguments, true); }

Status hmp_print(HmpContext& context, const HmpArguments& arguments) {
  DumpFormat format = TRY(parse_format(arguments.format, {.form = 'x', .width = 8}));
  u64 value = TRY(only_expression(context, arguments.text));
  switch (format.form) {
    case 'd': context.output += fmt::format("{}\n", static_cast<i64>(value)); break;
    case 'o': context.output += fmt::format("0{:o}\n", value); break;
    case 'u': context.output += fmt::format("{}\n", value); break;
    case 'c': context.output += character_text(value) + "\n"; break;
    default: context.output += fmt::format("0x{:x}\n", value); break;
  }
  return {};
}

}  // namespace atl::control
