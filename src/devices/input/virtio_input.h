// Input devices: VIRTIO 1.2 section 5.8. A keyboard with lights, a mouse with wheel and five buttons, a tablet that is told
// places. Events are Linux's (linux/input-event-codes.h).
//
// Threads: events come from the control thread and are posted to the loop; configuration bytes are the base's.
#pragma once

#include <deque>

#include "devices/virtio/device.h"
#include "display/input.h"

namespace atl::devices {

enum class VirtioInputKind : u8 { Keyboard, Mouse, Tablet };

class VirtioInput final : public VirtioDevice {
 public:
  /// `router` outlives the device; it is told of it here and in the destructor, on the control thread.
  VirtioInput(VirtioInputKind kind, std::string serial, Loop& loop, memory::AddressSpace& memory, display::InputRouter& router);
  ~VirtioInput() override;

 private:
  struct Event {
    u16 type = 0, code = 0;
    u32 value = 0;
  };
  static constexpr size_t kEventBytes = 8, kMaxWaiting = 256;

  struct Keys final : display::KeySink {
    explicit Keys(VirtioInput& o) : owner(o) {}
    std::string_view name() const override { return "QEMU Virtio Keyboard"; }
    void key(u8 number, bool down) override { owner.tell_key(number, down); }
    VirtioInput& owner;
  };
  struct Pointer final : display::PointerSink {
    Pointer(VirtioInput& o, bool absolute) : PointerSink(absolute), owner(o) {}
    std::string_view name() const override { return absolute() ? "QEMU Virtio Tablet" : "QEMU Virtio Mouse"; }
    void pointer(const display::PointerEvent& event) override { owner.tell_pointer(event); }
    VirtioInput& owner;
  };

  void tell_key(u8 number, bool down);
  void tell_pointer(const display::PointerEvent& event);
  void tell(std::vector<Event> events);

  void serve(u16 index) override;
  void activated(u64 features) override;
  void reset_state() override;
  void config_selected(std::span<u8> config) override;
  void visit(Archive& archive) override;
  void send_events();
  void take_status();
  void set_in_use(bool on);

  const VirtioInputKind kind_;
  const std::string serial_;
  display::InputRouter& router_;
  Keys keys_{*this};
  Pointer pointer_;
  u8 buttons_ = 0;              // control thread: as told last
  std::deque<Event> waiting_;   // loop: for buffers of the driver
  u8 leds_ = 0;                 // loop
};

}  // namespace atl::devices
