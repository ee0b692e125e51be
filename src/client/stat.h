// `atoll stat`: counters of the virtual machines that run, with kvm_stat's options. The numbers are KVM's binary statistics
// (Documentation/virt/kvm/api.rst, "KVM_GET_STATS_FD"), read through descriptors that VMMs keep open; no debugfs.
//
// Missing: the counters of the software CPU, and a picture that refreshes in place on a terminal: a new block of lines comes each interval.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::client {

/// Values by counter; of one VM or vCPU, or added up.
using Counters = std::map<std::string, u64>;

/// Decodes one statistics descriptor's content: header, id, descriptors, data. Malformed content is an error.
Result<Counters> decode_stats(std::span<const u8> content);

int run_stat(std::span<const std::string> words);

}  // namespace atl::client
