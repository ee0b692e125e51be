// The keyboards and pointers of a machine, and which of them hears the user.
//
// A device model holds a KeySink or a PointerSink (or both, or several), adds it to the machine's InputRouter when it is
// built, and removes it before it is destroyed: both on the control thread. When the guest's driver starts to use the device
// (a USB interface is polled, a virtqueue runs), the model calls set_in_use(true), and set_in_use(false) when it stops or
// the device is reset: any thread. Events go to the sink of the right kind that came into use last; the PS/2 devices are in
// use all the time, as the last resort. Events arrive on the control thread; the model takes its own lock and returns.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::display {

/// Buttons held, of PointerEvent.
enum PointerButton : u8 { kButtonLeft = 1, kButtonRight = 2, kButtonMiddle = 4, kButtonSide = 8, kButtonExtra = 16 };
/// Lights of a keyboard, as PS/2, USB's HID in another order, and VNC number them.
enum KeyboardLed : u8 { kLedScroll = 1, kLedNum = 2, kLedCaps = 4 };

/// Since when a driver has been using a device.
class InUse {
 public:
  void set(bool on);
  /// The last resort: used, but after all others.
  void set_always() { since_.store(1, std::memory_order_relaxed); }
  u64 since() const { return since_.load(std::memory_order_relaxed); }  // 0: not in use

 private:
  std::atomic<u64> since_ = 0;
};

class KeySink {
 public:
  virtual ~KeySink() = default;
  virtual std::string_view name() const = 0;
  /// A key by its number (display/keys.h) goes down, or up. A key held is told once: the guest or the model repeats it.
  virtual void key(u8 number, bool down) = 0;

  void set_in_use(bool on) { in_use_.set(on); }
  void set_leds(u8 leds) { leds_.store(leds, std::memory_order_relaxed); }   // any thread
  u8 leds() const { return leds_.load(std::memory_order_relaxed); }

 protected:
  InUse in_use_;

 private:
  friend class InputRouter;
  std::atomic<u8> leds_ = 0;
};

struct PointerEvent {
  i32 x = 0, y = 0;    // relative: steps to the right and down; absolute: 0 to kMax across the screen
  i32 wheel = 0;       // towards the user is positive
  u8 buttons = 0;      // PointerButton bits held from now on
  static constexpr i32 kMax = 0x7fff;
};

class PointerSink {
 public:
  explicit PointerSink(bool absolute) : absolute_(absolute) {}
  virtual ~PointerSink() = default;
  virtual std::string_view name() const = 0;
  virtual void pointer(const PointerEvent& event) = 0;

  bool absolute() const { return absolute_; }
  void set_in_use(bool on) { in_use_.set(on); }

 protected:
  InUse in_use_;

 private:
  friend class InputRouter;
  const bool absolute_;
};

/// Control thread.
class InputRouter {
 public:
  void add(KeySink& sink) { keyboards_.push_back(&sink); }
  void add(PointerSink& sink) { pointers_.push_back(&sink); }
  void remove(KeySink& sink) { std::erase(keyboards_, &sink); }
  void remove(PointerSink& sink) { std::erase(pointers_, &sink); }

  /// The error says that there is no keyboard.
  Status key(u8 number, bool down);
  /// A relative or an absolute event, to the newest sink in use of that kind. NotFound if there is none.
  Status move(const PointerEvent& event) { return send(event, false); }
  Status point(const PointerEvent& event) { return send(event, true); }
  /// Whether the pointer that hears the user is told places rather than steps.
  bool absolute() const;
  u8 leds() const;

  struct Mouse {
    std::string_view name;
    u32 index;
    bool absolute, current;
  };
  std::vector<Mouse> mice() const;
  /// Makes the pointer with this index the one in use.
  Status select_mouse(u64 index);

 private:
  Status send(const PointerEvent& event, bool absolute);
  KeySink* keyboard() const;
  PointerSink* newest(std::optional<bool> absolute) const;

  std::vector<KeySink*> keyboards_;
  std::vector<PointerSink*> pointers_;
};

}  // namespace atl::display
