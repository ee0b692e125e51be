// A device on a USB: endpoints, control transfers, descriptors and the requests that every device answers. Universal Serial
// Bus Specification 2.0, chapters 5, 8 and 9.
// Supported: control, bulk and interrupt transfers, several speeds of one device. Missing: isochronous transfers, streams,
// several configurations and alternate settings, data toggles (nothing is ever lost on the way).
//
// Threads: everything under the mutex of the bus it is plugged into (usb/bus.h); wake() any thread.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/archive.h"
#include "base/types.h"
#include "devices/usb/spec.h"

namespace atl::devices::usb {

/// How a transaction ended. Nak: try again later, wake() tells when it makes sense.
enum class Answer : u8 { Ok, Nak, Stall, Babble };

struct Outcome {
  Answer status = Answer::Ok;
  size_t bytes = 0;  // moved
};

struct Setup {
  u8 type = 0, request = 0;
  u16 value = 0, index = 0, length = 0;
  bool in() const { return type & kDirectionIn; }
  /// Type and request in one number, for switches.
  constexpr u16 code() const { return static_cast<u16>(type << 8 | request); }
};

/// What a device says of itself at one speed; the configuration has its interfaces and endpoints behind it.
struct Descriptors {
  std::array<u8, 18> device{};
  std::vector<u8> configuration, companion;  // companion: BOS, for Super
};

class UsbDevice {
 public:
  virtual ~UsbDevice() = default;

  /// "usb-tablet".
  virtual std::string_view type() const = 0;
  /// As `info usb` shows it.
  virtual std::string_view product() const = 0;
  /// The speeds that it knows, and the one that the port lets it have.
  virtual bool supports(Speed speed) const = 0;
  Speed speed() const { return speed_; }
  void set_speed(Speed speed);
  u8 address() const { return address_; }

  /// One transaction of endpoint `number`. A setup transaction carries 8 bytes.
  Outcome setup(std::span<const u8> bytes);
  Outcome in(u8 number, std::span<u8> buffer);
  Outcome out(u8 number, std::span<const u8> data);

  /// A port resets it, or it is unplugged.
  void bus_reset();
  void visit(Archive& archive);

  /// The device with this address: this one, or one behind it.
  virtual UsbDevice* find(u8 address) { return address == address_ ? this : nullptr; }
  /// The device on port `number` (from 1) of a hub, or nullptr.
  virtual UsbDevice* child(unsigned) { return nullptr; }
  virtual unsigned ports() const { return 0; }  // of a hub
  /// Whether its sleeping port is to wake up: it may ask for that, and has something to tell (9.1.1.6).
  virtual bool asks_to_wake() { return remote_wakeup_ && news_; }
  /// Plugs into a hub's port; nullptr takes out.
  virtual void set_child(unsigned, UsbDevice*) {}
  /// Not touched by a thread of its own any more. Called before it is taken off the bus, without the bus's mutex.
  virtual void leaving() {}

  /// Called (any thread) when an endpoint that said Nak may have something now. Set by the bus.
  std::function<void()> on_wake;

 protected:
  /// A string descriptor's text by its number in the descriptors; "" = none.
  virtual std::string text(u8 number) const = 0;
  virtual Descriptors describe(Speed speed) const = 0;
  /// Requests that are not standard ones, and GET_DESCRIPTOR of a kind that only the device knows. `data` has length() bytes to
  /// fill, or those that came. Stall refuses.
  virtual Outcome control(const Setup& setup, std::span<u8> data) = 0;
  virtual Outcome data_in(u8 endpoint, std::span<u8> buffer) = 0;
  virtual Outcome data_out(u8 endpoint, std::span<const u8> data) = 0;
  /// Back to the state after a bus reset; configured() is false.
  virtual void reset_state() {}
  virtual void visit_state(Archive& archive) = 0;

  bool configured() const { return configuration_ != 0; }
  bool remote_wakeup() const { return remote_wakeup_; }
  void wake() {
    news_ = true;
    if (on_wake) on_wake();
  }

 private:
  enum class Stage : u8 { Idle, DataIn, DataOut, Status, Failed };
  Outcome control_in(std::span<u8> buffer);
  Outcome control_out(std::span<const u8> data);
  /// Answers the request; data_ holds what came, or is filled.
  Answer perform();
  Outcome standard(std::span<u8> data);
  Outcome give_descriptor(std::span<u8> data);
  std::vector<u8> string_descriptor(u8 number) const;
  bool set_halt(u16 endpoint, bool halt);
  unsigned halt_bit(u16 endpoint) const { return (endpoint & 15u) + (endpoint & kDirectionIn ? 16 : 0); }

  Speed speed_ = Speed::Full;
  u8 address_ = 0, configuration_ = 0;
  u8 new_address_ = 0;            // takes effect with the status stage
  bool remote_wakeup_ = false;
  std::atomic<bool> news_ = false;  // since an endpoint last had nothing
  u32 halted_ = 0;                // endpoints: OUT 0 to 15, IN from bit 16
  Setup setup_;
  Stage stage_ = Stage::Idle;
  std::vector<u8> data_;          // of the control transfer under way
  size_t done_ = 0;
};

// Descriptor building (9.6).

struct EndpointSpec {
  u8 address = 0, type = 0;
  u16 packet_bytes = 0;
  u8 interval = 0;
};
std::vector<u8> endpoint_descriptor(const EndpointSpec& endpoint);
/// class, sub-class and protocol.
std::vector<u8> interface_descriptor(std::array<u8, 3> kind, u8 endpoints);
/// A configuration with one interface, whose descriptors are `body`.
std::vector<u8> configuration_descriptor(u8 attributes, u8 milliamperes, std::span<const u8> body);

}  // namespace atl::devices::usb
