#include "manage/domain/leftovers.h"

#include <signal.h>

#include <filesystem>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "manage/domain/tuning.h"

namespace atl::manage {
namespace {

constexpr u64 kGone_ns = 5'000'000'000;

void end_group(const ControlGroup& group) {
  for (const pid_t pid : group.processes()) {
    auto process = identify_process(pid);
    if (!process) continue;
    (void)signal_process(*process, SIGKILL);  // gone already: fine
    wait_for_end(*process, kGone_ns);
  }
  group.remove();
}

/// "21-name", the domain's id and name.
void remove_one(const std::string& run_folder, const std::filesystem::path& folder) {
  const std::string label = folder.filename().string();
  const size_t dash = label.find('-');
  const auto id = parse_u64(label.substr(0, dash));
  if (dash == std::string::npos || !id) return;
  log_warning("removing what is left of a start that was not finished: {}", label);
  if (auto group = ControlGroup::open(group_name(run_folder, static_cast<i32>(*id), label.substr(dash + 1)))) end_group(*group);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

}  // namespace

void remove_leftovers(const std::string& run_folder, const std::set<std::string>& known) {
  std::error_code ignored;
  std::vector<std::filesystem::path> unknown;
  for (const auto& entry : std::filesystem::directory_iterator(run_folder + "/vm", ignored))
    if (!known.contains(entry.path().string())) unknown.push_back(entry.path());
  for (const auto& folder : unknown) remove_one(run_folder, folder);
}

}  // namespace atl::manage
