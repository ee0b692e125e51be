#include "devices/usb/device.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr u16 kMaxControlBytes = 4096;
constexpr u8 kMaxAddress = 127;

constexpr u16 code(u8 type, u8 request) { return static_cast<u16>(type << 8 | request); }

Outcome give(std::span<u8> to, std::span<const u8> from) {
  const size_t bytes = std::min(to.size(), from.size());
  std::copy_n(from.begin(), bytes, to.begin());
  return {Answer::Ok, bytes};
}

}  // namespace

void UsbDevice::set_speed(Speed speed) {
  speed_ = speed;
  bus_reset();
}

void UsbDevice::bus_reset() {
  address_ = configuration_ = new_address_ = 0;
  remote_wakeup_ = news_ = false;
  halted_ = 0;
  stage_ = Stage::Idle;
  data_.clear();
  done_ = 0;
  reset_state();
}

// Control transfers (8.5.3): SETUP, an optional data stage, and a status stage in the other direction. What the device is to
// give is made at once; what it is to do, it does in the status stage.

Outcome UsbDevice::setup(std::span<const u8> bytes) {
  if (bytes.size() < 8) return {Answer::Stall, 0};
  setup_ = {.type = bytes[0], .request = bytes[1], .value = load_le<u16>(&bytes[2]), .index = load_le<u16>(&bytes[4]),
            .length = load_le<u16>(&bytes[6])};
  data_.clear();
  done_ = 0;
  stage_ = Stage::Failed;
  if (setup_.length > kMaxControlBytes && !setup_.in()) return {Answer::Ok, 8};
  if (setup_.in() && setup_.length) {
    data_.resize(std::min(setup_.length, kMaxControlBytes));
    if (perform() == Answer::Ok) stage_ = Stage::DataIn;
  } else {
    stage_ = setup_.length ? Stage::DataOut : Stage::Status;
  }
  return {Answer::Ok, 8};
}

Answer UsbDevice::perform() {
  const bool standard_request = (setup_.type & kTypeMask) == kTypeStandard;
  Outcome outcome = standard_request ? standard(data_) : control(setup_, data_);
  if (setup_.in()) data_.resize(outcome.status == Answer::Ok ? outcome.bytes : 0);
  return outcome.status;
}

Outcome UsbDevice::in(u8 number, std::span<u8> buffer) {
  if (number == 0) return control_in(buffer);
  if (!configured() || (halted_ >> halt_bit(number | u16{kDirectionIn}) & 1)) return {Answer::Stall, 0};
  const Outcome outcome = data_in(number, buffer);
  if (outcome.status == Answer::Nak) news_ = false;
  return outcome;
}

Outcome UsbDevice::out(u8 number, std::span<const u8> data) {
  if (number == 0) return control_out(data);
  if (!configured() || (halted_ >> halt_bit(number) & 1)) return {Answer::Stall, 0};
  return data_out(number, data);
}

Outcome UsbDevice::control_in(std::span<u8> buffer) {
  if (stage_ == Stage::DataIn) {
    const Outcome part = give(buffer, std::span<const u8>(data_).subspan(done_));
    done_ += part.bytes;
    return part;
  }
  const bool whole = stage_ == Stage::Status || (stage_ == Stage::DataOut && done_ == setup_.length);
  if (!whole) return {Answer::Stall, 0};
  stage_ = Stage::Idle;
  const Answer status = perform();
  if (status == Answer::Ok && new_address_) address_ = std::exchange(new_address_, u8{0});
  return {status, 0};
}

Outcome UsbDevice::control_out(std::span<const u8> data) {
  if (stage_ == Stage::DataIn) {  // the status stage, maybe before all was read
    stage_ = Stage::Idle;
    return {Answer::Ok, data.size()};
  }
  if (stage_ != Stage::DataOut || data.size() > setup_.length - done_) return {Answer::Stall, 0};
  data_.insert(data_.end(), data.begin(), data.end());
  done_ += data.size();
  return {Answer::Ok, data.size()};
}

Outcome UsbDevice::standard(std::span<u8> data) {
  switch (setup_.code()) {
    case code(kDirectionIn | kToDevice, kGetStatus): {
      const Descriptors mine = describe(speed_);
      const u8 own_power = mine.configuration[7] & kAttributeSelfPowered ? 1 : 0;
      const std::array<u8, 2> bits = {static_cast<u8>(own_power | (remote_wakeup_ ? 2 : 0)), 0};
      return give(data, bits);
    }
    case code(kDirectionIn | kToInterface, kGetStatus): return give(data, std::array<u8, 2>{});
    case code(kDirectionIn | kToEndpoint, kGetStatus):
      return give(data, std::array<u8, 2>{static_cast<u8>(halted_ >> halt_bit(setup_.index) & 1), 0});
    case code(kToDevice, kClearFeature):
    case code(kToDevice, kSetFeature):
      if (setup_.value != kFeatureRemoteWakeup) return {speed_ == Speed::Super ? Answer::Ok : Answer::Stall, 0};
      remote_wakeup_ = setup_.request == kSetFeature;
      return {};
    case code(kToInterface, kSetFeature):  // function suspend of Super
    case code(kToInterface, kClearFeature): return {speed_ == Speed::Super ? Answer::Ok : Answer::Stall, 0};
    case code(kToEndpoint, kClearFeature):
    case code(kToEndpoint, kSetFeature):
      return {setup_.value == kFeatureHalt && set_halt(setup_.index, setup_.request == kSetFeature) ? Answer::Ok : Answer::Stall, 0};
    case code(kToDevice, kSetAddress):
      if (setup_.value > kMaxAddress) return {Answer::Stall, 0};
      new_address_ = static_cast<u8>(setup_.value);
      if (new_address_ == 0) address_ = 0;
      return {};
    case code(kDirectionIn | kToDevice, kGetDescriptor): return give_descriptor(data);
    case code(kDirectionIn | kToInterface, kGetDescriptor): return control(setup_, data);
    case code(kDirectionIn | kToDevice, kGetConfiguration): return give(data, {&configuration_, 1});
    case code(kToDevice, kSetConfiguration):
      if (setup_.value > 1) return {Answer::Stall, 0};
      configuration_ = static_cast<u8>(setup_.value);
      halted_ = 0;
      reset_state();
      return {};
    case code(kDirectionIn | kToInterface, kGetInterface): return give(data, std::array<u8, 1>{});
    case code(kToInterface, kSetInterface): return {setup_.value == 0 ? Answer::Ok : Answer::Stall, 0};
    case code(kToDevice, kSetSel):
    case code(kToDevice, kSetIsochDelay): return {speed_ == Speed::Super ? Answer::Ok : Answer::Stall, 0};
    default: return {Answer::Stall, 0};
  }
}

bool UsbDevice::set_halt(u16 endpoint, bool halt) {
  const u32 bit = 1u << halt_bit(endpoint);
  halted_ = halt ? halted_ | bit : halted_ & ~bit;
  return true;
}

Outcome UsbDevice::give_descriptor(std::span<u8> data) {
  const u8 kind = static_cast<u8>(setup_.value >> 8), number = static_cast<u8>(setup_.value);
  const Descriptors mine = describe(speed_);
  const bool two_speeds = supports(Speed::Full) && supports(Speed::High) && speed_ <= Speed::High;
  const Descriptors other = two_speeds ? describe(speed_ == Speed::High ? Speed::Full : Speed::High) : Descriptors{};
  switch (kind) {
    case kDescriptorDevice: return give(data, mine.device);
    case kDescriptorConfiguration: return number ? Outcome{Answer::Stall, 0} : give(data, mine.configuration);
    case kDescriptorString: {
      const std::vector<u8> found = string_descriptor(number);
      return found.empty() ? Outcome{Answer::Stall, 0} : give(data, found);
    }
    case kDescriptorQualifier: {
      if (!two_speeds) return {Answer::Stall, 0};
      const auto& d = other.device;
      return give(data, std::array<u8, 10>{10, kDescriptorQualifier, d[2], d[3], d[4], d[5], d[6], d[7], 1, 0});
    }
    case kDescriptorOtherSpeed: {
      if (!two_speeds) return {Answer::Stall, 0};
      std::vector<u8> bytes = other.configuration;
      bytes[1] = kDescriptorOtherSpeed;
      return give(data, bytes);
    }
    case kDescriptorBos: return mine.companion.empty() ? Outcome{Answer::Stall, 0} : give(data, mine.companion);
    default: return control(setup_, data);
  }
}

/// UTF-16, two bytes a character (9.6.7).
std::vector<u8> UsbDevice::string_descriptor(u8 number) const {
  if (number == 0) return {4, kDescriptorString, kLanguageEnglish & 0xff, kLanguageEnglish >> 8};
  const std::string characters = text(number).substr(0, 126);
  if (characters.empty()) return {};
  std::vector<u8> bytes = {static_cast<u8>(2 + 2 * characters.size()), kDescriptorString};
  for (char c : characters) {
    bytes.push_back(static_cast<u8>(c));
    bytes.push_back(0);
  }
  return bytes;
}

void UsbDevice::visit(Archive& archive) {
  archive.field(1, "speed", speed_);
  archive.field(2, "address", address_);
  archive.field(3, "configuration", configuration_);
  archive.field(4, "new_address", new_address_);
  archive.field(5, "remote_wakeup", remote_wakeup_);
  archive.field(6, "halted", halted_);
  archive.field(7, "type", setup_.type);
  archive.field(8, "request", setup_.request);
  archive.field(9, "value", setup_.value);
  archive.field(10, "index", setup_.index);
  archive.field(11, "length", setup_.length);
  archive.field(12, "stage", stage_);
  archive.blob(13, "data", data_, kMaxControlBytes);
  u64 done = done_;
  archive.field(14, "done", done);
  done_ = static_cast<size_t>(done);
  archive.part(15, "state", [this](Archive& part) { visit_state(part); });
  if (archive.loading() && (speed_ > Speed::Super || stage_ > Stage::Failed || done_ > data_.size() || configuration_ > 1))
    archive.fail("a USB device's transfer is in no possible state");
}

std::vector<u8> endpoint_descriptor(const EndpointSpec& e) {
  return {7, kDescriptorEndpoint, e.address, e.type, static_cast<u8>(e.packet_bytes), static_cast<u8>(e.packet_bytes >> 8), e.interval};
}

std::vector<u8> interface_descriptor(std::array<u8, 3> kind, u8 endpoints) {
  return {9, kDescriptorInterface, 0, 0, endpoints, kind[0], kind[1], kind[2], 0};
}

std::vector<u8> configuration_descriptor(u8 attributes, u8 milliamperes, std::span<const u8> body) {
  const size_t total = 9 + body.size();
  std::vector<u8> bytes = {9, kDescriptorConfiguration, static_cast<u8>(total), static_cast<u8>(total >> 8), 1, 1, 0,
                           static_cast<u8>(attributes | kAttributeAlways), static_cast<u8>(milliamperes / 2)};
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

}  // namespace atl::devices::usb
