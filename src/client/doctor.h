// `atoll doctor`: what this host can do for virtual machines, one line a fact, and what to do about each miss. Facts come
// from /proc, /sys and /dev alone; no daemon is asked.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace atl::client {

struct Finding {
  enum class Grade : unsigned char { Pass, Warn, Fail } grade = Grade::Pass;
  std::string subject, detail, advice;
};

/// `root` stands before every path; "" but in tests.
std::vector<Finding> examine_host(const std::string& root);

/// Exit status 0: nothing failed (as virt-host-validate has it, warnings do not count).
int run_doctor(std::span<const std::string> words);

}  // namespace atl::client
