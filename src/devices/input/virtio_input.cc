#include "devices/input/virtio_input.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/endian.h"
#include "devices/virtio/spec.h"
#include "display/keys.h"

namespace atl::devices {
namespace {

using display::PointerEvent;

constexpr u16 kEventQueue = 0, kStatusQueue = 1;
constexpr u16 kQueueSize = 64;

// linux/input-event-codes.h
enum EventType : u16 { kSyn = 0, kKey = 1, kRel = 2, kAbs = 3, kLed = 0x11, kRep = 0x14 };
constexpr u16 kAxisX = 0, kAxisY = 1, kWheel = 8;
constexpr u16 kFirstButton = 0x110;
constexpr u16 kLedNum = 0, kLedCaps = 1, kLedScroll = 2;
constexpr u16 kBusVirtual = 6;

// Configuration (5.8.4): what is selected by the first two bytes.
enum Select : u8 { kIdName = 1, kIdSerial = 2, kIdDevice = 3, kEventBits = 0x11, kAbsInfo = 0x12 };
constexpr u32 kSelectAt = 0, kSubselectAt = 1, kSizeAt = 2, kDataAt = 8;
constexpr u16 kConfigBytes = 136, kDataBytes = kConfigBytes - kDataAt;

/// Linux numbers buttons left, right, middle, side, extra: as our bits.
constexpr unsigned kButtons = 5;

using Data = std::vector<u8>;

void put16(Data& out, u16 value) {
  out.push_back(static_cast<u8>(value));
  out.push_back(static_cast<u8>(value >> 8));
}
void put32(Data& out, u32 value) {
  put16(out, static_cast<u16>(value));
  put16(out, static_cast<u16>(value >> 16));
}
void set_bit(Data& bits, u16 code) {
  if (bits.size() <= code / 8u) bits.resize(code / 8u + 1);
  bits[code / 8u] |= static_cast<u8>(1 << code % 8);
}

Data bits_of(std::initializer_list<u16> codes) {
  Data bits;
  for (u16 code : codes) set_bit(bits, code);
  return bits;
}

Data key_bits(VirtioInputKind kind) {
  Data bits;
  if (kind != VirtioInputKind::Keyboard)
    for (u16 i = 0; i < kButtons; ++i) set_bit(bits, static_cast<u16>(kFirstButton + i));
  else
    for (u32 number = 1; number < 256; ++number)
      if (const u16 code = display::linux_code_of_key(static_cast<u8>(number))) set_bit(bits, code);
  return bits;
}

Data event_bits(VirtioInputKind kind, u8 type) {
  const bool keyboard = kind == VirtioInputKind::Keyboard;
  switch (type) {
    case kKey: return key_bits(kind);
    case kRel: return keyboard ? Data() : kind == VirtioInputKind::Mouse ? bits_of({kAxisX, kAxisY, kWheel}) : bits_of({kWheel});
    case kAbs: return kind == VirtioInputKind::Tablet ? bits_of({kAxisX, kAxisY}) : Data();
    case kLed: return keyboard ? bits_of({kLedNum, kLedCaps, kLedScroll}) : Data();
    case kRep: return keyboard ? bits_of({0}) : Data();
    default: return {};
  }
}

/// Bus, vendor, product, version.
Data identity(VirtioInputKind kind) {
  Data out;
  for (u16 value : {kBusVirtual, u16{0x0627}, static_cast<u16>(1 + static_cast<u16>(kind)), u16{2}}) put16(out, value);
  return out;
}

/// Least, most, noise, dead zone, resolution.
Data axis_info(VirtioInputKind kind, u8 axis) {
  Data out;
  if (kind != VirtioInputKind::Tablet || axis > kAxisY) return out;
  for (u32 value : {0u, static_cast<u32>(PointerEvent::kMax), 0u, 0u, 0u}) put32(out, value);
  return out;
}

Data text(std::string_view value) { return {value.begin(), value.end()}; }

}  // namespace

VirtioInput::VirtioInput(VirtioInputKind kind, std::string serial, Loop& loop, memory::AddressSpace& memory, display::InputRouter& router)
    : VirtioDevice({.device_id = virtio::kIdInput, .queue_sizes = {kQueueSize, kQueueSize}, .config_bytes = kConfigBytes}, loop, memory),
      kind_(kind), serial_(std::move(serial)), router_(router), pointer_(*this, kind == VirtioInputKind::Tablet) {
  set_config_writable(kSelectAt, 2);
  if (kind_ == VirtioInputKind::Keyboard) router_.add(keys_);
  else router_.add(pointer_);
}

VirtioInput::~VirtioInput() {
  if (kind_ == VirtioInputKind::Keyboard) router_.remove(keys_);
  else router_.remove(pointer_);
}

void VirtioInput::config_selected(std::span<u8> config) {
  const u8 subselect = config[kSubselectAt];
  Data data;
  switch (config[kSelectAt]) {
    case kIdName: data = text(kind_ == VirtioInputKind::Keyboard ? keys_.name() : pointer_.name()); break;
    case kIdSerial: data = text(serial_); break;
    case kIdDevice: data = identity(kind_); break;
    case kEventBits: data = event_bits(kind_, subselect); break;
    case kAbsInfo: data = axis_info(kind_, subselect); break;
    default: break;
  }
  data.resize(std::min<size_t>(data.size(), kDataBytes));
  std::ranges::fill(config.subspan(kDataAt), u8{0});
  std::ranges::copy(data, config.begin() + kDataAt);
  config[kSizeAt] = static_cast<u8>(data.size());
}

void VirtioInput::activated(u64) { set_in_use(true); }

void VirtioInput::reset_state() {
  set_in_use(false);
  waiting_.clear();
  leds_ = 0;
  keys_.set_leds(0);
}

void VirtioInput::set_in_use(bool on) {
  if (kind_ == VirtioInputKind::Keyboard) keys_.set_in_use(on);
  else pointer_.set_in_use(on);
}

void VirtioInput::visit(Archive& archive) {
  archive.field(1, "leds", leds_);
  if (archive.loading()) keys_.set_leds(leds_ & 7);
}

// -- control thread --------------------------------------------------------------------------------------------------------

void VirtioInput::tell_key(u8 number, bool down) {
  if (const u16 code = display::linux_code_of_key(number)) tell({{kKey, code, down}});
}

void VirtioInput::tell_pointer(const PointerEvent& e) {
  std::vector<Event> events;
  if (pointer_.absolute()) {
    events.push_back({kAbs, kAxisX, static_cast<u32>(e.x)});
    events.push_back({kAbs, kAxisY, static_cast<u32>(e.y)});
  } else {
    if (e.x) events.push_back({kRel, kAxisX, static_cast<u32>(e.x)});
    if (e.y) events.push_back({kRel, kAxisY, static_cast<u32>(e.y)});
  }
  if (e.wheel) events.push_back({kRel, kWheel, static_cast<u32>(-e.wheel)});  // up is positive
  const u8 changed = buttons_ ^ e.buttons;
  for (u16 i = 0; i < kButtons; ++i)
    if (changed >> i & 1) events.push_back({kKey, static_cast<u16>(kFirstButton + i), static_cast<u32>(e.buttons >> i & 1)});
  buttons_ = e.buttons;
  if (!events.empty()) tell(std::move(events));
}

/// Events that belong together, with the mark of their end.
void VirtioInput::tell(std::vector<Event> events) {
  events.push_back({kSyn, 0, 0});
  post([this, events = std::move(events)] {
    if (waiting_.size() + events.size() > kMaxWaiting) return;  // the guest does not look: lost, as on a real one
    waiting_.insert(waiting_.end(), events.begin(), events.end());
    if (running()) send_events();
  });
}

// -- loop ------------------------------------------------------------------------------------------------------------------

void VirtioInput::serve(u16 index) {
  if (index == kEventQueue) send_events();
  else take_status();
}

/// One event a buffer (5.8.6.1).
void VirtioInput::send_events() {
  refresh_memory();
  Queue& queue = queue_at(kEventQueue);
  while (!waiting_.empty()) {
    auto chain = queue.pop();
    if (!chain) break;
    const Event event = waiting_.front();
    waiting_.pop_front();
    std::array<u8, kEventBytes> bytes;
    store_le<u16>(&bytes[0], event.type);
    store_le<u16>(&bytes[2], event.code);
    store_le<u32>(&bytes[4], event.value);
    chain->add_written(chain->write(0, bytes));
  }
  queue.notify();
}

void VirtioInput::take_status() {
  constexpr u8 kBits[] = {display::kLedNum, display::kLedCaps, display::kLedScroll};
  Queue& queue = queue_at(kStatusQueue);
  while (auto chain = queue.pop()) {
    std::array<u8, kEventBytes> bytes{};
    if (chain->read(0, bytes) < bytes.size() || load_le<u16>(&bytes[0]) != kLed) continue;
    const u16 code = load_le<u16>(&bytes[2]);
    if (code >= std::size(kBits)) continue;
    leds_ = static_cast<u8>(load_le<u32>(&bytes[4]) ? leds_ | kBits[code] : leds_ & ~kBits[code]);
    keys_.set_leds(leds_);
  }
  queue.notify();
}

}  // namespace atl::devices
