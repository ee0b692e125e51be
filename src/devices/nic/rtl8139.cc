#include "devices/nic/rtl8139.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices {

using namespace rtl8139;

namespace {

constexpr u64 kTimerHz = 33'000'000, kNsPerSecond = 1'000'000'000;
constexpr u16 kEepromMagic = 0x8129;
constexpr unsigned kEepromMac = 7;

/// Bytes that the driver may write, in order of offsets; registers with effects of their own are looked at afterwards.
struct Writable {
  u8 first, last;
  u8 mask = 0xff;
};
constexpr Writable kWritable[] = {
    {kIdr, kIdr + 5},   {kMar, kMar + 7},    {kTsd, kTsad + 15}, {kRbstart, kRbstart + 3}, {kCr, kCr, kCrRst | kCrRe | kCrTe},
    {kCapr, kCapr + 1}, {kImr, kImr + 1},    {kTcr, kTcr + 1},   {kTcr + 2, kTcr + 2, 0x07}, {kTcr + 3, kTcr + 3, 0x03},
    {kRcr, kRcr + 3},   {k9346, k9346, 0xce}, {kConfig0, kConfig0, 0x00}, {kConfig1, kConfig1, 0xf3}, {kTimerInt, kTimerInt + 3},
    {kConfig3, kConfig3, 0x21}, {kConfig4, kConfig4}, {kMulint, kMulint + 1}, {kBmcr, kBmcr + 1}, {kAnar, kAnar + 1},
    {kCscr, kCscr + 1}, {kConfig5, kConfig5}, {kCpcr, kCpcr, 0x7b}, {kRdsar, kRdsar + 7}, {kEtthr, kEtthr, 0x3f},
};

u8 writable_bits(u32 offset) {
  for (const Writable& w : kWritable)
    if (offset >= w.first && offset <= w.last) return w.mask;
  return 0;
}

}  // namespace

Rtl8139::Rtl8139(const MacAddress& mac, const Wiring& wiring)
    : mac_(mac),
      clock_(wiring.clock),
      function_("rtl8139", {.vendor = 0x10ec, .device = 0x8139, .revision = 0x20, .class_code = 0x020000,
                            .subsystem_vendor = 0x1af4, .subsystem = 0x1100}),
      dma_(wiring.memory, function_),
      alarm_(wiring.clock.create_alarm([this] { timer_fired(); })),
      port_(*this, wiring.backend, wiring.loop) {
  PciBar bar;
  bar.kind = PciBar::Kind::Io;
  bar.size = kRegisterBytes;
  bar.device = this;
  function_.set_bar(0, bar);
  bar.kind = PciBar::Kind::Memory32;
  function_.set_bar(1, bar);
  function_.set_interrupt_pin(1);
  Lock lock(mutex_);
  link_ = port_.link_up();
  fill_eeprom();
  reset_registers();
}

Rtl8139::~Rtl8139() = default;

void Rtl8139::fill_eeprom() {
  eeprom_.set_word(0, kEepromMagic);
  for (unsigned i = 0; i < 3; ++i) eeprom_.set_word(kEepromMac + i, static_cast<u16>(mac_[2 * i] | mac_[2 * i + 1] << 8));
}

void Rtl8139::load_from_eeprom() {
  for (unsigned i = 0; i < 3; ++i) set<u16>(kIdr + 2 * i, eeprom_.word(kEepromMac + i));
}

void Rtl8139::reset_registers() {
  registers_ = {};
  load_from_eeprom();
  for (unsigned slot = 0; slot < 4; ++slot) set<u32>(kTsd + 4 * slot, kTsdOwn);
  set<u32>(kTcr, kTcrVersion);
  set<u16>(kCapr, 0xfff0);
  registers_[kConfig0] = 0x10;
  registers_[kConfig1] = 0x0c;  // both BARs decode
  registers_[kConfig3] = 0x01;  // fast back to back
  next_slot_ = 0;
  transmit_index_ = receive_index_ = 0;
  timer_start_ns_ = clock_.now_ns();
  outgoing_ = {};
  alarm_->cancel();
  reset_phy();
  update_interrupt();
}

void Rtl8139::reset_phy() {
  set<u16>(kBmcr, 0x1000);
  set<u16>(kBmsr, 0x7809);
  set<u16>(kAnar, 0x05e1);
  set<u16>(kAner, 0x0001);
  show_link(link_);
}

void Rtl8139::show_link(bool up) {
  const u16 status = reg<u16>(kBmsr);
  set<u16>(kBmsr, static_cast<u16>(up ? status | kBmsrLink | kBmsrDone : status & ~(kBmsrLink | kBmsrDone)));
  set<u16>(kAnlpar, up ? 0x05e1 : 0);
  registers_[kMsr] = up ? 0 : kMsrLinkDown;
}

void Rtl8139::reset() {
  function_.reset();
  Lock lock(mutex_);
  eeprom_.reset();
  fill_eeprom();
  reset_registers();
  tally_ = {};
}

void Rtl8139::link_changed(bool up) {
  Lock lock(mutex_);
  link_ = up;
  show_link(up);
  raise(kLinkChange);
}

// Registers.

u64 Rtl8139::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  refresh_for_read();
  return load_le_n(&registers_[offset], width);
}

void Rtl8139::bus_write(u64 offset, u64 value, unsigned width) {
  Lock lock(mutex_);
  const auto before = registers_;
  const u32 at = static_cast<u32>(offset);
  store(at, value, width);
  after_write(at, width, before);
}

/// Registers that live elsewhere: buffer empty, EEPROM's output, timer, summary of transmit states.
void Rtl8139::refresh_for_read() {
  const u16 read_at = static_cast<u16>(reg<u16>(kCapr) + 16);
  u8& command = registers_[kCr];
  command = static_cast<u8>(read_at == reg<u16>(kCbr) ? command | kCrBufe : command & ~kCrBufe);
  u8& wires = registers_[k9346];
  wires = static_cast<u8>(eeprom_.data_out() ? wires | kEedo : wires & ~kEedo);
  set<u32>(kTctr, timer_ticks());
  u16 summary = 0;
  for (unsigned slot = 0; slot < 4; ++slot) {
    const u32 status = reg<u32>(kTsd + 4 * slot);
    if (status & kTsdTok) summary = static_cast<u16>(summary | 0x1000u << slot);
    if (status & kTsdOwn) summary = static_cast<u16>(summary | 1u << slot);
  }
  set<u16>(kTsadSummary, summary);
}

/// Configuration and addresses are protected until 9346CR unlocks them.
bool Rtl8139::locked(u32 offset) const {
  const bool configuration = (offset >= kConfig0 && offset <= kConfig1) || offset == kConfig3 || offset == kConfig4;
  return (configuration || offset < kIdr + 6u) && (registers_[k9346] & kEeMode) != kEeUnlock;
}

void Rtl8139::store(u32 offset, u64 value, unsigned width) {
  for (unsigned i = 0; i < width; ++i) {
    const u32 at = offset + i;
    const u8 byte = static_cast<u8>(value >> (8 * i)), mask = locked(at) ? u8{0} : writable_bits(at);
    u8& stored = registers_[at];
    stored = static_cast<u8>((stored & ~mask) | (byte & mask));
    if (at == kIsr || at == kIsr + 1) stored = static_cast<u8>(stored & ~byte);
    if (at == kTppoll && (byte & kPollSwInt)) raise(kSwInt);
    if (at == kTppoll && (byte & (kPollNormal | kPollHigh))) port_.kick();
    if (at >= kMpc && at < kMpc + 3) stored = 0;
    if (at == kTctr) timer_start_ns_ = clock_.now_ns(), arm_timer();
  }
}

void Rtl8139::after_write(u32 offset, unsigned width, const std::array<u8, 256>& before) {
  auto touched = [&](u32 first, u32 bytes) { return offset < first + bytes && first < offset + width; };
  if (touched(kTsd, 16) && !plus_transmit()) port_.kick();
  if (touched(kDtccr, 4) && plus_transmit() && (reg<u32>(kDtccr) & kDumpTally)) dump_tally();
  if (touched(kTnpds, 8)) transmit_index_ = 0;
  if (touched(kRdsar, 8)) receive_index_ = 0;
  if (touched(kCr, 1)) command_written(before[kCr]);
  if (touched(kCapr, 2) || touched(kRcr, 4) || touched(kRbstart, 4)) {
    if (touched(kRbstart, 4)) set<u16>(kCbr, 0), set<u16>(kCapr, 0xfff0);
    port_.resume_receive();
  }
  if (touched(k9346, 1)) eeprom_written();
  if (touched(kBmcr, 2)) phy_control_written(load_le<u16>(&before[kBmcr]));
  if (touched(kTimerInt, 4)) arm_timer();
  if (touched(kImr, 4)) update_interrupt();
}

void Rtl8139::command_written(u8 before) {
  if (registers_[kCr] & kCrRst) return reset_registers();
  const u8 now = registers_[kCr];
  if (!(before & kCrRe) && (now & kCrRe)) {
    receive_index_ = 0;
    set<u16>(kCbr, 0);
    port_.resume_receive();
  }
  if (!(before & kCrTe) && (now & kCrTe)) {
    transmit_index_ = 0;
    next_slot_ = 0;
    port_.kick();
  }
}

void Rtl8139::eeprom_written() {
  const u8 wires = registers_[k9346];
  const u8 mode = wires & kEeMode;
  if (mode == kEeProgram) return eeprom_.set_pins(wires & kEecs, wires & kEesk, wires & kEedi);
  eeprom_.set_pins(false, false, false);
  if (mode != kEeLoad) return;
  load_from_eeprom();
  registers_[k9346] = 0;
}

void Rtl8139::phy_control_written(u16 before) {
  (void)before;
  const u16 control = reg<u16>(kBmcr);
  if (control & kBmcrReset) return reset_phy();
  if (!(control & kBmcrRestart)) return;
  set<u16>(kBmcr, static_cast<u16>(control & ~kBmcrRestart));
  show_link(link_);
}

// Timer: 33 MHz up from the last write to TCTR.

u32 Rtl8139::timer_ticks() const {
  return static_cast<u32>(static_cast<unsigned __int128>(clock_.now_ns() - timer_start_ns_) * kTimerHz / kNsPerSecond);
}

void Rtl8139::arm_timer() {
  const u32 target = reg<u32>(kTimerInt);
  if (target == 0) return alarm_->cancel();
  const u32 distance = target - timer_ticks();
  const u64 left = distance ? distance : u64{1} << 32;
  alarm_->arm_at(clock_.now_ns() + left * kNsPerSecond / kTimerHz + 1);
}

void Rtl8139::timer_fired() {
  Lock lock(mutex_);
  const u32 target = reg<u32>(kTimerInt);
  if (target == 0) return;
  const u32 late = timer_ticks() - target;
  if (late > ~u32{0} / 2) return arm_timer();  // rearmed meanwhile
  raise(kTimeOut);
  arm_timer();  // for when it comes round again
}

// Interrupts and counters.

void Rtl8139::raise(u16 causes) {
  set<u16>(kIsr, static_cast<u16>(reg<u16>(kIsr) | causes));
  update_interrupt();
}

void Rtl8139::update_interrupt() { function_.set_intx((reg<u16>(kIsr) & reg<u16>(kImr)) != 0); }

void Rtl8139::dump_tally() {
  std::array<u8, 64> out{};
  store_le<u64>(&out[0], tally_.sent);
  store_le<u64>(&out[8], tally_.received);
  store_le<u16>(&out[28], tally_.missed);
  store_le<u64>(&out[40], tally_.received_own);
  store_le<u64>(&out[48], tally_.received_broadcast);
  store_le<u32>(&out[56], tally_.received_multicast);
  const u64 at = u64{reg<u32>(kDtccr + 4)} << 32 | (reg<u32>(kDtccr) & ~63u);
  dma_.write(at, out);
  tally_ = {};
  set<u32>(kDtccr, reg<u32>(kDtccr) & ~kDumpTally);
}

// Saved state.

void Rtl8139::Tally::visit(Archive& archive) {
  archive.field(1, "sent", sent);
  archive.field(2, "received", received);
  archive.field(3, "received_own", received_own);
  archive.field(4, "received_broadcast", received_broadcast);
  archive.field(5, "received_multicast", received_multicast);
  archive.field(6, "missed", missed);
}

void Rtl8139::Outgoing::visit(Archive& archive) {
  archive.blob(1, "frame", frame, ethernet::kMaxFrameBytes);
  archive.field(2, "started", started);
  archive.field(3, "command", command);
  archive.field(4, "vlan", vlan);
}

void Rtl8139::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  Lock lock(mutex_);
  archive.bytes(2, "registers", registers_);
  archive.part(3, "eeprom", [this](Archive& part) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { eeprom_.visit(part); });
  archive.field(4, "next_slot", next_slot_);
  archive.field(5, "transmit_index", transmit_index_);
  archive.field(6, "receive_index", receive_index_);
  archive.field(7, "timer_start_ns", timer_start_ns_);
  archive.part(8, "tally", [this](Archive& part) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { tally_.visit(part); });
  archive.part(9, "outgoing", [this](Archive& part) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { outgoing_.visit(part); });
  if (!archive.loading()) return;
  next_slot_ &= 3;
  timer_start_ns_ = std::min(timer_start_ns_, clock_.now_ns());
  link_ = port_.link_up();
  show_link(link_);
  arm_timer();
  update_interrupt();
}

}  // namespace atl::devices
