// atolld from its command line to its exit status.
#pragma once

#include <string>
#include <vector>

namespace atl::manage {

/// `arguments`: without the program's name.
int run_daemon(const std::vector<std::string>& arguments);

}  // namespace atl::manage
