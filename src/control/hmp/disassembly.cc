// x/i and xp/i: instructions of the selected vCPU's mode, in AT&T's notation.
#include <Zydis/Zydis.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "control/hmp/command.h"
#include "cpu/spec.h"

namespace atl::control {
namespace {

/// Decodes with the address size that the code segment gives.
ZydisDecoder decoder_for(const cpu::VcpuState& state) {
  const cpu::Segment& code = state.seg[cpu::kCs];
  ZydisDecoder decoder;
  if ((state.efer & cpu::kEferLMA) && code.l()) ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  else if (code.db()) ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
  else ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
  return decoder;
}

/// As many bytes as an instruction may have, or fewer where memory ends.
std::vector<u8> read_code(HmpContext& c, bool physical, u64 address) {
  for (u64 bytes : {u64{ZYDIS_MAX_INSTRUCTION_LENGTH}, u64{8}, u64{4}, u64{2}, u64{1}})
    if (auto code = c.vm.machine().read_memory(physical, c.cpu, address, bytes)) return *std::move(code);
  return {};
}

std::string hex_columns(std::span<const u8> bytes) {
  std::string out;
  for (size_t i = 0; i < std::max<size_t>(bytes.size(), 8); ++i) out += i < bytes.size() ? fmt::format(" {:02x}", bytes[i]) : "   ";
  return out;
}

}  // namespace

Status hmp_disassemble(HmpContext& c, bool physical, u64 address, u64 count) {
  const ZydisDecoder decoder = decoder_for(TRY(c.vm.machine().cpu_state(c.cpu)));
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT);
  for (u64 i = 0; i < count; ++i) {
    const std::vector<u8> code = read_code(c, physical, address);
    ZydisDecodedInstruction instruction;
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code.data(), code.size(), &instruction, operands.data()))) {
      c.output += fmt::format("0x{:08x}: {}\n", address, code.empty() ? "unable to read memory" : "(bad)");
      return {};
    }
    std::array<char, 128> text;
    ZydisFormatterFormatInstruction(&formatter, &instruction, operands.data(), instruction.operand_count_visible, text.data(), text.size(), address, nullptr);
    c.output += fmt::format("0x{:08x}: {}  {}\n", address, hex_columns(std::span(code).first(instruction.length)), text.data());
    address += instruction.length;
  }
  return {};
}

}  // namespace atl::control
