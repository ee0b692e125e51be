// What a rule of a network filter can match: the protocols and their attributes
// (https://libvirt.org/formatnwfilter.html, "Supported protocols"), and how each value is read and printed.
//
// Rows stand in the order in which libvirt prints them. An attribute that a protocol does not have is dropped, as
// libvirt does; a value that does not fit its type is refused. "$NAME" stands for a value everywhere.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

enum class ValueKind : u8 {
  Mac,
  MacMask,
  Ip4,
  Ip4Mask,  // a prefix's length, or a mask in dots
  Ip6,
  Ip6Mask,
  U8,
  U16,
  U32,
  VlanId,
  Dscp,
  EtherType,
  IpProtocol,
  ArpOperation,
  YesNo,
  TcpFlags,  // "mask/set"
  States,
  Text,
};

struct FilterAttribute {
  std::string_view name;
  ValueKind kind = ValueKind::Text;
};

/// What a rule looks at first.
enum class FilterLayer : u8 { Link, Ip4, Ip6 };

struct FilterProtocol {
  std::string_view name;
  FilterLayer layer;        // Link: in the filter's chain; Ip4 and Ip6: with connections, whatever the chain
  std::string_view number;  // of the protocol over IP, for nft; "" for all
  std::span<const FilterAttribute> attributes;
};

/// nullptr if there is none.
const FilterProtocol* find_filter_protocol(std::string_view name);

/// The value as libvirt prints it; nothing if it does not fit.
std::optional<std::string> normal_value(ValueKind kind, std::string_view text);
/// A number as it stands in XML: decimal, or hexadecimal after 0x.
std::optional<u64> filter_number(std::string_view text);
/// Numbers behind names; numbers stand for themselves. The value is one that normal_value gave.
u64 ether_type_number(std::string_view value);
u64 ip_protocol_number(std::string_view value);
u64 arp_operation_number(std::string_view value);
/// The bits of "SYN,ACK", in the order of the TCP header.
u64 tcp_flag_bits(std::string_view names);

}  // namespace atl::manage
