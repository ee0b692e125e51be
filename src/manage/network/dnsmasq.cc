#include "manage/network/dnsmasq.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/strings.h"
#include "manage/store/state_folder.h"
#include "manage/tool/run_tool.h"

namespace atl::manage {
namespace {

using xml::Element;

constexpr u64 kFileLimit = 16 << 20;

class Lines {
 public:
  template <class... A>
  void add(fmt::format_string<A...> format, A&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<A>(args)...);
    text_ += '\n';
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void add_dns(Lines& lines, const NetworkDefinition& network) {
  if (!network.dns) {
    lines.add("port=0");
    return;
  }
  if (network.mode == ForwardMode::None) lines.add("no-resolv");
  const Element* dns = network.tree.child("dns");
  if (!dns) return;
  if (dns->attribute("forwardPlainNames") != "yes") lines.add("domain-needed");
  bool only_these = false;
  for (const Element* forwarder : dns->children("forwarder")) {
    std::string domain = forwarder->attribute("domain"), address = forwarder->attribute("addr");
    lines.add("server={}{}", domain.empty() ? "" : "/" + domain + "/", address.empty() ? "#" : address);
    only_these |= domain.empty();
  }
  if (only_these) lines.add("no-resolv");
  for (const Element* txt : dns->children("txt"))
    lines.add("txt-record={},\"{}\"", txt->attribute("name"), txt->attribute("value"));
  for (const Element* srv : dns->children("srv")) {
    std::string domain = srv->has_attribute("domain") ? srv->attribute("domain") : network.domain;
    auto number = [&](const char* key) { return srv->has_attribute(key) ? srv->attribute(key) : std::string("0"); };
    lines.add("srv-host=_{}._{}{}{},{},{},{},{}", srv->attribute("service"), srv->attribute("protocol"),
              domain.empty() ? "" : ".", domain, srv->attribute("target"), number("port"), number("priority"),
              number("weight"));
  }
}

/// In the configuration itself, which is read before dnsmasq gives its rights up.
void add_dhcp_hosts(Lines& lines, const IpSubnet& subnet) {
  for (const DhcpHost& host : subnet.hosts) {
    std::string line = !host.mac.empty() ? host.mac : host.id.empty() ? "" : "id:" + host.id;
    auto append = [&](const std::string& part) { line += (line.empty() ? "" : ",") + part; };
    if (host.ip && !subnet.address.v6) append(ip_text(*host.ip));
    if (!host.name.empty()) append(host.name);
    if (host.ip && subnet.address.v6) append("[" + ip_text(*host.ip) + "]");
    lines.add("dhcp-host={}", line);
  }
}

/// dnsmasq has one number for all of its ranges.
u64 most_leases(const NetworkDefinition& network) {
  u64 leases = 0;
  for (const IpSubnet& subnet : network.subnets) {
    for (const DhcpRange& range : subnet.ranges) leases += distance(range.start, range.end);
    leases += subnet.hosts.size();
  }
  return std::max<u64>(leases, 1);
}

void add_dhcp(Lines& lines, const IpSubnet& subnet, const NetworkDefinition& network) {
  for (const DhcpRange& range : subnet.ranges) {
    std::string lease = range.lease.empty() ? "" : "," + range.lease;
    std::string width = subnet.address.v6 ? std::to_string(subnet.prefix) : ip_text(mask_of_prefix(subnet.prefix));
    lines.add("dhcp-range={},{},{}{}", ip_text(range.start), ip_text(range.end), width, lease);
  }
  if (subnet.ranges.empty()) lines.add("dhcp-range={},static", ip_text(subnet.address));
  add_dhcp_hosts(lines, subnet);
  if (subnet.address.v6) return;
  lines.add("dhcp-no-override");
  lines.add("dhcp-authoritative");
  // Guests of an isolated network get no default route: it would lead nowhere.
  if (network.mode == ForwardMode::None) lines.add("dhcp-option=3");
  if (!subnet.bootp_file.empty())
    lines.add("dhcp-boot={}{}{}", subnet.bootp_file, subnet.bootp_server.empty() ? "" : ",,", subnet.bootp_server);
}

void add_subnet(Lines& lines, const IpSubnet& subnet, const NetworkDefinition& network) {
  if (subnet.has_dhcp()) add_dhcp(lines, subnet, network);
  if (subnet.local_ptr && !subnet.address.v6 && subnet.prefix % 8 == 0) {
    std::string zone;
    for (unsigned i = subnet.prefix / 8; i > 0; --i) zone += fmt::format("{}.", subnet.address.bytes[i - 1]);
    lines.add("local=/{}in-addr.arpa/", zone);
  }
  if (!subnet.tftp_root.empty()) {
    lines.add("enable-tftp");
    lines.add("tftp-root={}", subnet.tftp_root);
  }
}

std::string config_text(const NetworkDefinition& network, const DnsmasqPaths& paths) {
  Lines lines;
  lines.add("# Written when the network starts. Changes go into the network's definition.");
  lines.add("strict-order");
  lines.add("no-hosts");
  if (!network.domain.empty()) {
    if (network.domain_local_only) lines.add("local=/{}/", network.domain);
    lines.add("domain={}", network.domain);
    lines.add("expand-hosts");
  }
  lines.add("pid-file={}", paths.pid);
  lines.add("except-interface=lo");
  lines.add("bind-dynamic");
  lines.add("interface={}", network.bridge);
  add_dns(lines, network);
  for (const IpSubnet& subnet : network.subnets) add_subnet(lines, subnet, network);
  bool v6 = false, dhcp = false;
  for (const IpSubnet& subnet : network.subnets) v6 |= subnet.address.v6, dhcp |= subnet.has_dhcp();
  if (v6) lines.add("enable-ra");
  if (dhcp) {
    lines.add("dhcp-lease-max={}", most_leases(network));
    lines.add("dhcp-leasefile={}", paths.leases);
  }
  lines.add("addn-hosts={}", paths.dns_hosts);
  if (const Element* options = network.tree.child("dnsmasq:options"))
    for (const Element* option : options->children("dnsmasq:option")) lines.add("{}", option->attribute("value"));
  return lines.take();
}

std::string dns_hosts_text(const NetworkDefinition& network) {
  Lines lines;
  const Element* dns = network.tree.child("dns");
  if (!dns) return {};
  for (const Element* host : dns->children("host")) {
    std::string line = host->attribute("ip");
    for (const Element* name : host->children("hostname")) line += "\t" + name->text();
    lines.add("{}", line);
  }
  return lines.take();
}

/// It keeps nothing but leases, which are written at once. The next one needs its sockets.
void kill_and_wait(pid_t process) {
  Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  ::kill(process, SIGKILL);
  pollfd ended{handle.get(), POLLIN, 0};
  if (handle) ::poll(&ended, 1, 5000);
}

}  // namespace

DnsmasqFiles dnsmasq_files(const NetworkDefinition& network, const DnsmasqPaths& paths) {
  return {config_text(network, paths), dns_hosts_text(network)};
}

bool needs_dnsmasq(const NetworkDefinition& network) {
  if (!network.is_virtual() || network.subnets.empty()) return false;
  for (const IpSubnet& subnet : network.subnets)
    if (subnet.has_dhcp() || subnet.address.v6 || !subnet.tftp_root.empty()) return true;
  return network.dns;
}

std::vector<Lease> parse_leases(std::string_view text) {
  std::vector<Lease> leases;
  for (std::string_view line : split(text, '\n')) {
    auto words = split(trim(line), ' ');
    if (words.size() < 4) continue;  // "duid ..." says the server's own identifier
    auto expires = parse_i64(words[0]);
    auto address = parse_ip(words[2]);
    if (!expires || !address) continue;
    Lease lease;
    lease.expires = *expires;
    lease.v6 = address->v6;
    (lease.v6 ? lease.iaid : lease.mac) = words[1];
    lease.ip = words[2];
    if (words[3] != "*") lease.hostname = words[3];
    if (words.size() > 4 && words[4] != "*") lease.client_id = words[4];
    leases.push_back(std::move(lease));
  }
  return leases;
}

Dnsmasq::Dnsmasq(const std::string& state, const std::string& run, const std::string& network)
    : paths_{fmt::format("{}/{}.conf", run, network), fmt::format("{}/{}.addnhosts", run, network),
             fmt::format("{}/{}.leases", state, network), fmt::format("{}/{}.pid", run, network)} {}

Status Dnsmasq::write_files(const NetworkDefinition& network) const {
  DnsmasqFiles files = dnsmasq_files(network, paths_);
  // Read after dnsmasq has given its rights up.
  TRY(write_atomically(paths_.dns_hosts, files.dns_hosts, 0644, Flush::Never));
  return write_atomically(paths_.config, files.config, 0644, Flush::Never);
}

Status Dnsmasq::start(const NetworkDefinition& network) {
  stop();
  if (!needs_dnsmasq(network)) return {};
  TRY(write_files(network));
  TRY(run_tool_checked({.words = {"dnsmasq", "--conf-file=" + paths_.config}, .input = {}}));
  return {};
}

std::optional<pid_t> Dnsmasq::pid() const {
  auto text = read_file(paths_.pid, 64);
  auto number = text ? parse_u64(trim(*text)) : std::nullopt;
  if (!number || *number < 2 || *number > 1u << 30) return std::nullopt;
  auto command = read_file(fmt::format("/proc/{}/cmdline", *number), 64 << 10);
  if (!command || command->find("--conf-file=" + paths_.config) == std::string::npos) return std::nullopt;
  return static_cast<pid_t>(*number);
}

void Dnsmasq::stop() {
  if (auto process = pid()) kill_and_wait(*process);
  for (const std::string& path : {paths_.pid, paths_.config, paths_.dns_hosts}) ::unlink(path.c_str());
}

std::vector<Lease> Dnsmasq::leases() const {
  auto text = read_file(paths_.leases, kFileLimit);
  return text ? parse_leases(*text) : std::vector<Lease>();
}

void Dnsmasq::forget() { ::unlink(paths_.leases.c_str()); }

}  // namespace atl::manage
