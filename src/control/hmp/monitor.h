// The human monitor on a character back end: prompt, line editing, commands.
#pragma once

#include <string>

#include "base/char_backend.h"
#include "control/hmp/line_editor.h"
#include "control/vm_control.h"

namespace atl::control {

/// Control thread.
class HmpMonitor {
 public:
  HmpMonitor(VmControl& vm, CharBackend& chars);
  ~HmpMonitor();

 private:
  void on_event(CharEvent event);
  void receive(std::span<const u8> data);
  void print(std::string_view text);
  void push_output();

  VmControl& vm_;
  CharBackend& chars_;
  LineEditor editor_;
  bool greeted_ = false;
  u32 cpu_ = 0;
  std::string output_;
};

}  // namespace atl::control
