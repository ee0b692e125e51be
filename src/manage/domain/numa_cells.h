// <cpu><numa>: the guest's memory in cells, each with the vCPUs that are near to it, and how far cells are from each other.
#pragma once

#include <string>
#include <vector>

#include "manage/domain/tree.h"

namespace atl::manage {

/// Checks and completes the cells; the domain's memory becomes their sum. Before the rest of the memory is looked at.
Status fill_numa(Element& domain);

inline bool has_numa(const Element& domain) { return domain.find("cpu/numa") != nullptr; }

/// Refuses huge pages of a size that the VM cannot ask for.
Status check_huge_pages(const Element& domain);

/// The options of the VM, in order: "-object" and "-numa" with their values.
struct NumaOption {
  std::string_view option;
  std::string value;
};
Result<std::vector<NumaOption>> numa_options(const Element& domain);

}  // namespace atl::manage
