// The network filters that every libvirt has: clean-traffic, its parts and their like
// (https://libvirt.org/formatnwfilter.html, "Example filters").
#pragma once

#include <vector>

#include "manage/nwfilter/filter.h"

namespace atl::manage {

/// Each has a uuid that never changes.
std::vector<Filter> stock_filters();

}  // namespace atl::manage
