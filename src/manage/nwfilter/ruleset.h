// What guards one guest's card: a filter with all that it refers to, as an nftables table of the card's own.
//
// The table has a chain for frames from the guest and one for frames to it, with the filter's chains below, and two
// more for connections, which see what the first two let pass. Without a value for $IP the first address that the
// guest uses counts (CTRL_IP_LEARNING: "any", the default; "dhcp" takes what DHCP gives it; "none" refuses).
#pragma once

#include <functional>
#include <string>

#include "manage/nwfilter/variables.h"

namespace atl::manage {

/// Which filter guards which card.
struct FilterBinding {
  std::string owner;  // the guest
  Uuid owner_uuid{};
  std::string port;  // the host's end of the card
  std::string mac;
  std::string filter;
  FilterParameters parameters;
};

/// nullptr if there is no filter of that name.
using FilterLookup = std::function<const Filter*(const std::string& name)>;

/// The table as `nft -f` takes it, replacing what was there. Pure.
Result<std::string> binding_rules(const FilterBinding& binding, const FilterLookup& lookup);
/// Deletes the table; fine if there is none.
std::string binding_removal(const std::string& port);
/// Whether `filter` is `name` or refers to it, at any depth.
bool filter_uses(const std::string& filter, const std::string& name, const FilterLookup& lookup);

}  // namespace atl::manage
