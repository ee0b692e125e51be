#include "devices/nic/e1000.h"

#include <algorithm>
#include <utility>

#include "base/endian.h"

namespace atl::devices {

using namespace e1000;

namespace {

constexpr unsigned kFlashBar82574 = 1, kIoBar82540 = 1, kIoBar82574 = 2, kMsixBar = 3;
constexpr unsigned kMsixVectors = 5;
constexpr u32 kFlashBytes = 0x20000;

PciIdentity identity_of(E1000Model model) {
  const bool express = model == E1000Model::I82574;
  return {.vendor = 0x8086, .device = static_cast<u16>(express ? 0x10d3 : 0x100e), .revision = static_cast<u8>(express ? 0 : 3),
          .class_code = 0x020000, .subsystem_vendor = 0x8086, .subsystem = 0};
}

// What the EEPROM holds apart from the address and the checksum (5.6; 82574 section 6.1).
struct EepromWord {
  u8 index;
  u16 value;
};
constexpr EepromWord kEeprom82540[] = {{0x03, 0x0000}, {0x05, 0xffff}, {0x08, 0x3000}, {0x09, 0x1000}, {0x0a, 0x6403}, {0x0b, 0x0000},
                                       {0x0c, 0x8086}, {0x0d, 0x100e}, {0x0e, 0x8086}, {0x0f, 0x3040}, {0x21, 0x7863}};
constexpr EepromWord kEeprom82574[] = {{0x03, 0x0420}, {0x05, 0xf746}, {0x0a, 0x026b}, {0x0b, 0x0000}, {0x0c, 0x8086}, {0x0d, 0x10d3},
                                       {0x0e, 0x8086}, {0x0f, 0x83a3}, {0x10, 0x8086}, {0x12, 0x8086}, {0x14, 0x058c}};

}  // namespace

E1000::E1000(E1000Model model, const MacAddress& mac, const Wiring& wiring)
    : model_(model),
      mac_(mac),
      function_(model == E1000Model::I82574 ? "e1000e" : "e1000", identity_of(model)),
      dma_(wiring.memory, function_),
      registers_(kStoredBytes / 4),
      port_(*this, wiring.backend, wiring.loop) {
  Lock lock(mutex_);
  link_ = port_.link_up();
  fill_eeprom();
  reset_registers();
}

E1000::~E1000() = default;

Result<std::unique_ptr<E1000>> E1000::create(E1000Model model, const MacAddress& mac, const Wiring& wiring) {
  std::unique_ptr<E1000> card(new E1000(model, mac, wiring));
  TRY(card->build(wiring.vm));
  return card;
}

Status E1000::build(cpu::Vm& vm) {
  auto memory = [](u64 size, memory::BusDevice& device) {
    PciBar bar;
    bar.kind = PciBar::Kind::Memory32;
    bar.size = size;
    bar.device = &device;
    return bar;
  };
  PciBar io = memory(kIoBytes, io_window_);
  io.kind = PciBar::Kind::Io;
  function_.set_interrupt_pin(1);
  function_.set_bar(0, memory(kRegisterBytes, window_));
  function_.set_bar(is_82574() ? kIoBar82574 : kIoBar82540, std::move(io));
  if (!is_82574()) return {};
  function_.set_bar(kFlashBar82574, memory(kFlashBytes, no_flash_));
  return function_.add_msix(vm, kMsixVectors, kMsixBar);
}

void E1000::fill_eeprom() {
  for (unsigned i = 0; i < 3; ++i) eeprom_.set_word(i, static_cast<u16>(mac_[2 * i] | mac_[2 * i + 1] << 8));
  const auto words = is_82574() ? std::span<const EepromWord>(kEeprom82574) : std::span<const EepromWord>(kEeprom82540);
  for (const EepromWord& word : words) eeprom_.set_word(word.index, word.value);
  u16 sum = 0;
  for (unsigned i = 0; i < eeprom_.size() - 1; ++i) sum = static_cast<u16>(sum + eeprom_.word(i));
  eeprom_.set_word(eeprom_.size() - 1, static_cast<u16>(kEepromSum - sum));
}

void E1000::reset_phy() {
  phy_ = {};
  phy_[kPhyControl] = 0x1140;
  phy_[kPhyStatus] = 0x7949;      // every mode of 10 and 100 Mbit/s, extended status, autonegotiation
  phy_[kPhyId1] = 0x0141;
  phy_[kPhyId2] = is_82574() ? 0x0cb1 : 0x0c20;
  phy_[kPhyAdvertise] = 0x0de1;
  phy_[kPhyPartner] = 0x01e0;
  phy_[kPhy1000Control] = 0x0e00;
  phy_[kPhyExtStatus] = 0x3000;   // 1000BASE-T, both duplexes
  phy_[kPhySpecControl] = 0x0360;
  phy_[kPhySpecStatus] = 0x0040;
  show_link(link_);
}

/// Autonegotiation ends as soon as there is a link.
void E1000::show_link(bool up) {
  constexpr u16 kPartnerAck = 0x4000, kPartner1000 = 0x3c00, kResolved1000 = 0xac00;
  auto set = [&](u8 index, u16 bits) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { phy_[index] = static_cast<u16>(up ? phy_[index] | bits : phy_[index] & ~bits); };
  set(kPhyStatus, kPhyLinkUp | kPhyAutonegDone);
  set(kPhyPartner, kPartnerAck);
  set(kPhy1000Status, kPartner1000);
  set(kPhySpecStatus, kResolved1000);
}

void E1000::reset_registers() {
  std::ranges::fill(registers_, 0);
  reg(kCtrl) = 0x00140240 | 1;       // full duplex, ASDE off, link up wished, 1000 Mbit/s
  reg(kPba) = is_82574() ? 0x00140014 : 0x00100030;
  reg(kVet) = ethernet::kTypeVlan;
  if (is_82574()) reg(kEemngctl) = 1 << 18 | 1 << 19;  // the configuration of both ports is done
  for (unsigned i = 0; i < 4; ++i) reg(kRal) |= u32{mac_[i]} << (8 * i);
  reg(kRah) = mac_[4] | u32{mac_[5]} << 8 | kRahAv;
  eecd_ = 0;
  fired_ = 0;
  eeprom_.reset();
  reset_phy();
  update_interrupt();
}

void E1000::reset() {
  function_.reset();
  Lock lock(mutex_);
  fill_eeprom();
  reset_registers();
  io_window_.address = 0;
  outgoing_ = {};
}

// Life of the link.

void E1000::link_changed(bool up) {
  Lock lock(mutex_);
  link_ = up;
  show_link(up);
  raise(kLsc);
}

// Interrupts.

void E1000::raise(u32 causes) {
  if (is_82574()) {
    if (causes & (kRxt0 | kRxdmt0)) causes |= kRxq0;
    if (causes & kOtherCauses) causes |= kOther;
  }
  reg(kIcr) |= causes;
  reg(kIcs) = reg(kIcr);
  update_interrupt();
}

/// A cause that software raised or hardware met, and that is not masked, holds the pin or sends a message.
void E1000::update_interrupt() {
  u32 active = reg(kIcr) & reg(kIms) & ~kIntAsserted;
  if (is_82574()) reg(kIcr) = active ? reg(kIcr) | kIntAsserted : reg(kIcr) & ~kIntAsserted;
  const bool messages = function_.msix_enabled();
  if (messages) update_msix(active);
  function_.set_intx(active && !messages);
}

void E1000::update_msix(u32 active) {
  struct Vector {
    u32 cause;
    unsigned shift;  // in IVAR
  };
  constexpr Vector kVectors[] = {{kRxq0, 0}, {kRxq1, 4}, {kTxq0, 8}, {kTxq1, 12}, {kOther, 16}};
  const u32 fresh = active & ~fired_;
  fired_ = active;
  for (const Vector& v : kVectors)
    if (fresh & v.cause) fire_cause(v.cause, v.shift);
}

/// The message, then the automatic clearing that the driver asked for (82574 section 7.4.5).
void E1000::fire_cause(u32 cause, unsigned ivar_shift) {
  const u32 allocation = reg(kIvar) >> ivar_shift & 15;
  if (!(allocation & 8)) return;
  function_.fire_msix(allocation & 7);
  if (reg(kCtrlExt) & kCtrlExtEiame) reg(kIam) &= ~cause;
  const u32 cleared = reg(kEiac) & cause;
  reg(kIcr) &= ~cleared;
  fired_ &= ~cleared;
  if (!(reg(kCtrlExt) & kCtrlExtIame)) reg(kIms) &= ~cleared;
}

/// The 82540 clears what is read; the 82574 only if an interrupt was signalled or none is enabled (82574 section 10.2.4.1).
u32 E1000::read_causes() {
  const u32 causes = reg(kIcr);
  const bool clears = !is_82574() || (causes & kIntAsserted) || reg(kIms) == 0;
  if (is_82574() && (causes & kIntAsserted) && (reg(kCtrlExt) & kCtrlExtIame)) reg(kIms) &= ~reg(kIam);
  if (clears) reg(kIcr) = 0;
  update_interrupt();
  return causes;
}

// Statistics: they stay at the top, and reading clears them (13.7).

void E1000::add_statistic(u32 offset, u64 amount) {
  reg(offset) = static_cast<u32>(std::min<u64>(reg(offset) + amount, ~u32{0}));
}

void E1000::add_wide_statistic(u32 offset, u64 amount) {
  const u64 sum = (u64{reg(offset + 4)} << 32 | reg(offset)) + amount;
  reg(offset) = static_cast<u32>(sum);
  reg(offset + 4) = static_cast<u32>(sum >> 32);
}

// Saved state.

void E1000::Context::visit(Archive& archive) {
  archive.field(1, "ipcss", ipcss);
  archive.field(2, "ipcso", ipcso);
  archive.field(3, "tucss", tucss);
  archive.field(4, "tucso", tucso);
  archive.field(5, "tucmd", tucmd);
  archive.field(6, "header_bytes", header_bytes);
  archive.field(7, "ipcse", ipcse);
  archive.field(8, "tucse", tucse);
  archive.field(9, "mss", mss);
  archive.field(10, "payload_bytes", payload_bytes);
}

void E1000::Outgoing::visit(Archive& archive) {
  archive.blob(1, "frame", frame, ethernet::kMaxFrameBytes);
  archive.field(2, "started", started);
  archive.field(3, "large", large);
  archive.field(4, "vlan", vlan);
  archive.field(5, "popts", popts);
  archive.field(6, "vlan_tag", vlan_tag);
  archive.part(7, "plain", [this](Archive& part) { plain.visit(part); });
  archive.part(8, "segmenting", [this](Archive& part) { segmenting.visit(part); });
  archive.field(9, "oversized", oversized);
  archive.field(10, "wants_sum", wants_sum);
  archive.field(11, "sum_start", sum_start);
  archive.field(12, "sum_offset", sum_offset);
}

void E1000::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  Lock lock(mutex_);
  archive.bytes(2, "registers", {reinterpret_cast<u8*>(registers_.data()), kStoredBytes});
  archive.bytes(3, "phy", {reinterpret_cast<u8*>(phy_.data()), sizeof phy_});
  archive.part(4, "eeprom", [this](Archive& part) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { eeprom_.visit(part); });
  archive.field(5, "eecd", eecd_);
  archive.field(6, "fired", fired_);
  archive.part(7, "ring0", [this](Archive& part) { outgoing_[0].visit(part); });
  archive.part(8, "ring1", [this](Archive& part) { outgoing_[1].visit(part); });
  u32 address = io_window_.address;
  archive.field(9, "io_address", address);
  io_window_.address = address;
  if (!archive.loading()) return;
  link_ = port_.link_up();
  show_link(link_);
  update_interrupt();
}

}  // namespace atl::devices
