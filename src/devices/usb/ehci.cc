#include "devices/usb/ehci.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr u32 kBarBytes = 0x1000, kOperationalAt = 0x20, kPortsAt = 0x44;
// Registers (2.3), offsets from kOperationalAt.
enum Register : u32 { kCommand = 0x00, kStatus = 0x04, kEnable = 0x08, kFrameIndex = 0x0c, kSegment = 0x10, kPeriodicBase = 0x14, kAsyncAddress = 0x18,
                      kConfigFlag = 0x40 };
constexpr u32 kRun = 1, kReset = 2, kPeriodicEnable = 16, kAsyncEnable = 32, kDoorbell = 64, kCommandMask = 0x00ff0b7d;
constexpr u32 kInterrupt = 1, kErrorInterrupt = 2, kPortChange = 4, kRollover = 8, kAsyncAdvance = 32, kStatusMask = 0x3f,
              kHalted = 1 << 12, kPeriodicRuns = 1 << 14, kAsyncRuns = 1 << 15;
// PORTSC (2.3.9).
constexpr u32 kConnected = 1, kConnectChange = 2, kEnabled = 4, kEnableChange = 8, kResume = 64, kSuspend = 128, kPortReset = 256, kLineK = 1 << 10,
              kPower = 1 << 12, kOwner = 1 << 13, kWritable = 0x007fe1c0 & ~kOwner, kChanges = kConnectChange | kEnableChange | 32;
// Links (3.1).
constexpr u32 kTerminate = 1, kLinkTypeMask = 6, kTypeQueue = 2, kAddressMask = ~u32{31};
// Tokens (3.5.3).
constexpr u32 kActive = 1 << 7, kHaltedToken = 1 << 6, kBabble = 1 << 4, kTransactionError = 1 << 3, kPing = 1, kIoc = 1 << 15, kToggle = 1u << 31;
constexpr u32 kPidOut = 0, kPidIn = 1;
constexpr u32 kBytesShift = 16, kBytesMask = 0x7fff;

constexpr unsigned kQueuesAFrame = 256, kMovesAQueue = 128, kPageBytes = 4096;
constexpr u64 kMaxLateFrames = 8;

constexpr Ehci::Model kModels[] = {{"usb-ehci", 0x24cd, 0x10, 4}, {"ich9-usb-ehci1", 0x293a, 0x03, 4}, {"ich9-usb-ehci2", 0x293c, 0x03, 4}};

}  // namespace

const Ehci::Model* Ehci::find_model(std::string_view type) {
  auto found = std::ranges::find(kModels, type, &Model::type);
  return found == std::end(kModels) ? nullptr : found;
}

Ehci::Ehci(const Model& model, memory::AddressSpace& memory, DeviceClock& clock, std::shared_ptr<Bus> bus)
    : model_(model),
      bus_(std::move(bus)),
      function_(model.type, {.vendor = 0x8086, .device = model.device, .revision = model.revision, .class_code = 0x0c0320,
                             .subsystem_vendor = 0x1af4, .subsystem = 0x1100}),
      dma_(memory, function_),
      frames_(clock, [this] { frame(); }) {
  PciBar bar;
  bar.kind = PciBar::Kind::Memory32;
  bar.size = kBarBytes;
  bar.device = this;
  function_.set_bar(0, bar);
  function_.set_interrupt_pin(model.pin);
  function_.set_byte(0x60, 0x20);  // USB 2.0
  function_.set_byte(0x61, 0x20);  // frame length
  Lock lock(bus_->mutex());
  bus_->set_master(this);
  for (unsigned port = 0; port < bus_->ports(); ++port) bus_->set_controller(port, this);
  reset_registers();
}

Ehci::~Ehci() {
  frames_.stop();
  Lock lock(bus_->mutex());
  for (unsigned port = 0; port < bus_->ports(); ++port)
    if (bus_->controller(port) == this) bus_->give_port(port, nullptr);
}

bool Ehci::add_companion(Controller& companion, unsigned first) {
  Lock lock(bus_->mutex());
  for (unsigned port = first; port < std::min(first + 2, kPorts); ++port) {
    companions_[port] = &companion;
    if (!configured_) set_owner(port, true);
  }
  return true;
}

/// A port with a companion takes slower devices, too.
std::vector<Speed> Ehci::speeds(unsigned port) const {
  if (!companions_[port]) return {Speed::High};
  return {Speed::High, Speed::Full, Speed::Low};
}

void Ehci::reset_registers() {
  frames_.stop();
  command_ = 0x00080000;
  status_ = kHalted;
  enable_ = frame_index_ = periodic_ = async_ = configured_ = 0;
  for (unsigned i = 0; i < kPorts; ++i) {
    port_[i] = kPower;
    set_owner(i, companions_[i] != nullptr);
    if (!companions_[i]) port_changed(i);
  }
  update_interrupt();
}

void Ehci::reset() {
  function_.reset();
  bus_->reset();
  Lock lock(bus_->mutex());
  reset_registers();
}

void Ehci::quiesce(std::function<void()> done) {
  {
    Lock lock(bus_->mutex());
    paused_ = true;
  }
  done();
}

void Ehci::resume() {
  Lock lock(bus_->mutex());
  paused_ = false;
}

// Ports (4.2).

void Ehci::set_owner(unsigned index, bool companion) {
  if (companion && !companions_[index]) companion = false;
  Controller* owner = companion ? companions_[index] : static_cast<Controller*>(this);
  port_[index] = companion ? port_[index] | kOwner : port_[index] & ~kOwner;
  bus_->give_port(index, owner);
}

void Ehci::port_changed(unsigned index) {
  u32& port = port_[index];
  const UsbDevice* device = bus_->controller(index) == this ? bus_->at(index) : nullptr;
  const bool was = port & kConnected;
  port &= ~(kConnected | kLineK);
  if (device) port |= kConnected | (device->speed() == Speed::Low ? kLineK : 0);
  else port &= ~(kEnabled | kSuspend);
  if (was == (device != nullptr)) return;
  port |= kConnectChange;
  status_ |= kPortChange;
  update_interrupt();
}

void Ehci::write_port(unsigned index, u32 value) {
  u32& port = port_[index];
  port &= ~(value & kChanges);
  if (!(value & kEnabled)) port &= ~kEnabled;
  const bool reset_ends = (port & kPortReset) && !(value & kPortReset), resume_ends = (port & kResume) && !(value & kResume);
  if (value & kPortReset) port &= ~kEnabled;
  port = (port & ~kWritable) | (value & kWritable);
  if (reset_ends && (port & kConnected)) {
    UsbDevice* device = bus_->at(index);
    device->bus_reset();
    if (device->speed() == Speed::High) port |= kEnabled;  // a slower one is for the companion
    port &= ~kSuspend;
  }
  if (resume_ends) port &= ~kSuspend;
  if (configured_ && ((value ^ port) & kOwner)) set_owner(index, value & kOwner);
}

// Registers.

u64 Ehci::bus_read(u64 offset, unsigned width) {
  Lock lock(bus_->mutex());
  const u64 value = read_register(static_cast<u32>(offset) & ~3u) | (width == 8 ? u64{read_register(static_cast<u32>(offset) + 4)} << 32 : 0);
  return value >> (8 * (offset & 3)) & byte_mask(width);
}

void Ehci::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset & 3 || width < 4) return;
  Lock lock(bus_->mutex());
  write_register(static_cast<u32>(offset), static_cast<u32>(value));
  if (width == 8) write_register(static_cast<u32>(offset) + 4, static_cast<u32>(value >> 32));
  update_interrupt();
}

u32 Ehci::read_register(u32 offset) const {
  if (offset == 0) return 0x01000000 | kOperationalAt;
  // Companions by two ports (2.2.3); nothing is optional but that.
  const u32 companions = static_cast<u32>(std::ranges::count_if(companions_, [](const Controller* c) { return c != nullptr; })) / 2;
  if (offset == 4) return kPorts | 1 << 4 | (companions ? 2u << 8 : 0) | companions << 12;
  if (offset == 8) return 0x00000006;  // frame lists of other lengths, parking
  if (offset < kOperationalAt) return 0;
  const u32 at = offset - kOperationalAt;
  if (at >= kPortsAt && at < kPortsAt + 4 * kPorts) return port_[(at - kPortsAt) / 4];
  switch (at) {
    case kCommand: return command_;
    case kStatus: return status_;
    case kEnable: return enable_;
    case kFrameIndex: return frame_index_;
    case kPeriodicBase: return periodic_;
    case kAsyncAddress: return async_;
    case kConfigFlag: return configured_;
    default: return 0;
  }
}

void Ehci::write_register(u32 offset, u32 value) {
  if (offset < kOperationalAt) return;
  const u32 at = offset - kOperationalAt;
  if (at >= kPortsAt && at < kPortsAt + 4 * kPorts) return write_port((at - kPortsAt) / 4, value);
  switch (at) {
    case kCommand: return write_command(value);
    case kStatus: status_ &= ~(value & kStatusMask); return;
    case kEnable: enable_ = value & kStatusMask; return;
    case kFrameIndex: frame_index_ = value & 0x3fff; return;
    case kPeriodicBase: periodic_ = value & 0xfffff000; return;
    case kAsyncAddress: async_ = value & kAddressMask; return;
    case kConfigFlag:
      if (configured_ == (value & 1)) return;
      configured_ = value & 1;
      for (unsigned i = 0; i < kPorts; ++i) set_owner(i, !configured_);
      return;
    default: return;
  }
}

void Ehci::write_command(u32 value) {
  if (value & kReset) return reset_registers();
  command_ = value & kCommandMask;
  if (command_ & kRun) {
    status_ &= ~kHalted;
    frames_.run();
    frames_.poke();
  } else {
    frames_.stop();
    status_ |= kHalted;
  }
  status_ = (status_ & ~(kPeriodicRuns | kAsyncRuns)) | (command_ & kPeriodicEnable ? kPeriodicRuns : 0) | (command_ & kAsyncEnable ? kAsyncRuns : 0);
  if ((command_ & kDoorbell) && !(command_ & kAsyncEnable)) {
    command_ &= ~kDoorbell;
    status_ |= kAsyncAdvance;
  }
}

void Ehci::update_interrupt() { function_.set_intx((status_ & enable_ & kStatusMask) != 0); }

// Schedules (4.4 to 4.8).

/// A sleeping device that asks for it: the driver ends the resume (4.3.1).
void Ehci::wake_ports() {
  for (unsigned i = 0; i < kPorts; ++i) {
    UsbDevice* device = bus_->controller(i) == this ? bus_->at(i) : nullptr;
    if (!device || !(port_[i] & kSuspend) || port_[i] & kResume || !device->asks_to_wake()) continue;
    port_[i] |= kResume;
    status_ |= kPortChange;
    update_interrupt();
  }
}

void Ehci::frame() {
  Lock lock(bus_->mutex());
  if (!paused_) wake_ports();
  if (!(command_ & kRun) || paused_) return;
  const u64 frames = frames_.passed(kMaxLateFrames);
  for (u64 i = 0; i < std::max<u64>(frames, 1); ++i) {
    if (command_ & kPeriodicEnable) run_periodic();
    if (i >= frames) continue;
    const u32 before = frame_index_;
    frame_index_ = (frame_index_ + 8) & 0x3fff;
    if (frame_index_ < before) status_ |= kRollover;
  }
  if (command_ & kAsyncEnable) run_async();
  if (command_ & kDoorbell) {  // nothing of the list is kept between frames
    command_ &= ~kDoorbell;
    status_ |= kAsyncAdvance;
  }
  update_interrupt();
}

void Ehci::run_periodic() {
  const u32 entries = 1024u >> (command_ >> 2 & 3);
  u32 link = kTerminate;
  dma_.read_object(periodic_ + (frame_index_ >> 3) % entries * 4, link);
  for (unsigned i = 0; i < kQueuesAFrame && !(link & kTerminate); ++i) {
    const u32 at = link & kAddressMask;
    if ((link & kLinkTypeMask) == kTypeQueue) run_queue(at);
    if (!dma_.read_object(at, link)) return;
  }
}

void Ehci::run_async() {
  for (unsigned turn = 0; turn < kMovesAQueue; ++turn) {
    bool moved = false;
    u32 at = async_;
    for (unsigned i = 0; i < kQueuesAFrame; ++i) {
      if (run_queue(at) == Step::Moved) moved = true;
      u32 link = kTerminate;
      if (!dma_.read_object(at, link) || (link & kTerminate) || (link & kLinkTypeMask) != kTypeQueue) break;
      at = link & kAddressMask;
      if (at == async_) break;
    }
    if (!moved) return;
  }
}

bool Ehci::load_queue(u32 at, QueueHead& head) {
  std::array<u8, 48> raw;
  if (!dma_.read(at, raw)) return false;
  auto dword = [&](unsigned index) { return load_le<u32>(&raw[index * 4]); };
  head = {dword(0), dword(1), dword(2), dword(3), {dword(4), dword(5), dword(6), {}}};
  for (unsigned i = 0; i < 5; ++i) head.overlay.pages[i] = dword(7 + i);
  return true;
}

/// From the current pointer on: the rest is the driver's.
void Ehci::store_queue(u32 at, const QueueHead& head) {
  std::array<u8, 36> raw;
  store_le<u32>(&raw[0], head.current);
  store_le<u32>(&raw[4], head.overlay.next);
  store_le<u32>(&raw[8], head.overlay.alternate);
  store_le<u32>(&raw[12], head.overlay.token);
  for (unsigned i = 0; i < 5; ++i) store_le<u32>(&raw[16 + 4 * i], head.overlay.pages[i]);
  dma_.write(at + 12, raw);
}

bool Ehci::advance(QueueHead& head) {
  const bool was_short = head.overlay.token >> kBytesShift & kBytesMask;
  const u32 link = was_short && !(head.overlay.alternate & kTerminate) ? head.overlay.alternate : head.overlay.next;
  if (link & kTerminate) return false;
  std::array<u8, 32> raw;
  if (!dma_.read(link & kAddressMask, raw)) return false;
  const u32 token = load_le<u32>(&raw[8]);
  if (!(token & kActive)) return false;
  const bool toggle_from_descriptor = head.characteristics >> 14 & 1;
  const u32 kept = head.overlay.token & (kToggle | kPing);
  head.current = link & kAddressMask;
  head.overlay.next = load_le<u32>(&raw[0]);
  head.overlay.alternate = load_le<u32>(&raw[4]);
  head.overlay.token = toggle_from_descriptor ? token : (token & ~kToggle) | (kept & kToggle);
  for (unsigned i = 0; i < 5; ++i) head.overlay.pages[i] = load_le<u32>(&raw[12 + 4 * i]);
  return true;
}

/// The descriptor is done: its token goes back to it.
void Ehci::finish(QueueHead& head) {
  dma_.write_object(head.current + 8, head.overlay.token);
  if (head.overlay.token & kIoc) status_ |= kInterrupt;
  if (head.overlay.token & kHaltedToken) status_ |= kErrorInterrupt;
}

Ehci::Step Ehci::run_queue(u32 at) {
  QueueHead head;
  if (!load_queue(at, head)) return Step::Idle;
  Step step = Step::Idle;
  for (unsigned i = 0; i < kMovesAQueue; ++i) {
    if (head.overlay.token & kHaltedToken) break;
    if (!(head.overlay.token & kActive) && !advance(head)) break;
    UsbDevice* device = find(static_cast<u8>(head.characteristics & 0x7f));
    if (!device) {
      head.overlay.token = (head.overlay.token & ~kActive) | kHaltedToken | kTransactionError;
    } else if (!transact(head, *device)) {
      break;
    }
    step = Step::Moved;
    if (!(head.overlay.token & kActive)) finish(head);
  }
  store_queue(at, head);
  return step;
}

/// One packet. False: the device had nothing.
bool Ehci::transact(QueueHead& head, UsbDevice& device) {
  u32& token = head.overlay.token;
  const u32 packet = std::max(head.characteristics >> 16 & 0x7ff, 8u), left = token >> kBytesShift & kBytesMask, pid = token >> 8 & 3;
  const u8 endpoint = static_cast<u8>(head.characteristics >> 8 & 15);
  const u32 part = std::min(packet, left);
  buffer_.resize(part);
  Overlay moved = head.overlay;
  if (pid != kPidIn) copy(moved, buffer_, false);
  const Outcome outcome = pid == kPidIn ? device.in(endpoint, buffer_) : pid == kPidOut ? device.out(endpoint, buffer_) : device.setup(buffer_);
  if (outcome.status == Answer::Nak) return false;
  if (outcome.status != Answer::Ok) {
    token = (token & ~kActive) | kHaltedToken | (outcome.status == Answer::Babble ? kBabble : 0);
    return true;
  }
  if (pid == kPidIn) {
    moved = head.overlay;
    copy(moved, std::span(buffer_).first(outcome.bytes), true);
  }
  head.overlay = moved;
  const u32 rest = left - static_cast<u32>(outcome.bytes);
  token = (token & ~(kBytesMask << kBytesShift)) | rest << kBytesShift;
  token ^= kToggle;
  if (rest == 0 || outcome.bytes < part || (pid == kPidIn && outcome.bytes < packet)) token &= ~kActive;
  return true;
}

/// Between `buffer` and the pages at the overlay's place, which moves on (3.5.4).
bool Ehci::copy(Overlay& overlay, std::span<u8> buffer, bool to_guest) {
  while (!buffer.empty()) {
    u32 page = overlay.token >> 12 & 7;
    const u32 offset = overlay.pages[0] & (kPageBytes - 1);
    if (page >= overlay.pages.size()) return false;
    const u32 bytes = std::min<u32>(static_cast<u32>(buffer.size()), kPageBytes - offset);
    const u64 at = (overlay.pages[page] & ~(kPageBytes - 1)) + offset;
    to_guest ? dma_.write(at, buffer.first(bytes)) : dma_.read(at, buffer.first(bytes));
    buffer = buffer.subspan(bytes);
    const u32 after = offset + bytes;
    overlay.pages[0] = (overlay.pages[0] & ~(kPageBytes - 1)) | (after & (kPageBytes - 1));
    if (after == kPageBytes) overlay.token = (overlay.token & ~(7u << 12)) | ++page << 12;
  }
  return true;
}

UsbDevice* Ehci::find(u8 address) const {
  for (unsigned i = 0; i < kPorts; ++i) {
    if (!(port_[i] & kEnabled) || (port_[i] & (kSuspend | kOwner))) continue;
    if (UsbDevice* device = bus_->find(i, address)) return device;
  }
  return nullptr;
}

void Ehci::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  Lock lock(bus_->mutex());
  archive.field(2, "command", command_);
  archive.field(3, "status", status_);
  archive.field(4, "enable", enable_);
  archive.field(5, "frame_index", frame_index_);
  archive.field(6, "periodic", periodic_);
  archive.field(7, "async", async_);
  u32 configured = configured_;
  archive.field(8, "configured", configured);
  std::array<u32, kPorts> ports = port_;
  for (u32 i = 0; i < kPorts; ++i) archive.field(16 + i, "port", ports[i]);
  if (archive.loading()) {
    configured_ = configured & 1;
    for (unsigned i = 0; i < kPorts; ++i) {
      set_owner(i, ports[i] & kOwner);
      port_[i] = (ports[i] & ~kOwner) | (port_[i] & kOwner);
    }
    frame_index_ &= 0x3fff;
    periodic_ &= 0xfffff000;
    async_ &= kAddressMask;
    frames_.stop();
    if (command_ & kRun) frames_.run();
    update_interrupt();
  }
  lock.unlock();
  archive.part(9, "bus", [this](Archive& part) { bus_->visit(part); });
  lock.lock();
}

}  // namespace atl::devices::usb
