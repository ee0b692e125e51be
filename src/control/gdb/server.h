// The gdb stub: one debugger over a character back end, all vCPUs as threads 1 to n of one process (gdb manual, "Remote
// Serial Protocol").
//
// Supported: registers (g G p P), memory (m M X), break- and watchpoints (Z z, kinds 0 to 4), continue, step, vCont,
// interrupt, threads, target description. Software breakpoints are execution points too: guest memory is never patched.
// Missing: reverse execution, non-stop mode, file transfer. Unknown packets get the empty reply that the protocol asks for.
// Thread: the control loop.
#pragma once

#include <string>
#include <vector>

#include "base/char_backend.h"
#include "control/gdb/packet.h"
#include "control/gdb/target.h"

namespace atl::control {

class GdbServer {
 public:
  GdbServer(CharBackend& backend, GdbTarget& target);
  ~GdbServer();
  GdbServer(const GdbServer&) = delete;
  GdbServer& operator=(const GdbServer&) = delete;

  /// The machine stopped: a vCPU at a point or after a step (no point), or all (no vCPU) because of interrupt() and the like.
  void stopped(std::optional<u32> cpu, std::optional<cpu::DebugRequest::Point> point);
  /// The machine ends.
  void exited();
  bool attached() const { return attached_; }

 private:
  struct Command {
    std::string_view name;
    std::string (GdbServer::*run)(std::string_view arguments);
  };
  static const Command kCommands[];

  void receive(std::span<const u8> bytes);
  void serve(std::string_view packet);
  void reply(std::string_view payload);
  void send(std::string_view bytes);
  std::string stop_reply() const;

  std::string read_registers(std::string_view);
  std::string write_registers(std::string_view);
  std::string read_register(std::string_view);
  std::string write_register(std::string_view);
  std::string read_memory(std::string_view);
  std::string write_memory(std::string_view);
  std::string write_binary(std::string_view);
  std::string insert_point(std::string_view);
  std::string remove_point(std::string_view);
  std::string resume(std::string_view);
  std::string step(std::string_view);
  std::string vcont(std::string_view);
  std::string vcont_query(std::string_view);
  std::string why_stopped(std::string_view);
  std::string select_thread(std::string_view);
  std::string thread_alive(std::string_view);
  std::string supported(std::string_view);
  std::string features(std::string_view);
  std::string first_threads(std::string_view);
  std::string more_threads(std::string_view);
  std::string current_thread(std::string_view);
  std::string attached_to(std::string_view);
  std::string no_acknowledgements(std::string_view);
  std::string detach(std::string_view);
  std::string kill(std::string_view);

  std::string run_target(std::optional<u32> step_cpu);
  std::string change_points(std::string_view arguments, bool insert);
  std::string write_bytes(u64 address, std::span<const u8> bytes);

  CharBackend& backend_;
  GdbTarget& target_;
  GdbPacketReader reader_;
  std::string last_frame_;
  std::vector<cpu::DebugRequest::Point> points_;
  std::optional<cpu::DebugRequest::Point> hit_;
  u32 cpu_ = 0;            // chosen by Hg, or where the last stop was
  bool attached_ = false;
  bool running_ = false;   // gdb waits for a stop reply
  bool acknowledge_ = true;
  bool interrupted_ = false;
};

}  // namespace atl::control
