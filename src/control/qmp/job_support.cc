#include "control/qmp/job_support.h"

#include <fmt/format.h>

#include "control/cmdline/translate.h"

namespace atl::control {

using block::Job;
using block::JobState;

namespace {

/// What failed requests lead to; unchanged if nothing is said.
Status take_policy(const Json& arguments, const char* key, block::ErrorPolicy& policy) {
  static constexpr std::pair<std::string_view, block::ErrorPolicy> kNames[] = {
      {"report", block::ErrorPolicy::Report},          {"ignore", block::ErrorPolicy::Ignore}, {"stop", block::ErrorPolicy::Stop},
      {"enospc", block::ErrorPolicy::StopOnNoSpace}, {"auto", block::ErrorPolicy::StopOnNoSpace}};
  const std::string name = text_argument(arguments, key);
  if (name.empty()) return {};
  for (const auto& [known, value] : kNames)
    if (known == name) {
      policy = value;
      return {};
    }
  return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' does not accept value '{}'", key, name));
}

bool is_id_taken(QmpContext& c, const std::string& id) {
  for (BlockStore::Place* place : store(c).places())
    if (place->thread.run_on([&] { return place->jobs.find(id) != nullptr; })) return true;
  return false;
}

}  // namespace

Result<u64> speed_argument(const Json& arguments) {
  auto at = arguments.find("speed");
  if (at != arguments.end() && at->is_number_integer() && !at->is_number_unsigned())
    return Error(ErrorKind::Invalid, "Parameter 'speed' expects a non-negative value");
  return number_argument(arguments, "speed").value_or(0);
}

Result<block::JobOptions> job_options(QmpContext& c, const Json& arguments, const std::string& device) {
  block::JobOptions options;
  TRY(take_policy(arguments, "on-error", options.on_source_error));
  TRY(take_policy(arguments, "on-source-error", options.on_source_error));
  options.on_target_error = arguments.contains("on-error") ? options.on_source_error : options.on_target_error;
  TRY(take_policy(arguments, "on-target-error", options.on_target_error));
  options.id = text_argument(arguments, "job-id");
  if (!arguments.contains("job-id")) {
    auto located = find_node(c, device);
    options.id = located ? store(c).drive_of(*located->node) : "";
  }
  options.filter_name = text_argument(arguments, "filter-node-name");
  if (!is_well_formed_id(options.id)) return Error(ErrorKind::Invalid, fmt::format("Invalid job ID '{}'", options.id));
  if (is_id_taken(c, options.id)) return Error(ErrorKind::Exists, fmt::format("Job ID '{}' already in use", options.id));
  options.speed = TRY(speed_argument(arguments));
  options.auto_finalize = flag_argument(arguments, "auto-finalize", true);
  options.auto_dismiss = flag_argument(arguments, "auto-dismiss", true);
  return options;
}

namespace {

Task<Status> add_job(QmpContext& c, BlockStore::Place& place, JobPtr job, Job::Listener listener) {
  Status added = co_await place.jobs.add(place.graph, std::move(job), std::move(listener));
  c.news = c.vm.machine().news_so_far();
  co_return added;
}

}  // namespace

Result<Undo> start_job(QmpContext& c, BlockStore::Place& place, const std::function<Result<JobPtr>()>& make) {
  // A job that is no more lets go of its nodes at once: others may wait for their files.
  auto listener = [told = store(c).job_listener(), &place](const block::JobEvent& event) {
    told(event);
    if (event.job.state == JobState::Null) place.thread.loop().post([&place] { place.jobs.reap(); });
  };
  JobPtr job = TRY(place.thread.run_on([&]() -> Result<JobPtr> {
    place.jobs.reap();
    return make();
  }));
  Status added = finish_on(place.thread, [&] { return add_job(c, place, job, listener); });
  std::weak_ptr<Job> weak = job;
  place.thread.run_on([&] { job.reset(); });
  TRY(std::move(added));
  return Undo([&place, weak] {
    place.thread.run_on([&] {
      if (JobPtr running = weak.lock(); running && !running->is_over()) static_cast<void>(running->cancel(true));
    });
  });
}

}  // namespace atl::control
