// Definitions, and what is written for dnsmasq and nft; tests/program/test_networks.py runs the real ones.
#include <gmock/gmock.h>

#include "manage/network/bandwidth.h"
#include "manage/network/definition.h"
#include "manage/network/dnsmasq.h"
#include "manage/network/firewall.h"
#include "manage/network/update.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kDefault =
    "<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='on' delay='0'/>"
    "<mac address='52:54:00:91:d4:95'/><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>"
    "<range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>";

NetworkDefinition parsed(std::string_view text) {
  auto network = parse_network(text);
  EXPECT_TRUE(network) << network.error().message();
  return network ? *std::move(network) : NetworkDefinition();
}

Code refusal(std::string_view inside) {
  auto network = parse_network("<network><name>n</name>" + std::string(inside) + "</network>");
  return network ? Code::Ok : network.error().code();
}

TEST(NetworkDefinitionTest, TheUsualNatNetworkIsCompletedAsLibvirtDoes) {
  NetworkDefinition network = parsed(kDefault);
  EXPECT_EQ(network.mode, ForwardMode::Nat);
  EXPECT_EQ(network.bridge, "virbr0");
  EXPECT_EQ(network.mac, "52:54:00:91:d4:95");
  ASSERT_EQ(network.subnets.size(), 1u);
  EXPECT_EQ(network.subnets[0].prefix, 24u);
  std::string text = xml::write(network.tree);
  EXPECT_THAT(text, HasSubstr("<uuid>" + format_uuid(network.uuid) + "</uuid>"));
  EXPECT_THAT(text, HasSubstr("<port start='1024' end='65535'/>"));
  EXPECT_EQ(xml::write(parsed(text).tree), text);
}

TEST(NetworkDefinitionTest, WhatWeCannotDoIsRefusedByName) {
  EXPECT_EQ(refusal("<forward mode='hostdev'/>"), Code::ConfigUnsupported);
  EXPECT_EQ(refusal("<virtualport type='openvswitch'/>"), Code::ConfigUnsupported);
  EXPECT_EQ(refusal("<vlan><tag id='3'/></vlan>"), Code::ConfigUnsupported);
}

TEST(NetworkDefinitionTest, ContradictionsAreXmlErrors) {
  EXPECT_EQ(refusal("<forward mode='teleport'/>"), Code::ConfigUnsupported);
  EXPECT_EQ(refusal("<ip address='10.0.0.300'/>"), Code::XmlError);
  EXPECT_EQ(refusal("<ip address='10.0.0.1' netmask='255.0.255.0'/>"), Code::XmlError);
  EXPECT_EQ(refusal("<ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.1.2' end='10.0.1.9'/></dhcp></ip>"),
            Code::InternalError);
  EXPECT_EQ(refusal("<ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.9' end='10.0.0.2'/></dhcp></ip>"),
            Code::InternalError);
  EXPECT_EQ(refusal("<ip address='fd00::1' prefix='64'/>"), Code::XmlError);
  EXPECT_EQ(refusal("<bridge name='a/b'/>"), Code::XmlError);
  EXPECT_EQ(refusal("<forward mode='bridge'/><bridge name='br0'/><ip address='10.0.0.1'/>"), Code::XmlError);
  EXPECT_EQ(refusal("<forward mode='bridge'/>"), Code::XmlError);
}

TEST(NetworkDefinitionTest, NamesThatWouldWriteOptionsOfDnsmasqAreRefused) {
  EXPECT_EQ(refusal("<domain name='a&#10;dhcp-script=/bin/sh'/>"), Code::XmlError);
  EXPECT_EQ(refusal("<dns><host ip='10.0.0.2'><hostname>a b</hostname></host></dns>"), Code::XmlError);
  EXPECT_EQ(refusal("<dns><txt name='a' value='x&quot;y'/></dns>"), Code::XmlError);
}

TEST(DnsmasqTest, RangeHostsAndNamesReachItsFiles) {
  NetworkDefinition network = parsed(
      "<network><name>n</name><forward/><bridge name='virbr7'/><domain name='lab' localOnly='yes'/>"
      "<dns><host ip='10.1.0.9'><hostname>nine</hostname><hostname>neun</hostname></host><txt name='t' value='v "
      "w'/></dns>"
      "<ip address='10.1.0.1' prefix='16'><dhcp><range start='10.1.0.2' end='10.1.0.5'><lease expiry='2' "
      "unit='hours'/></range>"
      "<host mac='52:54:00:00:00:01' name='one' ip='10.1.0.100'/></dhcp></ip>"
      "<ip family='ipv6' address='fd01::1' prefix='64'/></network>");
  DnsmasqPaths paths{"/c", "/d", "/l", "/p"};
  DnsmasqFiles files = dnsmasq_files(network, paths);
  for (const char* line :
       {"interface=virbr7\n", "dhcp-range=10.1.0.2,10.1.0.5,255.255.0.0,2h\n", "local=/lab/\n", "domain=lab\n",
        "txt-record=t,\"v w\"\n", "dhcp-lease-max=5\n", "enable-ra\n", "dhcp-leasefile=/l\n"})
    EXPECT_THAT(files.config, HasSubstr(line));
  EXPECT_THAT(files.config, HasSubstr("dhcp-host=52:54:00:00:00:01,10.1.0.100,one\n"));
  EXPECT_EQ(files.dns_hosts, "10.1.0.9\tnine\tneun\n");
}

TEST(DnsmasqTest, LeasesOfBothFamiliesAreRead) {
  auto leases = parse_leases(
      "1700000000 52:54:00:aa:bb:cc 192.168.122.50 guest ff:01\n"
      "duid 00:01\n"
      "1700000001 11189196 fd00::50 * 00:02\n"
      "rubbish\n");
  ASSERT_EQ(leases.size(), 2u);
  EXPECT_EQ(leases[0].mac, "52:54:00:aa:bb:cc");
  EXPECT_EQ(leases[0].hostname, "guest");
  EXPECT_TRUE(leases[1].v6);
  EXPECT_EQ(leases[1].iaid, "11189196");
  EXPECT_EQ(leases[1].hostname, "");
}

TEST(FirewallTest, NatLetsOnlyAnswersIn) {
  std::string rules = firewall_rules(parsed(kDefault));
  EXPECT_THAT(rules, HasSubstr("oifname \"virbr0\" ip daddr 192.168.122.0/24 ct state established,related accept"));
  EXPECT_THAT(rules, HasSubstr("ip daddr != 192.168.122.0/24 meta l4proto { tcp, udp } masquerade to :1024-65535"));
}

TEST(FirewallTest, IsolatedRejectsBothWaysAndOpenHasNoRules) {
  std::string isolated =
      firewall_rules(parsed("<network><name>n</name><bridge name='b'/><ip address='10.0.0.1' prefix='24'/></network>"));
  EXPECT_THAT(isolated, HasSubstr("oifname \"b\" reject"));
  EXPECT_THAT(isolated, Not(HasSubstr("10.0.0.0")));
  EXPECT_EQ(firewall_rules(
                parsed("<network><name>n</name><forward mode='open'/><ip address='10.0.0.1' prefix='24'/></network>")),
            "");
}

TEST(IpTest, RangesAreCounted) {
  auto count = [](const char* a, const char* b) { return distance(*parse_ip(a), *parse_ip(b)); };
  EXPECT_EQ(count("10.0.0.1", "10.0.0.1"), 1u);
  EXPECT_EQ(count("10.0.0.250", "10.0.1.4"), 11u);
  EXPECT_EQ(count("10.0.1.0", "10.0.0.255"), 0u);
  EXPECT_EQ(count("fd00::", "fd00::1:0"), 0x10001u);
  EXPECT_EQ(count("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), u64{1} << 32);
}

TEST(BandwidthTest, InboundIsShapedAndOutboundPoliced) {
  std::string commands = bandwidth_commands("vnet0", {100, 200, 50}, {10, 0, 0});
  EXPECT_THAT(commands, HasSubstr("htb rate 100kibps ceil 200kibps burst 50kb"));
  EXPECT_THAT(commands, HasSubstr("police rate 10kibps burst 10kb"));
}

class UpdateTest : public ::testing::Test {
 protected:
  Status update(u32 command, UpdateSection section, std::string_view change) {
    return update_tree(tree_, command, static_cast<u32>(section), -1, change);
  }
  xml::Element tree_ = parsed(kDefault).tree;
};

TEST_F(UpdateTest, AHostIsAddedOnceChangedAndRemoved) {
  const char* host = "<host mac='52:54:00:00:00:01' ip='192.168.122.9'/>";
  ASSERT_TRUE(update(3, UpdateSection::DhcpHost, host));
  EXPECT_FALSE(update(3, UpdateSection::DhcpHost, host));
  ASSERT_TRUE(update(1, UpdateSection::DhcpHost, "<host mac='52:54:00:00:00:01' ip='192.168.122.10'/>"));
  EXPECT_THAT(xml::write(tree_), HasSubstr("192.168.122.10"));
  ASSERT_TRUE(update(2, UpdateSection::DhcpHost, "<host mac='52:54:00:00:00:01'/>"));
  EXPECT_FALSE(update(2, UpdateSection::DhcpHost, host));
}

TEST_F(UpdateTest, DnsEntriesMakeTheirParent) {
  ASSERT_TRUE(update(3, UpdateSection::DnsHost, "<host ip='192.168.122.7'><hostname>x</hostname></host>"));
  EXPECT_NE(tree_.find("dns/host/hostname"), nullptr);
  EXPECT_FALSE(update(3, UpdateSection::Bridge, "<bridge/>"));
  EXPECT_FALSE(update(3, UpdateSection::DnsHost, "<txt/>"));
}

}  // namespace
}  // namespace atl::manage
