// What KVM counts for the virtual machines that run: its binary statistics (Documentation/virt/kvm/api.rst,
// "KVM_GET_STATS_FD"), read through descriptors that VMMs keep open; no debugfs.
#pragma once

#include <regex.h>

#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/types.h"

namespace atl::client {

/// Values by counter; of one VM or vCPU, or added up.
using Counters = std::map<std::string, u64>;

/// A compiled -f expression.
class Filter {
 public:
  explicit Filter(const std::string& expression) : all_(expression.empty()) {
    valid_ = all_ || ::regcomp(&regex_, expression.c_str(), REG_EXTENDED | REG_NOSUB) == 0;
  }
  ~Filter() {
    if (valid_ && !all_) ::regfree(&regex_);
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;
  bool is_valid() const { return valid_; }
  bool takes(const std::string& name) const { return all_ || ::regexec(&regex_, name.c_str(), 0, nullptr, 0) == 0; }

 private:
  const bool all_;
  bool valid_ = false;
  regex_t regex_{};
};

struct Sample {
  Counters total;
  std::map<u64, Counters> by_vm;  // by process
  /// By process and, in KVM's words, "kvm-vcpu-stats:0" or "kvm-vm-stats".
  std::map<std::pair<u64, std::string>, Counters> by_part;
};

/// Of the counters that `filter` takes; of one process if `pid` says so.
Sample take_sample(std::optional<u64> pid, const Filter& filter);

}  // namespace atl::client
