// --help and --version.
#pragma once

#include <string>

namespace atl::img {

/// Both give the exit status 0.
int print_help();
int print_version(const std::string& program);

}  // namespace atl::img
