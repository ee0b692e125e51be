// The network filters that every libvirt has: clean-traffic, its parts and their like
// (https://libvirt.org/formatnwfilter.html).
//
// Each is one row: what it consists of, how libvirt's XML says it, and the nftables rules that enforce it on a guest's
// tap. Supported: the spoofing filters, multicast and broadcast, clean-traffic. Missing: filters of one's own,
// clean-traffic-gateway.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "manage/error.h"
#include "manage/network/ip.h"
#include "manage/uuid.h"

namespace atl::manage {

struct StockFilter {
  std::string_view name;
  std::string_view chain;  // of libvirt's XML
  std::string_view uuid;
  std::string_view parts[4];    // other filters
  std::string_view protocol;    // of what is dropped: "mac", "ip", "arp"
  std::string_view attributes;  // what libvirt's rule matches, as name=value pairs; "" for all of the protocol
  std::string_view rules;       // for nft, one a line; {mac} is the guest's address
};

std::span<const StockFilter> stock_filters();
/// NoNwfilter if there is none.
Result<const StockFilter*> find_stock_filter(std::string_view name);
std::string stock_filter_xml(const StockFilter& filter);

/// The table for a tap as `nft -f` takes it, replacing what was there. Pure. Without addresses the first one that the
/// guest uses counts, as with libvirt's learning.
Result<std::string> filter_rules(const std::string& tap, const std::string& mac, std::string_view filter,
                                 const std::vector<IpAddress>& addresses);
/// Deletes the table; fine if there is none.
std::string filter_removal(const std::string& tap);

}  // namespace atl::manage
