// What the command line says about the process around the VM: character back ends, monitors, pid file, sandbox.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/chardev/config.h"
#include "display/vnc/server.h"
#include "machine/config.h"

namespace atl::control {

/// A monitor on a character back end.
struct MonitorConfig {
  machine::CharId chardev;
  bool qmp = false;     // false: the human monitor
  bool pretty = false;  // QMP: indented output
};

/// -sandbox: which groups of system calls the process may still use once the guest runs.
struct SandboxConfig {
  enum class Elevation : u8 { Allow, Deny, Children };
  bool enabled = false;
  bool allow_obsolete = false;
  Elevation elevation = Elevation::Allow;
  bool allow_spawn = true;
  bool allow_resource_control = true;
};

/// -vnc: the server, and what it needs of other options.
struct VncConfig {
  display::vnc::ServerOptions server;
  std::string id = "default";
  std::string password_secret, tls_credentials;   // ids of objects; "" = none
  std::string device;                             // whose screen; "" = the first
  bool power_control = false;
};

struct ProgramOptions {
  std::vector<ChardevConfig> chardevs;
  /// Who uses which back end, under the id that its user knows: the back end's own id, or one port of a mux each.
  std::vector<std::pair<machine::CharId, std::string>> ports;
  std::vector<MonitorConfig> monitors;
  std::optional<VncConfig> vnc;
  std::string keyboard_layout;  // -k
  std::map<std::string, std::shared_ptr<const TlsCredentials>> tls_credentials;  // -object tls-creds-*
  machine::CharId gdb;       // where a debugger connects; "" = nowhere
  machine::CharId qtest;     // where a program that tests devices is; "" = nowhere
  std::string qtest_log;     // file, "" = none
  std::string pidfile;
  bool daemonize = false;
  SandboxConfig sandbox;
  u8 escape = 1;             // the mux's escape character: Ctrl-a
  bool lock_memory = false;
  bool log_timestamps = false;
  bool log_guest_name = false;
  std::string process_name;  // -name process=
  std::string chroot;        // "" = none
  std::optional<std::pair<u32, u32>> run_as;  // user and group
  std::map<u64, int> fd_sets;  // -add-fd: set number to descriptor
};

struct CommandLine {
  machine::Config machine;
  ProgramOptions program;
  /// Set if help or the version was asked for: print it and exit with status 0.
  std::optional<std::string> text;
};

}  // namespace atl::control
