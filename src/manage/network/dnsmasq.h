// dnsmasq for a virtual network's DHCP, DNS and TFTP: its files, its process, its leases.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "manage/network/definition.h"

namespace atl::manage {

/// The two files that dnsmasq is started with. Pure.
struct DnsmasqFiles {
  std::string config, dns_hosts;
};

struct DnsmasqPaths {
  std::string config, dns_hosts, leases, pid;
};

DnsmasqFiles dnsmasq_files(const NetworkDefinition& network, const DnsmasqPaths& paths);
/// Whether the network needs one at all.
bool needs_dnsmasq(const NetworkDefinition& network);

struct Lease {
  i64 expires = 0;  // seconds since the epoch; 0: never
  bool v6 = false;
  std::string mac, iaid, ip, hostname, client_id;
};
/// What dnsmasq's lease file says; lines that make no sense are left out.
std::vector<Lease> parse_leases(std::string_view text);

/// The processes of one network. Paths are fixed by the network's name.
class Dnsmasq {
 public:
  /// `state`: a folder that survives a reboot (leases). `run`: one that need not.
  Dnsmasq(const std::string& state, const std::string& run, const std::string& network);

  /// Also again, after a change: it could not be told to read its files anew, as it may have lost the right to.
  Status start(const NetworkDefinition& network);
  void stop();
  bool is_running() const { return pid().has_value(); }
  std::vector<Lease> leases() const;
  /// The leases go too: the network is undefined.
  void forget();
  const DnsmasqPaths& paths() const { return paths_; }

 private:
  Status write_files(const NetworkDefinition& network) const;
  /// Only if the process of that number is our dnsmasq.
  std::optional<pid_t> pid() const;

  DnsmasqPaths paths_;
};

}  // namespace atl::manage
