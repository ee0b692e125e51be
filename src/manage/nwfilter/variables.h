// Variables of network filters: "$NAME" in a rule stands for each value that a guest's card gives to NAME
// (https://libvirt.org/formatnwfilter.html, "Usage of variables in filters").
//
// A name with several values makes several rules. Variables of one iterator ("$A" is "$A[@0]") step together, those of
// different iterators are combined; "$A[1]" is one value. "$IP" without a value stays in the rule: it is learned.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "manage/nwfilter/filter.h"

namespace atl::manage {

using FilterVariables = std::map<std::string, std::vector<std::string>>;

constexpr std::string_view kLearnedAddress = "$IP";

/// The rule with values for its variables, once for each combination. The error names what has no value.
Result<std::vector<FilterRule>> expand_rule(const FilterRule& rule, const FilterVariables& variables);

}  // namespace atl::manage
