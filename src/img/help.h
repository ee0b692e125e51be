// --help and --version.
#pragma once

namespace atl::img {

/// Both give the exit status 0.
int print_help();
int print_version();

}  // namespace atl::img
