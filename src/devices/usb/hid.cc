#include "devices/usb/hid.h"

#include <algorithm>
#include <iterator>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr u16 kVendor = 0x0627;
constexpr u8 kInterruptEndpoint = 1;
constexpr size_t kMaxEvents = 128;
constexpr i32 kFarthest = 1 << 16;

// Report descriptors (HID 1.11 section 6.2.2).
constexpr u8 kTabletReport[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01,              // generic desktop, mouse, application
    0x09, 0x01, 0xa1, 0x00,                          // pointer, physical
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05,              // buttons 1 to 5
    0x15, 0x00, 0x25, 0x01, 0x95, 0x05, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01,
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31,              // X and Y, 0 to 32767
    0x15, 0x00, 0x26, 0xff, 0x7f, 0x35, 0x00, 0x46, 0xff, 0x7f, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02,
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00, 0x75, 0x08, 0x95, 0x01, 0x81, 0x06,  // wheel
    0xc0, 0xc0};
constexpr u8 kMouseReport[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00,
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05,
    0x15, 0x00, 0x25, 0x01, 0x95, 0x05, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01,
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x09, 0x38,  // X, Y and wheel, relative
    0x15, 0x81, 0x25, 0x7f, 0x75, 0x08, 0x95, 0x03, 0x81, 0x06,
    0xc0, 0xc0};
constexpr u8 kKeyboardReport[] = {
    0x05, 0x01, 0x09, 0x06, 0xa1, 0x01,
    0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7, 0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02,  // modifiers
    0x95, 0x01, 0x75, 0x08, 0x81, 0x01,                                                              // reserved
    0x95, 0x05, 0x75, 0x01, 0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x91, 0x02, 0x95, 0x01, 0x75, 0x03, 0x91, 0x01,  // lights
    0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x25, 0xff, 0x05, 0x07, 0x19, 0x00, 0x29, 0xff, 0x81, 0x00,  // six keys
    0xc0};

constexpr u8 kFirstModifier = 0xe0, kLastModifier = 0xe7, kErrorRollOver = 0x01;
constexpr size_t kKeysInReport = 6;

// Usages (HID Usage Tables 1.12, section 10) by scan code of set 1: 0x01 to 0x58 as they are, then the others by pairs.
constexpr u8 kUsages[] = {
    0x00, 0x29, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2d, 0x2e, 0x2a, 0x2b,  // 00
    0x14, 0x1a, 0x08, 0x15, 0x17, 0x1c, 0x18, 0x0c, 0x12, 0x13, 0x2f, 0x30, 0x28, 0xe0, 0x04, 0x16,  // 10
    0x07, 0x09, 0x0a, 0x0b, 0x0d, 0x0e, 0x0f, 0x33, 0x34, 0x35, 0xe1, 0x31, 0x1d, 0x1b, 0x06, 0x19,  // 20
    0x05, 0x11, 0x10, 0x36, 0x37, 0x38, 0xe5, 0x55, 0xe2, 0x2c, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e,  // 30
    0x3f, 0x40, 0x41, 0x42, 0x43, 0x53, 0x47, 0x5f, 0x60, 0x61, 0x56, 0x5c, 0x5d, 0x5e, 0x57, 0x59,  // 40
    0x5a, 0x5b, 0x62, 0x63, 0x46, 0x00, 0x64, 0x44, 0x45,                                            // 50
};
struct KeyUsage {
  u8 number, usage;
};
constexpr KeyUsage kOtherUsages[] = {
    {0x59, 0x67}, {0x70, 0x88}, {0x73, 0x87}, {0x79, 0x8a}, {0x7b, 0x8b}, {0x7d, 0x89}, {0x7e, 0x85},
    {0x9c, 0x58}, {0x9d, 0xe4}, {0xa0, 0x7f}, {0xae, 0x81}, {0xb0, 0x80}, {0xb5, 0x54}, {0xb7, 0x46}, {0xb8, 0xe6}, {0xc6, 0x48},
    {0xc7, 0x4a}, {0xc8, 0x52}, {0xc9, 0x4b}, {0xcb, 0x50}, {0xcd, 0x4f}, {0xcf, 0x4d}, {0xd0, 0x51}, {0xd1, 0x4e}, {0xd2, 0x49},
    {0xd3, 0x4c}, {0xdb, 0xe3}, {0xdc, 0xe7}, {0xdd, 0x65}, {0xde, 0x66},
};

constexpr u16 code(u8 type, u8 request) { return static_cast<u16>(type << 8 | request); }

Outcome give(std::span<u8> to, std::span<const u8> from) {
  const size_t bytes = std::min(to.size(), from.size());
  std::copy_n(from.begin(), bytes, to.begin());
  return {Answer::Ok, bytes};
}

}  // namespace

u8 usage_of_key(u8 number) {
  if (number < std::size(kUsages)) return kUsages[number];
  auto found = std::ranges::find(kOtherUsages, number, &KeyUsage::number);
  return found == std::end(kOtherUsages) ? u8{0} : found->usage;
}

// Descriptors and requests.

std::string HidDevice::text(u8 number) const {
  if (number == 1) return "QEMU";
  if (number == 2) return kind_.product;
  return number == 3 ? (serial_.empty() ? "42" : serial_) : "";
}

std::vector<u8> HidDevice::hid_descriptor() const {
  return {9, kDescriptorHid, 0x11, 0x01, 0, 1, kDescriptorReport, static_cast<u8>(kind_.report.size()), static_cast<u8>(kind_.report.size() >> 8)};
}

Descriptors HidDevice::describe(Speed speed) const {
  const bool high = speed == Speed::High;
  Descriptors d;
  d.device = {18, kDescriptorDevice, 0x00, static_cast<u8>(high ? 2 : 1), 0, 0, 0, static_cast<u8>(high ? 64 : 8), kVendor & 0xff, kVendor >> 8,
              static_cast<u8>(kind_.product_number), static_cast<u8>(kind_.product_number >> 8), 0, 0, 1, 2, 3, 1};
  std::vector<u8> body = interface_descriptor({kClassHid, kind_.subclass, kind_.protocol}, 1);
  std::ranges::copy(hid_descriptor(), std::back_inserter(body));
  // 10 ms at full speed; at high speed an exponent of microframes: 4 ms.
  const EndpointSpec endpoint = {kDirectionIn | kInterruptEndpoint, kEndpointInterrupt, 8, static_cast<u8>(high ? 6 : 10)};
  std::ranges::copy(endpoint_descriptor(endpoint), std::back_inserter(body));
  d.configuration = configuration_descriptor(kAttributeRemoteWakeup, 100, body);
  return d;
}

Outcome HidDevice::control(const Setup& setup, std::span<u8> data) {
  switch (setup.code()) {
    case code(kDirectionIn | kToInterface, kGetDescriptor):
      if (setup.value >> 8 == kDescriptorReport) return give(data, kind_.report);
      if (setup.value >> 8 == kDescriptorHid) return give(data, hid_descriptor());
      return {Answer::Stall, 0};
    case code(kDirectionIn | kTypeClass | kToInterface, kGetReport): return give(data, report(true, boot_protocol_));
    case code(kDirectionIn | kTypeClass | kToInterface, kGetIdle): return give(data, {&idle_, 1});
    case code(kDirectionIn | kTypeClass | kToInterface, kGetProtocol): return give(data, std::array<u8, 1>{static_cast<u8>(boot_protocol_ ? 0 : 1)});
    case code(kTypeClass | kToInterface, kSetReport):
      if (!data.empty()) take_lights(data[0]);
      return {};
    case code(kTypeClass | kToInterface, kSetIdle): idle_ = static_cast<u8>(setup.value >> 8); return {};
    case code(kTypeClass | kToInterface, kSetProtocol): boot_protocol_ = setup.value == 0; return {};
    default: return {Answer::Stall, 0};
  }
}

Outcome HidDevice::data_in(u8 endpoint, std::span<u8> buffer) {
  if (endpoint != kInterruptEndpoint) return {Answer::Stall, 0};
  if (!std::exchange(polled_, true)) set_in_use(true);
  const std::vector<u8> bytes = report(false, boot_protocol_);
  return bytes.empty() ? Outcome{Answer::Nak, 0} : give(buffer, bytes);
}

Outcome HidDevice::data_out(u8, std::span<const u8>) { return {Answer::Stall, 0}; }

void HidDevice::reset_state() {
  idle_ = 0;
  boot_protocol_ = false;
  if (std::exchange(polled_, false)) set_in_use(false);
  clear();
}

void HidDevice::visit_state(Archive& archive) {
  archive.field(1, "idle", idle_);
  archive.field(2, "boot_protocol", boot_protocol_);
  archive.field(3, "polled", polled_);
  archive.part(4, "events", [this](Archive& part) { visit_events(part); });
  if (archive.loading()) set_in_use(polled_);
}

// Keyboard.

Keyboard::Keyboard(display::InputRouter& router, HidOptions options)
    : HidDevice({"QEMU USB Keyboard", 1, 1, kKeyboardReport, 8, 0x0001}, options.high_speed, std::move(options.serial)), router_(router) {
  router_.add(*this);
}

void Keyboard::key(u8 number, bool down) {
  const u8 usage = usage_of_key(number);
  if (usage == 0) return;
  {
    Lock lock(mutex_);
    if (events_.size() >= kMaxEvents) return;
    events_.push_back({usage, down});
  }
  wake();
}

void Keyboard::apply(u8 usage, bool down) {
  if (usage >= kFirstModifier && usage <= kLastModifier) {
    const u8 bit = static_cast<u8>(1u << (usage - kFirstModifier));
    modifiers_ = static_cast<u8>(down ? modifiers_ | bit : modifiers_ & ~bit);
    return;
  }
  std::erase(held_, usage);
  if (down) held_.push_back(usage);
}

/// One event a report, so that a fast press and release are both seen.
std::vector<u8> Keyboard::report(bool always, bool) {
  Lock lock(mutex_);
  if (events_.empty() && !always) return {};
  if (!events_.empty()) {
    apply(events_.front().usage, events_.front().down);
    events_.pop_front();
  }
  std::vector<u8> bytes = {modifiers_, 0};
  for (size_t i = 0; i < kKeysInReport; ++i) bytes.push_back(held_.size() > kKeysInReport ? kErrorRollOver : i < held_.size() ? held_[i] : u8{0});
  return bytes;
}

/// HID numbers them num, caps, scroll.
void Keyboard::take_lights(u8 bits) {
  set_leds(static_cast<u8>((bits & 1 ? display::kLedNum : 0) | (bits & 2 ? display::kLedCaps : 0) | (bits & 4 ? display::kLedScroll : 0)));
}

void Keyboard::clear() {
  Lock lock(mutex_);
  events_.clear();
  held_.clear();
  modifiers_ = 0;
}

void Keyboard::visit_events(Archive& archive) {
  Lock lock(mutex_);
  std::vector<u8> flat;
  for (const Event& e : events_) flat.insert(flat.end(), {e.usage, static_cast<u8>(e.down)});
  archive.blob(1, "queue", flat, 2 * kMaxEvents);
  archive.field(2, "modifiers", modifiers_);
  archive.blob(3, "held", held_, 256);
  if (!archive.loading()) return;
  events_.clear();
  for (size_t i = 0; i + 1 < flat.size(); i += 2) events_.push_back({flat[i], flat[i + 1] != 0});
}

// Mouse and tablet.

Pointer::Pointer(Mode mode, display::InputRouter& router, HidOptions options)
    : HidDevice(mode == Mode::Tablet ? Kind{"QEMU USB Tablet", 0, 0, kTabletReport, 6, 0x0001} : Kind{"QEMU USB Mouse", 1, 2, kMouseReport, 4, 0x0001},
                options.high_speed, std::move(options.serial)),
      PointerSink(mode == Mode::Tablet),
      router_(router) {
  router_.add(*this);
}

/// Movements between two polls are one; what changes buttons is an event of its own.
void Pointer::pointer(const display::PointerEvent& event) {
  {
    Lock lock(mutex_);
    const u8 before = events_.empty() ? last_.buttons : events_.back().buttons;
    const bool joins = !events_.empty() && before == event.buttons && (events_.size() > 1 || last_.buttons == before);
    if (!joins) {
      if (events_.size() >= kMaxEvents) return;
      events_.push_back(event);
    } else {
      display::PointerEvent& into = events_.back();
      auto add = [](i32 a, i32 b) { return std::clamp(std::clamp(a, -kFarthest, kFarthest) + std::clamp(b, -kFarthest, kFarthest), -kFarthest, kFarthest); };
      into.x = absolute() ? event.x : add(into.x, event.x);
      into.y = absolute() ? event.y : add(into.y, event.y);
      into.wheel = add(into.wheel, event.wheel);
    }
  }
  wake();
}

std::vector<u8> Pointer::tablet_report(const display::PointerEvent& e) const {
  std::vector<u8> bytes(6);
  bytes[0] = e.buttons & 0x1f;
  store_le<u16>(&bytes[1], static_cast<u16>(std::clamp(e.x, 0, display::PointerEvent::kMax)));
  store_le<u16>(&bytes[3], static_cast<u16>(std::clamp(e.y, 0, display::PointerEvent::kMax)));
  bytes[5] = static_cast<u8>(-std::clamp(e.wheel, -127, 127));  // away from the user is positive
  return bytes;
}

/// Takes off the event what one report can tell.
std::vector<u8> Pointer::mouse_report(display::PointerEvent& e, bool boot_protocol) const {
  const i32 dx = std::clamp(e.x, -127, 127), dy = std::clamp(e.y, -127, 127), dz = std::clamp(e.wheel, -127, 127);
  e.x -= dx;
  e.y -= dy;
  e.wheel -= dz;
  std::vector<u8> bytes = {static_cast<u8>(e.buttons & 0x1f), static_cast<u8>(dx), static_cast<u8>(dy)};
  if (!boot_protocol) bytes.push_back(static_cast<u8>(-dz));
  return bytes;
}

std::vector<u8> Pointer::report(bool always, bool boot_protocol) {
  Lock lock(mutex_);
  if (events_.empty()) {
    if (!always) return {};
    display::PointerEvent still = last_;
    return absolute() ? tablet_report(still) : mouse_report(still, boot_protocol);
  }
  display::PointerEvent& next = events_.front();
  const std::vector<u8> bytes = absolute() ? tablet_report(next) : mouse_report(next, boot_protocol);
  const bool rest = !absolute() && (next.x || next.y || next.wheel);
  last_ = next;
  last_.wheel = 0;
  if (!absolute()) last_.x = last_.y = 0;
  if (!rest) events_.pop_front();
  return bytes;
}

void Pointer::clear() {
  Lock lock(mutex_);
  events_.clear();
  last_ = {};
}

void Pointer::visit_events(Archive& archive) {
  Lock lock(mutex_);
  constexpr size_t kEventBytes = 13;
  auto pack = [](std::vector<u8>& out, const display::PointerEvent& e) {
    std::array<u8, kEventBytes> bytes;
    store_le<u32>(&bytes[0], static_cast<u32>(e.x));
    store_le<u32>(&bytes[4], static_cast<u32>(e.y));
    store_le<u32>(&bytes[8], static_cast<u32>(e.wheel));
    bytes[12] = e.buttons;
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  std::vector<u8> flat;
  pack(flat, last_);
  for (const auto& e : events_) pack(flat, e);
  archive.blob(1, "queue", flat, kEventBytes * (kMaxEvents + 1));
  if (!archive.loading()) return;
  events_.clear();
  for (size_t at = 0; at + kEventBytes <= flat.size(); at += kEventBytes) {
    const display::PointerEvent e = {.x = static_cast<i32>(load_le<u32>(&flat[at])), .y = static_cast<i32>(load_le<u32>(&flat[at + 4])),
                                     .wheel = static_cast<i32>(load_le<u32>(&flat[at + 8])), .buttons = flat[at + 12]};
    if (at == 0) last_ = e;
    else events_.push_back(e);
  }
}

}  // namespace atl::devices::usb
