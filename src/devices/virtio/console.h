// Console device: VIRTIO 1.2 section 5.3. Port 0 is always a console (or a serial port named by virtserialport); with more
// than one port, or a named one, VIRTIO_CONSOLE_F_MULTIPORT is offered. Supported: multiport, emergency write.
// Missing: size, hot plug of ports.
//
// Threads: its loop; input from the character back ends' loops comes through a bounded buffer under a mutex.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/char_backend.h"
#include "base/sync.h"
#include "devices/virtio/device.h"

namespace atl::devices {

struct VirtioConsolePort {
  u32 number = 0;
  bool console = true;      // virtconsole, not virtserialport
  std::string name;         // "org.qemu.guest_agent.0"; "" = none
  CharBackend* backend = nullptr;  // outlives the device; null: output is thrown away
  std::function<void(bool open)> on_guest_open;  // of a serial port, on the device's loop: somebody in the guest opened it, or all closed it
};

struct VirtioConsoleOptions {
  std::vector<VirtioConsolePort> ports;  // numbers distinct and below max_ports
  u32 max_ports = 31;
  bool multiport = true;                 // off: one console as port 0, no control queues
};

class VirtioConsole final : public VirtioDevice {
 public:
  /// The error names the port at fault.
  static Result<std::unique_ptr<VirtioConsole>> create(VirtioConsoleOptions options, Loop& loop,
                                                       memory::AddressSpace& memory);
  ~VirtioConsole() override;

 private:
  struct Input;
  struct Port;
  VirtioConsole(VirtioConsoleOptions options, Loop& loop, memory::AddressSpace& memory);
  void add_port(const VirtioConsolePort& port);
  CharBackend::Frontend frontend_of(const std::shared_ptr<Input>& input);

  void serve(u16 index) override;
  void activated(u64 features) override;
  void stopping() override;
  void reset_state() override;
  void config_written(u32 offset, u32 size) override;
  void visit(Archive& archive) override;
  bool multiport() const;
  Port* find(u32 number);
  void set_guest_open(Port& port, bool open);
  static void tell_guest_open(const Port& port, bool open);
  void transmit(Port& port);
  bool transmit_chain(Port& port, const Chain& chain);
  void deliver_input(Port& port);
  void receive_control(const Chain& chain);
  void announce(Port& port);
  void send_control(u32 port, u16 event, u16 value, std::string_view text = {});
  void flush_control();
  void host_changed(u32 number, bool connected);

  std::vector<std::unique_ptr<Port>> ports_;
  std::deque<std::vector<u8>> control_out_;  // for the driver; bounded
};

}  // namespace atl::devices
