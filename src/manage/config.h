// The daemon's settings: what the configuration file says (packaging/atolld.conf explains each), with the folders that
// everything is kept in.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"
#include "manage/error.h"
#include "manage/rpc/limits.h"

namespace atl::manage {

/// Folders. Everything that must survive a reboot lies below `config` and `state`, what must not below `run`.
struct Paths {
  std::string config = "/etc/atoll";    // definitions: domains/, networks/, storage/, secrets/, each with autostart/
  std::string state = "/var/lib/atoll"; // images, saved domains, leases
  std::string run = "/run/atoll";       // sockets, pid files, the state of what runs now
  std::string log = "/var/log/atoll";
  std::string programs;                 // where atoll-vmm is; "": beside this program

  /// All of them below one folder: for tests, and for a daemon of one's own.
  static Paths below(const std::string& root);
};

struct Config {
  Paths paths;
  rpc::Limits limits;

  // Unix sockets.
  std::string socket_dir;                // "": paths.run
  std::string socket_group;              // "": root only
  std::string rw_perms = "0770", ro_perms = "0777";
  std::string auth_rw = "none", auth_ro = "none";
  bool libvirt_sockets = false;          // also /run/libvirt/libvirt-sock: a plain virsh finds us

  // The network.
  bool listen_tcp = false, listen_tls = false;
  std::string listen_addr;               // "": all
  std::string tcp_port = "16509", tls_port = "16514";
  std::string auth_tcp = "sasl", auth_tls = "none";
  std::string tls_dir = "/etc/atoll/pki";
  std::string tls_priority;
  bool tls_verify_client = true;
  std::vector<std::string> tls_names;    // distinguished names that may come in, with wildcards; empty: all that the CA signed
  std::vector<std::string> sasl_users;   // empty: all that authenticate

  std::string log_file;                  // "": standard error
};

/// Lines "key = value", value a number, a "string" or a list of strings; # begins a comment. Unknown keys and values of the
/// wrong kind are errors that name the line.
Status parse_config(std::string_view text, std::string_view source, Config& config);
/// A file that need not exist unless `required`.
Status read_config(const std::string& path, bool required, Config& config);

}  // namespace atl::manage
