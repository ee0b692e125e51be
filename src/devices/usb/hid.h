// Keyboard, mouse and tablet for USB: UsbDevice Class Definition for HID 1.11 and HID Usage Tables 1.12.
// Supported: boot and report protocol, lights, a queue of events so that fast clicks and keys are not lost. Missing: reports
// repeated at the idle rate (drivers set it to never), several keyboards' layouts, remote wake-up.
//
// Threads: as usb::UsbDevice; the user's events come on the control thread and wait under a small mutex of their own.
#pragma once

#include <deque>

#include "base/sync.h"
#include "devices/usb/device.h"
#include "display/input.h"

namespace atl::devices::usb {

/// What the three have in common: one interface with one interrupt endpoint.
class HidDevice : public UsbDevice {
 public:
  bool supports(Speed speed) const override { return speed == Speed::Full || (speed == Speed::High && high_speed_); }

 protected:
  struct Kind {
    const char* product;
    u8 subclass, protocol;      // of the boot interface; 0: none
    std::span<const u8> report;  // descriptor
    u8 report_bytes;
    u16 product_number;
  };
  HidDevice(const Kind& kind, bool high_speed, std::string serial) : kind_(kind), high_speed_(high_speed), serial_(std::move(serial)) {}

  std::string_view product() const override { return kind_.product; }
  std::string text(u8 number) const override;
  Descriptors describe(Speed speed) const override;
  Outcome control(const Setup& setup, std::span<u8> data) override;
  Outcome data_in(u8 endpoint, std::span<u8> buffer) override;
  Outcome data_out(u8 endpoint, std::span<const u8> data) override;
  void reset_state() override;
  void visit_state(Archive& archive) override;

  /// The next report, or the present one if nothing happened and `always`. Empty: nothing.
  virtual std::vector<u8> report(bool always, bool boot_protocol) = 0;
  virtual void take_lights(u8) {}
  virtual void set_in_use(bool on) = 0;
  virtual void clear() = 0;
  virtual void visit_events(Archive& archive) = 0;

 private:
  std::vector<u8> hid_descriptor() const;

  const Kind kind_;
  const bool high_speed_;
  const std::string serial_;
  u8 idle_ = 0;
  bool boot_protocol_ = false, polled_ = false;
};

struct HidOptions {
  bool high_speed = true;  // usb_version=2
  std::string serial;      // "" = a fixed one
};

class Keyboard final : public HidDevice, private display::KeySink {
 public:
  /// Adds itself to `router`, which outlives it, until leaving(). Control thread.
  Keyboard(display::InputRouter& router, HidOptions options);
  std::string_view type() const override { return "usb-kbd"; }
  void leaving() override { router_.remove(*this); }

 private:
  std::string_view name() const override { return "QEMU USB Keyboard"; }
  void key(u8 number, bool down) override;
  std::vector<u8> report(bool always, bool boot_protocol) override;
  void take_lights(u8 bits) override;
  void set_in_use(bool on) override { KeySink::set_in_use(on); }
  void clear() override;
  void visit_events(Archive& archive) override;
  void apply(u8 usage, bool down) REQUIRES(mutex_);

  struct Event {
    u8 usage;
    bool down;
  };
  display::InputRouter& router_;
  Mutex mutex_;
  std::deque<Event> events_ GUARDED_BY(mutex_);
  u8 modifiers_ GUARDED_BY(mutex_) = 0;
  std::vector<u8> held_ GUARDED_BY(mutex_);  // usages, in the order they went down
};

/// A mouse (steps) or a tablet (places), with five buttons and a wheel.
class Pointer final : public HidDevice, private display::PointerSink {
 public:
  enum class Mode : u8 { Mouse, Tablet };
  Pointer(Mode mode, display::InputRouter& router, HidOptions options);
  std::string_view type() const override { return absolute() ? "usb-tablet" : "usb-mouse"; }
  void leaving() override { router_.remove(*this); }

 private:
  std::string_view name() const override { return absolute() ? "QEMU HID Tablet" : "QEMU HID Mouse"; }
  void pointer(const display::PointerEvent& event) override;
  std::vector<u8> report(bool always, bool boot_protocol) override;
  void set_in_use(bool on) override { PointerSink::set_in_use(on); }
  void clear() override;
  void visit_events(Archive& archive) override;
  std::vector<u8> tablet_report(const display::PointerEvent& event) const;
  std::vector<u8> mouse_report(display::PointerEvent& event, bool boot_protocol) const;

  display::InputRouter& router_;
  Mutex mutex_;
  std::deque<display::PointerEvent> events_ GUARDED_BY(mutex_);
  display::PointerEvent last_ GUARDED_BY(mutex_);
};

/// The usage of a key number (display/keys.h) on the keyboard page; 0: none.
u8 usage_of_key(u8 number);

}  // namespace atl::devices::usb
