// `atoll stat`: counters of the virtual machines that run, with kvm_stat's options: once, a line an interval, or a live
// picture on a terminal.
//
// Missing: the counters of the software CPU.
#pragma once

#include <span>
#include <string>

namespace atl::client {

int run_stat(std::span<const std::string> words);

}  // namespace atl::client
