// The XML of a binding: which filter guards which card (https://libvirt.org/formatnwfilter.html; virNWFilterBinding).
#pragma once

#include <string>
#include <string_view>

#include "manage/error.h"
#include "manage/nwfilter/ruleset.h"

namespace atl::manage {

Result<FilterBinding> parse_filter_binding(std::string_view text);
std::string filter_binding_xml(const FilterBinding& binding);
/// Names go to nft: letters, digits and few others.
Status check_port_name(std::string_view name);

}  // namespace atl::manage
