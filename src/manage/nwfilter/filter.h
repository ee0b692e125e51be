// A network filter as its XML describes it (https://libvirt.org/formatnwfilter.html): rules, and references to other
// filters with their parameters.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "manage/error.h"
#include "manage/nwfilter/attributes.h"
#include "manage/uuid.h"
#include "manage/xml/element.h"

namespace atl::manage {

enum class FilterAction : u8 { Drop, Accept, Reject, Return, Continue };
/// As the guest sees it.
enum class FilterDirection : u8 { In, Out, Both };

struct FilterMatch {
  const FilterAttribute* attribute;
  std::string value;  // as printed: normal, or with a variable
};

struct FilterRule {
  FilterAction action = FilterAction::Drop;
  FilterDirection direction = FilterDirection::Both;
  i32 priority = 500;
  bool tracks = true;                        // statematch
  const FilterProtocol* protocol = nullptr;  // null: everything
  bool negated = false;                      // match='no', of each attribute
  std::vector<FilterMatch> matches;
  /// nullptr if the rule does not look at it.
  const std::string* value(std::string_view attribute) const;
};

/// Parameters in the order given; one name may have several values.
using FilterParameters = std::vector<std::pair<std::string, std::string>>;

struct FilterReference {
  std::string filter;
  FilterParameters parameters;
};

struct Filter {
  std::string name;
  Uuid uuid{};
  std::string chain = "root";
  i32 priority = 0;  // of the chain
  std::vector<std::variant<FilterRule, FilterReference>> entries;
};

/// Where a chain stands among the rules of the root chain, and what gets there: by the prefix of its name.
struct ChainKind {
  std::string_view prefix;
  i32 priority;
  std::string_view match;  // for nft
};
/// nullptr for a name that no chain may have. "root" has no match.
const ChainKind* chain_kind(std::string_view chain);

Result<Filter> parse_filter(std::string_view text);
std::string filter_xml(const Filter& filter);
/// The children <parameter>. Errors name the parameter.
Result<FilterParameters> read_filter_parameters(const xml::Element& element);
void add_filter_parameters(xml::Element& element, const FilterParameters& parameters);

}  // namespace atl::manage
