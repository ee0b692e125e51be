#include "manage/nwfilter/stock_filters.h"

namespace atl::manage {
namespace {

struct StockFilter {
  std::string_view head;  // attributes of <filter>
  std::string_view uuid;
  std::string_view body;
};

constexpr StockFilter kFilters[] = {
    {"name='allow-arp' chain='arp'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a6000a",
     "<rule action='accept' direction='inout'/>"},
    {"name='allow-dhcp' chain='ipv4'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a6000b",
     "<rule action='accept' direction='out' priority='100'><ip srcipaddr='0.0.0.0' dstipaddr='255.255.255.255' "
     "protocol='udp' srcportstart='68' dstportstart='67'/></rule>"
     "<rule action='accept' direction='in' priority='100'><ip protocol='udp' srcportstart='67' "
     "dstportstart='68'/></rule>"},
    {"name='allow-dhcp-server' chain='ipv4'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a6000c",
     "<rule action='accept' direction='out' priority='100'><ip srcipaddr='0.0.0.0' dstipaddr='255.255.255.255' "
     "protocol='udp' srcportstart='68' dstportstart='67'/></rule>"
     "<rule action='accept' direction='in' priority='100'><ip srcipaddr='$DHCPSERVER' protocol='udp' srcportstart='67' "
     "dstportstart='68'/></rule>"},
    {"name='allow-dhcpv6' chain='ipv6'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a6000d",
     "<rule action='accept' direction='out' priority='100'><ipv6 srcipaddr='fe80::' srcipmask='10' "
     "dstipaddr='ff02::1:2' protocol='udp' srcportstart='546' dstportstart='547'/></rule>"
     "<rule action='accept' direction='in' priority='100'><ipv6 protocol='udp' srcportstart='547' "
     "dstportstart='546'/></rule>"},
    {"name='allow-dhcpv6-server' chain='ipv6'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a6000e",
     "<rule action='accept' direction='out' priority='100'><ipv6 srcipaddr='fe80::' srcipmask='10' "
     "dstipaddr='ff02::1:2' protocol='udp' srcportstart='546' dstportstart='547'/></rule>"
     "<rule action='accept' direction='in' priority='100'><ipv6 srcipaddr='$DHCPSERVER' protocol='udp' "
     "srcportstart='547' dstportstart='546'/></rule>"},
    {"name='allow-incoming-ipv4' chain='ipv4'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a6000f",
     "<rule action='accept' direction='in'/>"},
    {"name='allow-incoming-ipv6' chain='ipv6'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60010",
     "<rule action='accept' direction='in'/>"},
    {"name='allow-ipv4' chain='ipv4'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60011",
     "<rule action='accept' direction='inout'/>"},
    {"name='allow-ipv6' chain='ipv6'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60012",
     "<rule action='accept' direction='inout'/>"},
    {"name='clean-traffic'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60009",
     "<filterref filter='no-mac-spoofing'/><filterref filter='no-ip-spoofing'/>"
     "<rule action='accept' direction='out' priority='-650'><mac protocolid='ipv4'/></rule>"
     "<filterref filter='allow-incoming-ipv4'/><filterref filter='no-arp-spoofing'/>"
     "<rule action='accept' direction='inout' priority='-500'><mac protocolid='arp'/></rule>"
     "<filterref filter='no-other-l2-traffic'/><filterref filter='qemu-announce-self'/>"},
    {"name='clean-traffic-gateway'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60013",
     "<filterref filter='no-mac-spoofing'/><filterref filter='no-ip-spoofing'/><filterref filter='no-arp-spoofing'/>"
     "<rule action='accept' direction='inout' priority='-500'><mac protocolid='arp'/></rule>"
     "<rule action='accept' direction='in'><mac srcmacaddr='$GATEWAY_MAC'/></rule>"
     "<rule action='accept' direction='out'><mac dstmacaddr='$GATEWAY_MAC'/></rule>"
     "<filterref filter='no-other-l2-traffic'/><filterref filter='qemu-announce-self'/>"},
    {"name='no-arp-ip-spoofing' chain='arp-ip' priority='-510'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60004",
     "<rule action='return' direction='out' priority='400'><arp arpsrcipaddr='$IP'/></rule>"
     "<rule action='drop' direction='out' priority='1000'/>"},
    {"name='no-arp-mac-spoofing' chain='arp-mac' priority='-520'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60003",
     "<rule action='return' direction='out' priority='350'><arp arpsrcmacaddr='$MAC'/></rule>"
     "<rule action='drop' direction='out' priority='1000'/>"},
    {"name='no-arp-spoofing'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60005",
     "<filterref filter='no-arp-mac-spoofing'/><filterref filter='no-arp-ip-spoofing'/>"},
    {"name='no-ip-multicast' chain='ipv4'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60007",
     "<rule action='drop' direction='out'><ip dstipaddr='224.0.0.0' dstipmask='4'/></rule>"},
    {"name='no-ip-spoofing' chain='ipv4-ip' priority='-710'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60002",
     "<rule action='return' direction='out' priority='100'><ip srcipaddr='0.0.0.0' protocol='udp'/></rule>"
     "<rule action='return' direction='out'><ip srcipaddr='$IP'/></rule>"
     "<rule action='drop' direction='out' priority='1000'/>"},
    {"name='no-ipv6-multicast' chain='ipv6'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60014",
     "<rule action='drop' direction='out'><ipv6 dstipaddr='ff00::' dstipmask='8'/></rule>"},
    {"name='no-ipv6-spoofing' chain='ipv6-ip' priority='-610'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60015",
     "<rule action='return' direction='out' priority='100'><ipv6 srcipaddr='fe80::' srcipmask='10' "
     "protocol='udp'/></rule><rule action='return' direction='out'><ipv6 srcipaddr='$IPV6'/></rule>"
     "<rule action='drop' direction='out' priority='1000'/>"},
    {"name='no-mac-broadcast' chain='ipv4'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60008",
     "<rule action='drop' direction='out'><mac dstmacaddr='ff:ff:ff:ff:ff:ff'/></rule>"},
    {"name='no-mac-spoofing' chain='mac'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60001",
     "<rule action='return' direction='out'><mac srcmacaddr='$MAC'/></rule>"
     "<rule action='drop' direction='out'><mac/></rule>"},
    {"name='no-other-l2-traffic'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60006",
     "<rule action='drop' direction='inout' priority='1000'/>"},
    {"name='no-other-rarp-traffic' chain='rarp'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60016",
     "<rule action='drop' direction='inout' priority='1000'/>"},
    {"name='qemu-announce-self'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60017",
     "<rule action='accept' direction='out'><mac protocolid='0x835'/></rule>"
     "<filterref filter='qemu-announce-self-rarp'/><filterref filter='no-other-rarp-traffic'/>"},
    {"name='qemu-announce-self-rarp' chain='rarp'", "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60018",
     "<rule action='accept' direction='out'><rarp dstmacaddr='ff:ff:ff:ff:ff:ff' srcmacaddr='$MAC' "
     "opcode='Request_Reverse' arpsrcmacaddr='$MAC' arpdstmacaddr='$MAC' arpsrcipaddr='0.0.0.0' "
     "arpdstipaddr='0.0.0.0'/></rule>"
     "<rule action='accept' direction='in'><rarp dstmacaddr='ff:ff:ff:ff:ff:ff' opcode='Request_Reverse' "
     "arpsrcmacaddr='$MAC' arpdstmacaddr='$MAC' arpsrcipaddr='0.0.0.0' arpdstipaddr='0.0.0.0'/></rule>"},
};

}  // namespace

std::vector<Filter> stock_filters() {
  std::vector<Filter> filters;
  for (const StockFilter& stock : kFilters) {
    std::string text = "<filter " + std::string(stock.head) + "><uuid>" + std::string(stock.uuid) + "</uuid>" +
                       std::string(stock.body) + "</filter>";
    filters.push_back(MUST(parse_filter(text)));  // the table above is ours
  }
  return filters;
}

}  // namespace atl::manage
