// A QMP connection (QEMU's docs/interop/qmp-spec): greeting, negotiation, commands and events as JSON lines.
#pragma once

#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/char_backend.h"
#include "control/qmp/json_text.h"
#include "control/vm_control.h"

namespace atl::control {

/// Control thread. Serves one client after the other on its back end.
class QmpMonitor {
 public:
  /// `connection` is the back end itself where the monitor is its only user; it can pass descriptors then.
  QmpMonitor(VmControl& vm, CharBackend& chars, Chardev* connection, bool pretty);
  ~QmpMonitor();

  void send_event(const machine::Event& event);

 private:
  void on_event(CharEvent event);
  void receive(std::span<const u8> data);
  void handle_text(const std::string& text);
  void handle_request(const nlohmann::json& request);
  nlohmann::json execute(const nlohmann::json& request);
  nlohmann::json negotiate(const nlohmann::json& arguments);
  nlohmann::json run_command(std::string_view name, const nlohmann::json& arguments);
  void send(const nlohmann::json& message);
  void push_output();

  VmControl& vm_;
  CharBackend& chars_;
  Chardev* connection_;
  const bool pretty_;
  bool open_ = false;
  bool negotiated_ = false;
  bool out_of_band_ = false;  // the client may use exec-oob. Commands do not wait for each other here, so it overtakes nothing
  JsonFramer framer_;
  std::string output_;  // not yet taken by the back end
};

}  // namespace atl::control
