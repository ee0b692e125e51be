// atoll from its command line to its exit status.
#pragma once

#include <string>
#include <vector>

namespace atl::client {

/// `arguments`: without the program's name. 0: done, 1: failed or misused.
int run_atoll(const std::vector<std::string>& arguments);

}  // namespace atl::client
