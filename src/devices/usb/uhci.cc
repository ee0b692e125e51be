#include "devices/usb/uhci.h"

#include <algorithm>
#include <array>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr unsigned kBar = 4;
constexpr u32 kRegisterBytes = 32;
constexpr u16 kLegsup = 0xc0;

// Registers (2.1), offsets.
enum Register : u32 { kCommand = 0, kStatus = 2, kEnable = 4, kFrameNumber = 6, kFrameListLow = 8, kFrameListHigh = 10, kSof = 12, kPort = 16 };
constexpr u16 kRun = 1, kHcReset = 2, kGlobalReset = 4;
constexpr u16 kCommandMask = 0xff;
constexpr u16 kInterrupt = 1, kErrorInterrupt = 2, kResumeDetect = 4, kSystemError = 8, kProcessError = 16, kHalted = 32;
// In status_ beyond the register's bits: which cause kInterrupt has.
constexpr u16 kCompletion = 0x100, kShort = 0x200;
constexpr u16 kEnableTimeout = 1, kEnableResume = 2, kEnableCompletion = 4, kEnableShort = 8;
// PORTSC.
constexpr u16 kConnected = 1, kConnectChange = 2, kEnabled = 4, kEnableChange = 8, kResumePort = 0x40, kAlways = 0x80,
              kLowSpeed = 0x100, kPortReset = 0x200, kSuspend = 0x1000;
constexpr u16 kPortWritable = kEnabled | kResumePort | kPortReset | kSuspend;

// Links (3.1): of frame list, descriptors and queue heads.
constexpr u32 kTerminate = 1, kQueue = 2, kDepthFirst = 4, kAddressMask = ~u32{15};
// Descriptor control and status (3.2.2).
constexpr u32 kActive = 1 << 23, kStalled = 1 << 22, kBabble = 1 << 20, kNak = 1 << 19, kTimeout = 1 << 18, kIoc = 1 << 24, kShortDetect = 1 << 29,
              kErrorShift = 27, kLengthMask = 0x7ff;
constexpr u8 kPidIn = 0x69, kPidOut = 0xe1, kPidSetup = 0x2d;

constexpr u32 kBytesAFrame = 32 * 1024;
constexpr unsigned kStepsAFrame = 2048;
constexpr u64 kMaxLateFrames = 8;

constexpr Uhci::Model kModels[] = {
    {"piix3-usb-uhci", 0x7020, 0x01, 4}, {"piix4-usb-uhci", 0x7112, 0x01, 4},  {"ich9-usb-uhci1", 0x2934, 0x03, 1},
    {"ich9-usb-uhci2", 0x2935, 0x03, 2}, {"ich9-usb-uhci3", 0x2936, 0x03, 3},  {"ich9-usb-uhci4", 0x2937, 0x03, 1},
    {"ich9-usb-uhci5", 0x2938, 0x03, 2}, {"ich9-usb-uhci6", 0x2939, 0x03, 3},
};

}  // namespace

std::span<const Uhci::Model> Uhci::models() { return kModels; }

const Uhci::Model* Uhci::find_model(std::string_view type) {
  auto found = std::ranges::find(kModels, type, &Model::type);
  return found == std::end(kModels) ? nullptr : found;
}

Uhci::Uhci(const Model& model, memory::AddressSpace& memory, DeviceClock& clock, std::shared_ptr<Bus> bus, std::optional<unsigned> companion_of_port)
    : model_(model),
      bus_(std::move(bus)),
      companion_(companion_of_port.has_value()),
      first_port_(companion_of_port.value_or(0)),
      function_(model.type, {.vendor = 0x8086, .device = model.device, .revision = model.revision, .class_code = 0x0c0300,
                             .subsystem_vendor = 0x1af4, .subsystem = 0x1100}),
      dma_(memory, function_),
      frames_(clock, [this] { frame(); }) {
  PciBar bar;
  bar.kind = PciBar::Kind::Io;
  bar.size = kRegisterBytes;
  bar.device = this;
  function_.set_bar(kBar, bar);
  function_.set_interrupt_pin(model.pin);
  function_.set_byte(0x60, 0x10);  // USB 1.0
  function_.set_writable(kLegsup, 0xff);
  function_.set_writable(kLegsup + 1, 0xff);
  Lock lock(bus_->mutex());
  if (!companion_)
    for (unsigned port = 0; port < kPorts; ++port) bus_->set_controller(port, this);
  reset_registers();
}

Uhci::~Uhci() {
  frames_.stop();
  Lock lock(bus_->mutex());
  for (unsigned port = 0; port < bus_->ports(); ++port)
    if (bus_->controller(port) == this) bus_->give_port(port, nullptr);
}

void Uhci::reset_registers() {
  frames_.stop();
  command_ = 0;
  status_ = kHalted;
  enable_ = frame_number_ = 0;
  frame_list_ = 0;
  sof_ = 64;
  for (unsigned i = 0; i < kPorts; ++i) {
    port_[i] = kAlways;
    port_changed(first_port_ + i);
  }
  update_interrupt();
}

void Uhci::reset() {
  function_.reset();
  if (!companion_) bus_->reset();
  Lock lock(bus_->mutex());
  reset_registers();
}

void Uhci::quiesce(std::function<void()> done) {
  {
    Lock lock(bus_->mutex());
    paused_ = true;
  }
  done();
}

void Uhci::resume() {
  Lock lock(bus_->mutex());
  paused_ = false;
}

// Ports.

void Uhci::port_changed(unsigned bus_port) {
  if (bus_port < first_port_ || bus_port >= first_port_ + kPorts) return;
  u16& port = port_[bus_port - first_port_];
  const UsbDevice* device = bus_->controller(bus_port) == this ? bus_->at(bus_port) : nullptr;
  const bool was = port & kConnected;
  port = static_cast<u16>(port & ~(kConnected | kLowSpeed));
  if (device) {
    port |= kConnected | (device->speed() == Speed::Low ? kLowSpeed : 0);
    if (!was) port |= kConnectChange;
  } else if (was) {
    if (port & kEnabled) port |= kEnableChange;
    port = static_cast<u16>((port & ~kEnabled) | kConnectChange);
  }
  if (was == (device != nullptr)) return;
  if (port & kSuspend || !(command_ & kRun)) status_ |= kResumeDetect;
  update_interrupt();
}

void Uhci::write_port(unsigned index, u16 value) {
  u16& port = port_[index];
  const bool reset_ends = (port & kPortReset) && !(value & kPortReset), resume_ends = (port & kResumePort) && !(value & kResumePort);
  if (value & kPortReset && !(port & kPortReset)) {
    if (UsbDevice* device = port & kConnected ? bus_->at(first_port_ + index) : nullptr) device->bus_reset();
  }
  port = static_cast<u16>(port & ~(value & (kConnectChange | kEnableChange)));
  u16 writable = kPortWritable;
  if (!(port & kConnected)) writable &= static_cast<u16>(~kEnabled);
  port = static_cast<u16>((port & ~kPortWritable) | (value & writable));
  if (reset_ends) port = static_cast<u16>(port & ~kSuspend);
  if (resume_ends) port = static_cast<u16>(port & ~(kSuspend | kResumePort));
}

// Registers.

u64 Uhci::bus_read(u64 offset, unsigned width) {
  Lock lock(bus_->mutex());
  const u32 at = static_cast<u32>(offset) & ~1u;
  u64 value = read_register(at) | u64{read_register(at + 2)} << 16;
  return value >> (8 * (offset & 1)) & byte_mask(width);
}

void Uhci::bus_write(u64 offset, u64 value, unsigned width) {
  Lock lock(bus_->mutex());
  const u32 at = static_cast<u32>(offset);
  if (width == 1 && at == kSof) {
    sof_ = static_cast<u8>(value) & 0x7f;
    return;
  }
  for (unsigned i = 0; i < width; i += 2) {
    if (width == 1 || at & 1) return;  // registers are words (the SOF register apart)
    write_register(at + i, static_cast<u16>(value >> (8 * i)));
  }
}

u16 Uhci::read_register(u32 offset) {
  switch (offset) {
    case kCommand: return command_;
    case kStatus: return status_ & 0x3f;
    case kEnable: return enable_;
    case kFrameNumber: return frame_number_;
    case kFrameListLow: return static_cast<u16>(frame_list_);
    case kFrameListHigh: return static_cast<u16>(frame_list_ >> 16);
    case kSof: return sof_;
    case kPort:
    case kPort + 2: return port_[(offset - kPort) / 2];
    case kPort + 4:
    case kPort + 6: return 0xff7f;  // so that drivers count two ports
    default: return 0;
  }
}

void Uhci::write_register(u32 offset, u16 value) {
  switch (offset) {
    case kCommand: return write_command(value);
    case kStatus:
      status_ = static_cast<u16>(status_ & ~(value & 0x1f));
      if (value & kInterrupt) status_ = static_cast<u16>(status_ & ~(kCompletion | kShort));
      break;
    case kEnable: enable_ = value & 0xf; break;
    case kFrameNumber:
      if (!(command_ & kRun)) frame_number_ = value & 0x7ff;
      break;
    case kFrameListLow: frame_list_ = (frame_list_ & 0xffff0000) | (value & 0xf000); break;
    case kFrameListHigh: frame_list_ = (frame_list_ & 0xffff) | u32{value} << 16; break;
    case kPort:
    case kPort + 2: write_port((offset - kPort) / 2, value); break;
    default: break;
  }
  update_interrupt();
}

void Uhci::write_command(u16 value) {
  if (value & (kGlobalReset | kHcReset)) {
    for (unsigned i = 0; i < kPorts; ++i)
      if (UsbDevice* device = port_[i] & kConnected ? bus_->at(first_port_ + i) : nullptr) device->bus_reset();
    reset_registers();
    command_ = value & kGlobalReset;
    return;
  }
  command_ = value & kCommandMask;
  if (command_ & kRun) {
    status_ = static_cast<u16>(status_ & ~kHalted);
    frames_.run();
  } else {
    frames_.stop();
    status_ |= kHalted;
  }
}

void Uhci::update_interrupt() {
  const bool level = ((status_ & kCompletion) && (enable_ & kEnableCompletion)) || ((status_ & kShort) && (enable_ & kEnableShort)) ||
                     ((status_ & kErrorInterrupt) && (enable_ & kEnableTimeout)) || ((status_ & kResumeDetect) && (enable_ & kEnableResume)) ||
                     (status_ & (kSystemError | kProcessError));
  function_.set_intx(level);
}

void Uhci::fail(u16 status) {
  status_ |= status | kHalted;
  command_ = static_cast<u16>(command_ & ~kRun);
  frames_.stop();
}

// The schedule (3.4).

/// A sleeping device that asks for it: the driver ends the resume (2.1.7, "resume detect").
void Uhci::wake_ports() {
  for (unsigned i = 0; i < kPorts; ++i) {
    UsbDevice* device = port_[i] & kConnected ? bus_->at(first_port_ + i) : nullptr;
    if (!device || !(port_[i] & kSuspend) || port_[i] & kResumePort || !device->asks_to_wake()) continue;
    port_[i] |= kResumePort;
    status_ |= kResumeDetect;
    update_interrupt();
  }
}

void Uhci::frame() {
  Lock lock(bus_->mutex());
  if (!paused_) wake_ports();
  if (!(command_ & kRun) || paused_) return;
  u64 frames = frames_.passed(kMaxLateFrames);
  if (frames == 0) frames = 1, frame_number_ = static_cast<u16>((frame_number_ - 1) & 0x7ff);  // woken early: the same one again
  for (; frames && (command_ & kRun); --frames) {
    run_schedule();
    frame_number_ = static_cast<u16>((frame_number_ + 1) & 0x7ff);
  }
  update_interrupt();
}

void Uhci::run_schedule() {
  budget_ = kBytesAFrame;
  u32 link = 0;
  if (!dma_.read_object(frame_list_ + (frame_number_ & 1023u) * 4, link)) return fail(kSystemError);
  u32 queue = 0, queue_next = kTerminate;          // the queue head that the descriptors belong to, and what follows it
  std::unordered_map<u32, u32> seen;               // queue heads with the budget at the last visit
  u16 causes = 0;
  for (unsigned step = 0; step < kStepsAFrame && !(link & kTerminate) && (command_ & kRun) && budget_; ++step) {
    const u32 at = link & kAddressMask;
    if (link & kQueue) {
      auto [place, fresh] = seen.try_emplace(at, budget_);
      if (!fresh && place->second == budget_) break;  // a turn of a loop that did nothing
      place->second = budget_;
      std::array<u8, 8> head;
      if (!dma_.read(at, head)) return fail(kSystemError);
      queue_next = load_le<u32>(&head[0]);
      const u32 element = load_le<u32>(&head[4]);
      queue = element & kTerminate ? 0 : at;
      link = queue ? element : queue_next;
      continue;
    }
    std::array<u8, 16> raw;
    if (!dma_.read(at, raw)) return fail(kSystemError);
    Descriptor td = {load_le<u32>(&raw[0]), load_le<u32>(&raw[4]), load_le<u32>(&raw[8]), load_le<u32>(&raw[12])};
    const Next next = run_descriptor(td, causes);
    if (next != Next::Skip) dma_.write_object(at + 4, td.control);
    if (next == Next::Advance && queue) dma_.write_object(queue + 4, td.link);
    const bool goes_on = next == Next::Advance && (td.link & kDepthFirst);
    if (!queue || goes_on) {
      link = td.link;
    } else {
      link = queue_next;
      queue = 0;
    }
  }
  if (causes) status_ |= static_cast<u16>(causes | (causes & (kCompletion | kShort) ? kInterrupt : 0));
}

/// A descriptor in a queue may be a queue head again; then `link` says so and the loop above follows it.
Uhci::Next Uhci::run_descriptor(Descriptor& td, u16& causes) {
  if (!(td.control & kActive)) return Next::Skip;
  const u8 pid = static_cast<u8>(td.token);
  if (pid != kPidIn && pid != kPidOut && pid != kPidSetup) {
    fail(kProcessError);
    return Next::Skip;
  }
  const u32 wished = ((td.token >> 21) + 1) & kLengthMask;
  UsbDevice* device = find(static_cast<u8>(td.token >> 8 & 0x7f));
  auto finish = [&](u32 bits, size_t bytes) {
    td.control = (td.control & ~(kActive | kNak | kLengthMask)) | bits | ((static_cast<u32>(bytes) - 1) & kLengthMask);
    if (td.control & kIoc) causes |= kCompletion;
  };
  if (!device) {
    finish(kTimeout | kStalled, 0);
    td.control &= ~(3u << kErrorShift);
    causes |= kErrorInterrupt;
    return Next::Stay;
  }
  buffer_.resize(wished);
  if (pid != kPidIn && wished) dma_.read(td.buffer, buffer_);
  const Outcome outcome = transact(td, *device);
  if (outcome.status == Answer::Nak) {
    td.control |= kNak;
    return Next::Stay;
  }
  if (outcome.status != Answer::Ok) {
    finish(outcome.status == Answer::Babble ? kBabble | kStalled : kStalled, 0);
    causes |= kErrorInterrupt;
    return Next::Stay;
  }
  if (pid == kPidIn && outcome.bytes) dma_.write(td.buffer, std::span(buffer_).first(outcome.bytes));
  budget_ -= std::min<u32>(budget_, static_cast<u32>(outcome.bytes) + 8);
  finish(0, outcome.bytes);
  if (pid != kPidIn || outcome.bytes >= wished || !(td.control & kShortDetect)) return Next::Advance;
  causes |= kShort;
  return Next::Stay;
}

Outcome Uhci::transact(const Descriptor& td, UsbDevice& device) {
  const u8 endpoint = static_cast<u8>(td.token >> 15 & 15);
  switch (static_cast<u8>(td.token)) {
    case kPidSetup: return device.setup(buffer_);
    case kPidOut: return device.out(endpoint, buffer_);
    default: return device.in(endpoint, buffer_);
  }
}

UsbDevice* Uhci::find(u8 address) const {
  for (unsigned i = 0; i < kPorts; ++i) {
    constexpr u16 kReachable = kConnected | kEnabled;
    if ((port_[i] & kReachable) != kReachable || (port_[i] & kSuspend)) continue;
    if (UsbDevice* device = bus_->find(first_port_ + i, address)) return device;
  }
  return nullptr;
}

void Uhci::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  if (!companion_) archive.part(2, "bus", [this](Archive& part) { bus_->visit(part); });
  Lock lock(bus_->mutex());
  archive.field(3, "command", command_);
  archive.field(4, "status", status_);
  archive.field(5, "enable", enable_);
  archive.field(6, "frame_number", frame_number_);
  archive.field(7, "frame_list", frame_list_);
  archive.field(8, "sof", sof_);
  archive.field(9, "port0", port_[0]);
  archive.field(10, "port1", port_[1]);
  if (!archive.loading()) return;
  frame_number_ &= 0x7ff;
  frame_list_ &= 0xfffff000;
  frames_.stop();
  if (command_ & kRun) frames_.run();
  update_interrupt();
}

}  // namespace atl::devices::usb
