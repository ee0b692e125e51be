// Console device: VIRTIO 1.2 section 5.3. Ports come and go, before there is a driver or beside it. Supported: multiport,
// emergency write. Missing: size.
//
// Threads: its loop; input from the character back ends' loops comes through a bounded buffer under a mutex.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/char_backend.h"
#include "base/sync.h"
#include "devices/virtio/device.h"

namespace atl::devices {

struct VirtioConsolePort {
  std::optional<u32> number;       // below max_ports; else the first that is free: 0 for consoles only
  bool console = true;      // virtconsole, not virtserialport
  std::string name;         // "org.qemu.guest_agent.0"; "" = none
  CharBackend* backend = nullptr;  // outlives the port; null: output is thrown away
  /// The guest opened or closed the port. On the device's loop; the port may be gone when it takes effect.
  std::function<void(bool open)> on_open;
};

class VirtioConsole final : public VirtioDevice {
 public:
  static constexpr u32 kMaxPorts = 511;

  /// `max_ports`: 1 to kMaxPorts; with 1 there is just a console as port 0, and no control queues.
  VirtioConsole(u32 max_ports, Loop& loop, memory::AddressSpace& memory);
  ~VirtioConsole() override;

  struct Added {
    u32 number;
    CharBackend::Frontend frontend;  // what the back end is to be attached to, on the control thread
  };
  /// On the loop, as remove(). The error names the port at fault.
  Result<Added> add(VirtioConsolePort port);
  /// Afterwards the back end is not used any more; the caller detaches it.
  void remove(u32 number);

 private:
  struct Input;
  struct Port;
  Status check(const VirtioConsolePort& port) const;
  std::optional<u32> free_number(bool console) const;
  CharBackend::Frontend frontend_of(const std::shared_ptr<Input>& input);

  void serve(u16 index) override;
  void activated(u64 features) override;
  void stopping() override;
  void reset_state() override;
  void config_written(u32 offset, u32 size) override;
  void visit(Archive& archive) override;
  bool multiport() const;
  Port* find(u32 number) const;
  void set_guest_open(Port& port, bool open);
  void transmit(Port& port);
  bool transmit_chain(Port& port, const Chain& chain);
  void deliver_input(Port& port);
  void receive_control(const Chain& chain);
  void tell(u32 number, u16 event);
  void announce(Port& port);
  void send_control(u32 port, u16 event, u16 value, std::string_view text = {});
  void flush_control();
  void host_changed(u32 number, bool connected);

  const u32 max_ports_;
  std::vector<std::unique_ptr<Port>> ports_;
  bool driver_ready_ = false;                // it has asked for the ports
  std::deque<std::vector<u8>> control_out_;  // for the driver; bounded
};

}  // namespace atl::devices
