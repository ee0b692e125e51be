// For tests of legacy devices: an interrupt line, a character back end and a machine that remember what happened.
#pragma once

#include <optional>
#include <string>

#include "base/char_backend.h"
#include "cpu/vm.h"
#include "devices/legacy/system_control.h"

namespace atl::devices {

struct RecordingLine final : cpu::IrqLine {
  void set(bool new_level) override {
    if (new_level && !level) ++rising_edges;
    level = new_level;
  }
  bool level = false;
  int rising_edges = 0;
};

struct RecordingBackend final : CharBackend {
  void attach(Frontend new_frontend) override { frontend = std::move(new_frontend); }
  void detach() override { frontend = {}; }
  size_t write(std::span<const u8> data) override {
    size_t taken = std::min(data.size(), room);
    output.append(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(taken));
    room -= taken;
    return taken;
  }
  void accept_input() override { ++accepts; }
  const std::string& id() const override { return name; }
  std::string describe() const override { return "null"; }
  void type(std::string_view text) {
    frontend.receive({reinterpret_cast<const u8*>(text.data()), text.size()});
  }

  Frontend frontend;
  std::string name = "char0", output;
  size_t room = ~size_t{0};
  int accepts = 0;
};

struct RecordingSystem final : SystemControl {
  void request_reset() override { ++resets; }
  void request_power_off() override { ++power_offs; }
  void request_suspend() override { ++suspends; }
  void request_hibernate() override { ++hibernations; }
  void report_alarm() override { ++alarms; }
  void request_exit(int status) override { exit_status = status; }
  void report_panic(bool crash_kernel) override { ++(crash_kernel ? crashes_loaded : panics); }
  void report_watchdog() override { ++watchdogs; }
  int resets = 0, power_offs = 0, suspends = 0, hibernations = 0, alarms = 0, panics = 0, crashes_loaded = 0, watchdogs = 0;
  std::optional<int> exit_status;
};

}  // namespace atl::devices
