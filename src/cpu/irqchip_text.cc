#include "cpu/irqchip_text.h"

#include <fmt/core.h>

#include "base/endian.h"
#include "cpu/apic_spec.h"

namespace atl::cpu {

namespace {

constexpr const char* kDeliveries[] = {"Fixed", "LowPri", "SMI", "...", "NMI", "INIT", "SIPI", "ExtINT"};

std::string lvt_line(const char* name, u32 lvt, bool is_timer) {
  static constexpr const char* kTimerModes[] = {"one-shot", "periodic", "tsc-deadline", "invalid"};
  u32 delivery = lvt >> 8 & 7;
  bool has_vector = delivery == 0 || delivery == 1 || delivery == 7;
  return fmt::format("{:<8} 0x{:08x} {} {:<5} {:<6} {:<7} {:<12} {:<6}{}\n", name, lvt, lvt & 1 << 13 ? "active-lo" : "active-hi",
                     lvt & kLvtLevel ? "level" : "edge", lvt & kLvtMasked ? "masked" : "", lvt & 1 << 12 ? "pending" : "",
                     is_timer ? kTimerModes[lvt >> 17 & 3] : "", kDeliveries[is_timer ? 0 : delivery],
                     has_vector ? fmt::format(" (vec {})", lvt & kLvtVector) : "");
}

std::string vectors(std::span<const u8, 1024> page, u32 bank, bool with_trigger) {
  std::string text;
  for (u32 vector = 0; vector < 256; ++vector) {
    u32 word = vector / 32 * 16;
    if (!(load_le<u32>(&page[bank + word]) >> (vector % 32) & 1)) continue;
    bool level = load_le<u32>(&page[kApicTmr + word]) >> (vector % 32) & 1;
    text += fmt::format("{}{} ", vector, with_trigger && level ? "(level)" : "");
  }
  return text.empty() ? "(none)" : text;
}

std::string icr_lines(u32 low, u32 high) {
  static constexpr const char* kShorthands[] = {"no-shorthand", "self", "all-self", "all"};
  return fmt::format("ICR      0x{:08x} {} {} {} {}\nICR2     0x{:08x} cpu {}\n", low, low & kIcrLogical ? "logical" : "physical",
                     low & kIcrLevel ? "level" : "edge", low & kIcrAssert ? "assert" : "de-assert", kShorthands[low >> 18 & 3],
                     high, high >> 24);
}

}  // namespace

std::string describe_pic(u32 number, const PicRegisters& pic) {
  return fmt::format("pic{}: irr={:02x} imr={:02x} isr={:02x} hprio={} irq_base={:02x} rr_sel={} elcr={:02x} fnm={}\n", number,
                     pic.request, pic.mask, pic.service, pic.highest_priority, pic.vector_base, pic.read_service ? 1 : 0,
                     pic.edge_level, pic.special_nested ? 1 : 0);
}

std::string describe_io_apic(const IoApicRegisters& io_apic) {
  constexpr u64 kRemoteIrr = 1 << 14;
  std::string text = fmt::format("ioapic0: ver=0x{:x} id=0x{:02x} sel=0x{:02x}", io_apic.version, io_apic.id, io_apic.select);
  if (io_apic.select >= 0x10) text += fmt::format(" (redir[{}])", (io_apic.select - 0x10) >> 1);
  text += '\n';
  u32 remote = 0;
  for (u32 pin = 0; pin < io_apic.redirection.size(); ++pin) {
    u64 e = io_apic.redirection[pin];
    if (e & kRemoteIrr) remote |= 1u << pin;
    text += fmt::format("  pin {:<2} 0x{:016x} dest={:x} vec={:<3} {} {:<5} {:<6} {:<8} {}\n", pin, e, e >> 56, e & 0xff,
                        e & 1 << 13 ? "active-lo" : "active-hi", e & kLvtLevel ? "level" : "edge",
                        e & kLvtMasked ? "masked" : "", e & kIcrLogical ? "logical" : "physical", kDeliveries[e >> 8 & 7]);
  }
  return text + fmt::format("  IRR      0x{:08x}\n  Remote IRR 0x{:08x}\n", io_apic.requests, remote);
}

std::string describe_local_apic(u32 cpu_index, std::span<const u8, 1024> page) {
  auto reg = [&](u32 offset) { return load_le<u32>(&page[offset]); };
  constexpr struct {
    const char* name;
    u32 offset;
  } kLvts[] = {{"LVT0", kApicLvtLint0},   {"LVT1", kApicLvtLint1},     {"LVTPC", kApicLvtPerf},
               {"LVTERR", kApicLvtError}, {"LVTTHMR", kApicLvtThermal}, {"LVTT", kApicLvtTimer}};
  std::string text = fmt::format("dumping local APIC state for CPU {}\n\n", cpu_index);
  for (const auto& lvt : kLvts) text += lvt_line(lvt.name, reg(lvt.offset), lvt.offset == kApicLvtTimer);
  u32 divide = reg(kApicTimerDivide);
  u32 shift = (((divide & 3) | (divide & 8) >> 1) + 1) & 7;
  text += fmt::format("Timer    DCR=0x{:x} (divide by {}) initial_count = {} current_count = {}\n", divide & 0xf, 1u << shift,
                      reg(kApicTimerInitial), reg(kApicTimerCurrent));
  u32 svr = reg(kApicSvr);
  text += fmt::format("SPIV     0x{:08x} APIC {}, focus={}, spurious vec {}\n", svr, svr & kSvrEnable ? "enabled" : "disabled",
                      svr & 1 << 9 ? "off" : "on", svr & 0xff);
  text += icr_lines(reg(kApicIcrLow), reg(kApicIcrHigh));
  text += fmt::format("ESR      0x{:08x}\nISR      {}\nIRR      {}\n\n", reg(kApicEsr), vectors(page, kApicIsr, false),
                      vectors(page, kApicIrr, true));
  return text + fmt::format("APR 0x{:02x} TPR 0x{:02x} DFR 0x{:02x} LDR 0x{:02x} PPR 0x{:02x}\n", reg(kApicApr), reg(kApicTpr),
                            reg(kApicDfr) >> 28, reg(kApicLdr) >> 24, reg(kApicPpr));
}

ApicPage reset_apic_page(u32 id) {
  ApicPage page{};
  auto set = [&](u32 offset, u32 value) { store_le<u32>(&page[offset], value); };
  set(kApicId, id << 24);
  set(kApicVersion, kApicVersionValue);
  set(kApicDfr, 0xffffffff);
  set(kApicSvr, 0xff);
  for (u32 lvt = kApicLvtTimer; lvt <= kApicLvtError; lvt += 0x10) set(lvt, kLvtMasked);
  constexpr u32 kExtInt = 7 << 8;
  if (id == 0) set(kApicLvtLint0, kExtInt);
  return page;
}

bool is_blank_apic_page(std::span<const u8, 1024> page) { return load_le<u32>(&page[kApicVersion]) == 0; }

}  // namespace atl::cpu
