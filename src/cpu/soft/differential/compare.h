// What must be equal after the two executions of a case, and how a difference is told.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cpu/soft/differential/case.h"

namespace atl::soft::differential {

/// Who executed.
struct Names {
  std::string_view first = "native", second = "interpreted";
};

/// One line a difference, "rax: 0x1 before, 0x2 native, 0x3 interpreted"; empty if there is none. `native` may be another
/// software outcome.
std::vector<std::string> differences(const Case& c, const Outcome& native, const Outcome& soft, const Names& names = {});

/// The case for a person: bytes, text, where it ran.
std::string describe(const Case& c);

}  // namespace atl::soft::differential
