// What a daemon that was killed in the middle of a start left behind: a VM that nobody knows of, its folder and its control group.
#pragma once

#include <set>
#include <string>

namespace atl::manage {

/// Ends and removes all in `run_folder` whose folders are not among `known`. When the daemon starts, before it starts a VM.
void remove_leftovers(const std::string& run_folder, const std::set<std::string>& known);

}  // namespace atl::manage
