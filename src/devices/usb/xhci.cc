#include "devices/usb/xhci.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices::usb {

using namespace xhci;

namespace {

constexpr unsigned kMsixBar = 2;
constexpr u64 kMicroframeNs = 125'000;
constexpr u32 kAddressMask = ~u32{63};

PciIdentity identity_of(bool nec) {
  return {.vendor = static_cast<u16>(nec ? 0x1033 : 0x1b36), .device = static_cast<u16>(nec ? 0x0194 : 0x000d),
          .revision = static_cast<u8>(nec ? 3 : 1), .class_code = 0x0c0330, .subsystem_vendor = 0x1af4, .subsystem = 0x1100};
}

u32 speed_number(Speed speed) { return speed == Speed::Full ? 1 : speed == Speed::Low ? 2 : speed == Speed::High ? 3 : 4; }

void set_low(u64& value, u32 low) { value = (value & ~u64{0xffffffff}) | low; }
void set_high(u64& value, u32 high) { value = (value & 0xffffffff) | u64{high} << 32; }

}  // namespace

Xhci::Xhci(const Options& options, const Wiring& wiring, std::shared_ptr<Bus> bus)
    : options_(options),
      bus_(std::move(bus)),
      function_(options.nec ? "nec-usb-xhci" : "qemu-xhci", identity_of(options.nec)),
      dma_(wiring.memory, function_),
      clock_(wiring.clock),
      alarm_(wiring.clock.create_alarm([this] { work(); })),
      slots_(kSlots + 1) {
  Lock lock(bus_->mutex());
  for (unsigned port = 0; port < bus_->ports(); ++port) bus_->set_controller(port, this);
  reset_registers();
}

Xhci::~Xhci() {
  alarm_->cancel();
  Lock lock(bus_->mutex());
  for (unsigned port = 0; port < bus_->ports(); ++port) bus_->give_port(port, nullptr);
}

Result<std::unique_ptr<Xhci>> Xhci::create(const Options& options, const Wiring& wiring, std::shared_ptr<Bus> bus) {
  std::unique_ptr<Xhci> made(new Xhci(options, wiring, std::move(bus)));
  TRY(made->build(wiring.vm));
  return made;
}

Status Xhci::build(cpu::Vm& vm) {
  PciBar bar;
  bar.kind = PciBar::Kind::Memory64;
  bar.size = kBarBytes;
  bar.device = this;
  function_.set_bar(0, bar);
  function_.set_interrupt_pin(1);
  function_.set_byte(0x60, 0x30);  // USB 3.0
  return function_.add_msix(vm, kInterrupters, kMsixBar);
}

void Xhci::reset_registers() {
  command_ = dnctrl_ = config_ = 0;
  status_ = kHalted;
  crcr_ = dcbaap_ = 0;
  command_ring_ = {};
  commands_ready_ = command_ring_running_ = false;
  interrupters_ = {};
  signals_ = 0;
  for (Slot& slot : slots_) slot = {};
  for (unsigned i = 0; i < port_count(); ++i) {
    ports_[i] = kPower | kLinkDetect << kLinkShift;
    if (i < options_.usb2_ports) port_changed(i);
  }
  update_interrupt();
}

void Xhci::reset() {
  function_.reset();
  bus_->reset();
  Lock lock(bus_->mutex());
  reset_registers();
}

void Xhci::quiesce(std::function<void()> done) {
  {
    Lock lock(bus_->mutex());
    paused_ = true;
  }
  done();
}

void Xhci::resume() {
  {
    Lock lock(bus_->mutex());
    paused_ = false;
  }
  device_woke();
}

// Ports.

void Xhci::port_changed(unsigned index) {
  u32& port = ports_[index];
  const UsbDevice* device = bus_->at(index);
  const bool was = port & kConnected;
  port &= ~(kConnected | kSpeedMask | kLinkMask);
  if (device) {
    port |= kConnected | speed_number(device->speed()) << kSpeedShift | kLinkPolling << kLinkShift;
  } else {
    port = (port & ~kEnabled) | kLinkDetect << kLinkShift;
  }
  if (was != (device != nullptr)) tell_port(index, kConnectChange);
  device_woke();  // transfers to a device that is gone end
}

void Xhci::tell_port(unsigned index, u32 changes) {
  const bool news = (ports_[index] & changes) != changes;
  ports_[index] |= changes;
  if (!news || !(command_ & kRun)) return;
  status_ |= kPortChange;
  send_event({.type = kPortEvent, .code = Code::Success, .pointer = u64{index + 1} << 24}, 0);
}

void Xhci::reset_port(unsigned index) {
  u32& port = ports_[index];
  if (!(port & kConnected)) return;
  if (UsbDevice* device = bus_->at(index)) device->bus_reset();
  port = (port & ~kLinkMask) | kEnabled | kLinkU0 << kLinkShift;
  tell_port(index, kResetChange);
}

void Xhci::write_port(unsigned index, u32 value) {
  u32& port = ports_[index];
  port &= ~(value & kAllChanges);
  if (value & kEnabled) port &= ~kEnabled;  // writing one disables
  if (value & kLinkWrite) {
    const u32 link = value & kLinkMask;
    const u32 before = port & kLinkMask;
    const bool slept = before == kLinkU3 << kLinkShift || before == kLinkResume << kLinkShift;
    const bool resumes = slept && link != kLinkU3 << kLinkShift;
    port = (port & ~kLinkMask) | (link == kLinkResume << kLinkShift ? kLinkU0 << kLinkShift : link);
    if (resumes) tell_port(index, kLinkChange);
  }
  port = (port & ~(kPower | kWakeBits)) | (value & (kPower | kWakeBits));
  if (value & (kPortReset | kWarmReset)) reset_port(index);
}

/// A sleeping device that asks for it: the driver ends the resume (4.15.2.1).
void Xhci::wake_ports() {
  for (u32 i = 0; i < port_count() && i < bus_->ports(); ++i) {
    if ((ports_[i] & kLinkMask) != kLinkU3 << kLinkShift || !bus_->at(i) || !bus_->at(i)->asks_to_wake()) continue;
    ports_[i] = (ports_[i] & ~kLinkMask) | kLinkResume << kLinkShift;
    tell_port(i, kLinkChange);
  }
}

void Xhci::device_woke() { alarm_->arm_at(clock_.now_ns()); }

// Registers.

u64 Xhci::bus_read(u64 offset, unsigned width) {
  Lock lock(bus_->mutex());
  const u32 at = static_cast<u32>(offset) & ~3u;
  u64 value = read_register(at);
  if (width == 8) value |= u64{read_register(at + 4)} << 32;
  return value >> (8 * (offset & 3)) & byte_mask(width);
}

void Xhci::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset & 3 || width < 4) return;
  Lock lock(bus_->mutex());
  write_register(static_cast<u32>(offset), static_cast<u32>(value));
  if (width == 8) write_register(static_cast<u32>(offset) + 4, static_cast<u32>(value >> 32));
}

u32 Xhci::read_register(u32 offset) {
  if (offset < kOperationalAt) return read_capability(offset);
  if (offset >= kDoorbellsAt) return 0;
  if (offset >= kRuntimeAt) return read_runtime(offset - kRuntimeAt);
  if (offset >= kPortsAt) {
    const u32 index = (offset - kPortsAt) / 16;
    return index < port_count() && (offset & 15) == 0 ? ports_[index] : 0;
  }
  switch (offset - kOperationalAt) {
    case kCommand: return command_;
    case kStatus: return status_;
    case kPageSize: return 1;
    case kDnctrl: return dnctrl_;
    case kCrcrLow: return command_ring_running_ ? kRingRunning : 0;
    case kDcbaapLow: return static_cast<u32>(dcbaap_);
    case kDcbaapHigh: return static_cast<u32>(dcbaap_ >> 32);
    case kConfig: return config_;
    default: return 0;
  }
}

/// Capability registers (5.3) and the protocols of the ports (7.2): USB 2 ones first.
u32 Xhci::read_capability(u32 offset) const {
  constexpr u32 kName = 0x20425355;  // "USB "
  const u32 ports2 = options_.usb2_ports, ports3 = options_.usb3_ports;
  switch (offset) {
    case 0x00: return 0x01000000 | kOperationalAt;
    case 0x04: return kSlots | kInterrupters << 8 | port_count() << 24;
    case 0x08: return 0x0000000f;
    case 0x10: return 8u << 16 | 1;  // capabilities at 0x20; 64-bit addresses
    case 0x14: return kDoorbellsAt;
    case 0x18: return kRuntimeAt;
    case 0x20: return 0x02000402;
    case 0x24: return kName;
    case 0x28: return 1 | ports2 << 8;
    case 0x30: return 0x03000002;
    case 0x34: return kName;
    case 0x38: return (ports2 + 1) | ports3 << 8;
    default: return 0;
  }
}

u32 Xhci::read_runtime(u32 offset) const {
  if (offset == 0) return static_cast<u32>(clock_.now_ns() / kMicroframeNs) & 0x3fff;
  if (offset < kInterrupterAt || offset >= kInterrupterAt + kInterrupters * kInterrupterBytes) return 0;
  const Interrupter& r = interrupters_[(offset - kInterrupterAt) / kInterrupterBytes];
  switch ((offset - kInterrupterAt) % kInterrupterBytes) {
    case kIman: return r.iman;
    case kImod: return r.imod;
    case kErstsz: return r.erstsz;
    case kErstbaLow: return static_cast<u32>(r.erstba);
    case kErstbaHigh: return static_cast<u32>(r.erstba >> 32);
    case kErdpLow: return static_cast<u32>(r.erdp);
    case kErdpHigh: return static_cast<u32>(r.erdp >> 32);
    default: return 0;
  }
}

void Xhci::write_register(u32 offset, u32 value) {
  if (offset < kOperationalAt) return;
  if (offset >= kDoorbellsAt) return ring_doorbell((offset - kDoorbellsAt) / 4, value);
  if (offset >= kRuntimeAt) return write_runtime(offset - kRuntimeAt, value);
  if (offset < kPortsAt) return write_operational(offset - kOperationalAt, value);
  const u32 index = (offset - kPortsAt) / 16;
  if (index < port_count() && (offset & 15) == 0) write_port(index, value);
}

void Xhci::write_operational(u32 offset, u32 value) {
  switch (offset) {
    case kCommand: return write_command(value);
    case kStatus:
      status_ &= ~(value & (kSystemError | kEventInterrupt | kPortChange | kRestoreError));
      return update_interrupt();
    case kDnctrl: dnctrl_ = value & 0xffff; return;
    case kCrcrLow:
      if (value & (kRingStop | kRingAbort)) {
        if (!command_ring_running_) return;
        command_ring_running_ = commands_ready_ = false;
        return send_event({.type = kCompletionEvent, .code = Code::RingStopped, .pointer = command_ring_.at}, 0);
      }
      set_low(crcr_, value);
      command_ring_ = {crcr_ & ~u64{63}, (value & kRingCycle) != 0};
      return;
    case kCrcrHigh:
      set_high(crcr_, value);
      command_ring_.at = crcr_ & ~u64{63};
      return;
    case kDcbaapLow: return set_low(dcbaap_, value & kAddressMask);
    case kDcbaapHigh: return set_high(dcbaap_, value);
    case kConfig: config_ = value & 0xff; return;
    default: return;
  }
}

void Xhci::write_command(u32 value) {
  if (value & kReset) return reset_registers();
  command_ = value & 0xf0c;
  command_ |= value & kRun;
  if (value & kRun) {
    status_ &= ~kHalted;
    for (unsigned i = 0; i < port_count(); ++i) {
      // Devices that came before the controller ran are told of now.
      if (ports_[i] & kAllChanges) send_event({.type = kPortEvent, .code = Code::Success, .pointer = u64{i + 1} << 24}, 0);
    }
    device_woke();
  } else {
    status_ |= kHalted;
    command_ring_running_ = false;
  }
  // What drivers save over a suspension, this controller keeps anyway; a restore after a power cut finds nothing.
  if (value & kRestoreState) status_ |= kRestoreError;
  command_ &= ~(kSaveState | kRestoreState);
  update_interrupt();
}

void Xhci::write_runtime(u32 offset, u32 value) {
  if (offset < kInterrupterAt || offset >= kInterrupterAt + kInterrupters * kInterrupterBytes) return;
  const unsigned number = (offset - kInterrupterAt) / kInterrupterBytes;
  Interrupter& r = interrupters_[number];
  switch ((offset - kInterrupterAt) % kInterrupterBytes) {
    case kIman:
      if (value & kImanPending) r.iman &= ~kImanPending;
      r.iman = (r.iman & ~kImanEnable) | (value & kImanEnable);
      return update_interrupt();
    case kImod: r.imod = value; return;
    case kErstsz: r.erstsz = value & 0xffff; return;
    case kErstbaLow: return set_low(r.erstba, value & kAddressMask);
    case kErstbaHigh:
      set_high(r.erstba, value);
      r.cycle = true;
      load_segment(r, 0);
      return;
    case kErdpLow: {
      const bool busy = (r.erdp & kErdpBusy) && !(value & kErdpBusy);
      set_low(r.erdp, (value & ~kErdpBusy) | (busy ? kErdpBusy : 0));
      const u64 producer = r.segment_base + u64{r.index} * kTrbBytes;
      if ((value & kErdpBusy) && (r.erdp & ~u64{15}) != producer && r.segment_trbs) signal(number);
      return;
    }
    case kErdpHigh: return set_high(r.erdp, value);
    default: return;
  }
}

void Xhci::ring_doorbell(unsigned slot, u32 value) {
  if (!(command_ & kRun)) return;
  if (slot == 0) {
    if ((value & 0xff) != 0) return;
    commands_ready_ = command_ring_running_ = true;
  } else {
    const unsigned index = value & 0xff;
    if (slot > kSlots || !slots_[slot].enabled || index == 0 || index >= kEndpoints) return;
    Endpoint& endpoint = slots_[slot].endpoints[index];
    if (endpoint.state == kEndpointDisabled || endpoint.state == kEndpointHalted) return;
    if (endpoint.state == kEndpointStopped) {
      endpoint.state = kEndpointRunning;
      store_endpoint(slots_[slot], index);
    }
    endpoint.ready = true;
  }
  device_woke();
}

// Events and interrupts (4.9.4, 4.17).

bool Xhci::load_segment(Interrupter& r, u32 number) {
  std::array<u8, 16> entry{};
  r.segment = number;
  r.index = 0;
  r.segment_trbs = 0;
  if (!dma_.read(r.erstba + u64{number} * 16, entry)) return false;
  r.segment_base = load_le<u64>(&entry[0]) & ~u64{63};
  r.segment_trbs = load_le<u16>(&entry[8]);
  return r.segment_trbs >= 16;
}

void Xhci::send_event(const Event& event, unsigned number) {
  Interrupter& r = interrupters_[number < kInterrupters ? number : 0];
  if (r.segment_trbs == 0 || r.erstsz == 0) return;
  std::array<u8, kTrbBytes> trb{};
  store_le<u64>(&trb[0], event.pointer);
  store_le<u32>(&trb[8], (event.length & 0xffffff) | static_cast<u32>(event.code) << 24);
  store_le<u32>(&trb[12], u32{event.slot} << 24 | u32{event.endpoint} << 16 | u32{event.type} << 10 | (event.event_data ? 4u : 0) | (r.cycle ? kCycle : 0));
  const u64 at = r.segment_base + u64{r.index} * kTrbBytes;
  // The cycle bit makes the event valid: last.
  dma_.write(at, std::span<const u8>(trb).first(12));
  dma_.write(at + 12, std::span<const u8>(trb).subspan(12));
  if (++r.index >= r.segment_trbs) {
    const u32 next = r.segment + 1 < r.erstsz ? r.segment + 1 : 0;
    if (next == 0) r.cycle = !r.cycle;
    if (!load_segment(r, next)) status_ |= kControllerError;
  }
  signal(static_cast<unsigned>(&r - interrupters_.data()));
}

void Xhci::signal(unsigned number) {
  signals_ |= 1u << number;
  device_woke();
}

void Xhci::deliver_signals() {
  for (unsigned number = 0; signals_ && number < kInterrupters; ++number) {
    if (!(signals_ >> number & 1)) continue;
    Interrupter& r = interrupters_[number];
    r.erdp |= kErdpBusy;
    r.iman |= kImanPending;
    status_ |= kEventInterrupt;
    if (!function_.msix_enabled() || !(r.iman & kImanEnable) || !(command_ & kInterruptEnable)) continue;
    r.iman &= ~kImanPending;
    function_.fire_msix(number);
  }
  signals_ = 0;
  update_interrupt();
}

void Xhci::update_interrupt() {
  const Interrupter& first = interrupters_[0];
  const bool level = (command_ & kInterruptEnable) && (first.iman & kImanPending) && (first.iman & kImanEnable);
  function_.set_intx(level && !function_.msix_enabled());
}

// Saved state.

void Xhci::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  archive.part(2, "bus", [this](Archive& part) { bus_->visit(part); });
  Lock lock(bus_->mutex());
  archive.field(3, "command", command_);
  archive.field(4, "status", status_);
  archive.field(5, "dnctrl", dnctrl_);
  archive.field(6, "config", config_);
  archive.field(7, "crcr", crcr_);
  archive.field(8, "dcbaap", dcbaap_);
  archive.field(9, "ring_at", command_ring_.at);
  archive.field(10, "ring_cycle", command_ring_.cycle);
  archive.field(11, "commands_ready", commands_ready_);
  archive.field(12, "ring_running", command_ring_running_);
  archive.field(13, "signals", signals_);
  for (u32 i = 0; i < port_count(); ++i) archive.field(100 + i, "port", ports_[i]);
  for (u32 i = 0; i < kInterrupters; ++i) {
    archive.part(200 + i, "interrupter", [&](Archive& part) {
      Interrupter& r = interrupters_[i];
      part.field(1, "iman", r.iman);
      part.field(2, "imod", r.imod);
      part.field(3, "erstsz", r.erstsz);
      part.field(4, "erstba", r.erstba);
      part.field(5, "erdp", r.erdp);
      part.field(6, "segment", r.segment);
      part.field(7, "index", r.index);
      part.field(8, "segment_trbs", r.segment_trbs);
      part.field(9, "segment_base", r.segment_base);
      part.field(10, "cycle", r.cycle);
    });
  }
  for (u32 i = 1; i <= kSlots; ++i) {
    archive.part(300 + i, "slot", [&](Archive& part) {
      Slot& slot = slots_[i];
      part.field(1, "enabled", slot.enabled);
      part.field(2, "root_port", slot.root_port);
      part.field(3, "route", slot.route);
      part.field(4, "context", slot.context);
      part.field(5, "interrupter", slot.interrupter);
      for (u32 e = 1; slot.enabled && e < kEndpoints; ++e) {
        part.part(10 + e, "endpoint", [&](Archive& inner) {
          Endpoint& endpoint = slot.endpoints[e];
          inner.field(1, "state", endpoint.state);
          inner.field(2, "kind", endpoint.kind);
          inner.field(3, "packet_bytes", endpoint.packet_bytes);
          inner.field(4, "at", endpoint.dequeue.at);
          inner.field(5, "cycle", endpoint.dequeue.cycle);
          inner.field(6, "done", endpoint.done);
          inner.field(7, "ready", endpoint.ready);
          inner.field(8, "waiting", endpoint.waiting);
        });
      }
    });
  }
  if (archive.loading()) update_interrupt();
}

}  // namespace atl::devices::usb
