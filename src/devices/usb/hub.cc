#include "devices/usb/hub.h"

#include <algorithm>
#include <iterator>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr u8 kChangeEndpoint = 1;
// Port status (11.24.2.7); changes have the same bits.
constexpr u16 kConnection = 1, kEnable = 2, kSuspend = 4, kReset = 16, kPower = 256, kLowSpeed = 512;
constexpr u16 kChanges = kConnection | kEnable | kSuspend | 8 | kReset;
// Features (table 11-17).
enum Feature : u16 { kFeatureEnable = 1, kFeatureSuspend = 2, kFeatureReset = 4, kFeaturePower = 8, kFeatureChanges = 16 };

constexpr u16 code(u8 type, u8 request) { return static_cast<u16>(type << 8 | request); }
constexpr u8 kHubIn = kDirectionIn | kTypeClass | kToDevice, kHubOut = kTypeClass | kToDevice;
constexpr u8 kPortIn = kDirectionIn | kTypeClass | kToOther, kPortOut = kTypeClass | kToOther;

Outcome give(std::span<u8> to, std::span<const u8> from) {
  const size_t bytes = std::min(to.size(), from.size());
  std::copy_n(from.begin(), bytes, to.begin());
  return {Answer::Ok, bytes};
}

}  // namespace

Descriptors Hub::describe(Speed) const {
  Descriptors d;
  d.device = {18, kDescriptorDevice, 0x10, 0x01, kClassHub, 0, 0, 8, 0x09, 0x04, 0xaa, 0x55, 0x01, 0x01, 1, 2, 3, 1};
  std::vector<u8> body = interface_descriptor({kClassHub, 0, 0}, 1);
  const EndpointSpec endpoint = {kDirectionIn | kChangeEndpoint, kEndpointInterrupt, 2, 0xff};
  std::ranges::copy(endpoint_descriptor(endpoint), std::back_inserter(body));
  d.configuration = configuration_descriptor(kAttributeSelfPowered | kAttributeRemoteWakeup, 0, body);
  return d;
}

/// Only what an enabled port lets through.
UsbDevice* Hub::find(u8 address) {
  if (UsbDevice* self = UsbDevice::find(address)) return self;
  for (Port& port : ports_) {
    if (!port.device || !(port.status & kEnable) || (port.status & kSuspend)) continue;
    if (UsbDevice* found = port.device->find(address)) return found;
  }
  return nullptr;
}

void Hub::set_child(unsigned number, UsbDevice* device) {
  if (number < 1 || number > count_) return;
  Port& port = ports_[number - 1];
  port.device = device;
  show_connection(port);
  wake();
}

void Hub::show_connection(Port& port) {
  const bool connected = port.device && (port.status & kPower), was = port.status & kConnection;
  if (connected != was) port.change |= kConnection;
  if (!connected && (port.status & kEnable)) port.change |= kEnable;
  port.status = static_cast<u16>(port.status & ~(kConnection | kLowSpeed | (connected ? 0 : kEnable | kSuspend)));
  if (connected) port.status |= kConnection | (port.device->speed() == Speed::Low ? kLowSpeed : 0);
}

/// A port that sleeps, and whose device asks for it, runs again (11.9). Whether there was one.
bool Hub::wake_ports() {
  bool any = false;
  for (Port& port : ports_) {
    if (!port.device || !(port.status & kSuspend) || !port.device->asks_to_wake()) continue;
    port.status = static_cast<u16>(port.status & ~kSuspend);
    port.change |= kSuspend;
    any = true;
  }
  return any;
}

bool Hub::asks_to_wake() {
  if (wake_ports()) wake();
  return UsbDevice::asks_to_wake();
}

void Hub::reset_state() {
  for (Port& port : ports_) {
    port.status = port.change = 0;
    if (port.device) port.device->bus_reset();
  }
}

Outcome Hub::control(const Setup& setup, std::span<u8> data) {
  switch (setup.code()) {
    case code(kHubIn, kGetDescriptor): {
      // No power switching, no over-current protection; nothing is removable or all is (11.23.2.1).
      const std::array<u8, 9> bytes = {9, kDescriptorHub, static_cast<u8>(count_), 0x12, 0x00, 1, 0, 0, 0xff};
      return give(data, bytes);
    }
    case code(kHubIn, kGetStatus): return give(data, std::array<u8, 4>{});
    case code(kHubOut, kSetFeature):
    case code(kHubOut, kClearFeature): return {setup.value <= 1 ? Answer::Ok : Answer::Stall, 0};
    case code(kPortIn, kGetStatus):
    case code(kPortOut, kSetFeature):
    case code(kPortOut, kClearFeature): return port_request(setup, data);
    default: return {Answer::Stall, 0};
  }
}

Outcome Hub::port_request(const Setup& setup, std::span<u8> data) {
  const unsigned number = setup.index & 0xff;
  if (number < 1 || number > count_) return {Answer::Stall, 0};
  Port& port = ports_[number - 1];
  if (setup.request == kSetFeature) return set_feature(port, setup.value);
  if (setup.request == kClearFeature) return clear_feature(port, setup.value);
  std::array<u8, 4> bytes;
  store_le<u16>(&bytes[0], port.status);
  store_le<u16>(&bytes[2], port.change);
  return give(data, bytes);
}

Outcome Hub::set_feature(Port& port, u16 feature) {
  switch (feature) {
    case kFeatureSuspend:
      if (port.status & kEnable) port.status |= kSuspend;
      return {};
    case kFeatureReset:
      if (!(port.status & kConnection)) return {};
      port.device->bus_reset();
      port.status = static_cast<u16>((port.status | kEnable) & ~kSuspend);
      port.change |= kReset;
      return {};
    case kFeaturePower:
      port.status |= kPower;
      show_connection(port);
      return {};
    default: return {Answer::Stall, 0};
  }
}

Outcome Hub::clear_feature(Port& port, u16 feature) {
  if (feature == kFeatureEnable) port.status = static_cast<u16>(port.status & ~kEnable);
  else if (feature == kFeatureSuspend) port.status = static_cast<u16>(port.status & ~kSuspend);
  else if (feature == kFeaturePower) port.status = 0;
  else if (feature >= kFeatureChanges && feature <= kFeatureChanges + 4) port.change = static_cast<u16>(port.change & ~(1u << (feature - kFeatureChanges)));
  else return {Answer::Stall, 0};
  return {};
}

/// One bit a port that changed, from bit 1.
Outcome Hub::data_in(u8 endpoint, std::span<u8> buffer) {
  if (endpoint != kChangeEndpoint) return {Answer::Stall, 0};
  wake_ports();
  std::array<u8, 2> bits{};
  for (unsigned i = 0; i < count_; ++i)
    if (ports_[i].change & kChanges) bits[(i + 1) / 8] = static_cast<u8>(bits[(i + 1) / 8] | 1u << ((i + 1) % 8));
  if (bits[0] == 0 && bits[1] == 0) return {Answer::Nak, 0};
  return give(buffer, std::span(bits).first(count_ < 8 ? 1 : 2));
}

void Hub::visit_state(Archive& archive) {
  for (unsigned i = 0; i < count_; ++i) {
    archive.part(i + 1, "port", [&](Archive& part) {
      part.field(1, "status", ports_[i].status);
      part.field(2, "change", ports_[i].change);
    });
    if (!ports_[i].device) ports_[i].status = static_cast<u16>(ports_[i].status & kPower);
  }
}

}  // namespace atl::devices::usb
