// Watching and steering jobs.
#include <fmt/format.h>

#include "control/qmp/job_support.h"

namespace atl::control {
namespace {

using block::Job;
using block::JobInfo;
using block::JobState;

Json block_job_json(const JobInfo& job) {
  static constexpr const char* kIoStatus[] = {"ok", "failed", "nospace"};
  Json json = {{"type", job.type}, {"device", job.id}, {"len", job.total}, {"offset", job.done}, {"busy", job.busy},
               {"paused", job.paused}, {"speed", job.speed}, {"io-status", kIoStatus[static_cast<size_t>(job.io_status)]}, {"ready", job.ready},
               {"status", block::job_state_name(job.state)}, {"auto-finalize", job.auto_finalize}, {"auto-dismiss", job.auto_dismiss}};
  if (!job.error.empty()) json["error"] = job.error;
  return json;
}

Json job_json(const JobInfo& job) {
  Json json = {{"id", job.id}, {"type", job.type}, {"status", block::job_state_name(job.state)},
               {"current-progress", job.done}, {"total-progress", job.total}};
  if (!job.error.empty()) json["error"] = job.error;
  return json;
}

/// Making an image is a job, but no block job: nothing is copied.
bool is_block_job(const JobInfo& job) { return job.type != "create"; }
bool is_any_job(const JobInfo&) { return true; }

Json list_jobs(QmpContext& c, bool (*wanted)(const JobInfo&), Json (*form)(const JobInfo&)) {
  Json list = Json::array();
  for (BlockStore::Place* place : store(c).places())
    place->thread.run_on([&] {
      for (const JobPtr& job : place->jobs.list()) {
        const JobInfo info = job->info();
        if (info.state != JobState::Null && wanted(info)) list.push_back(form(info));
      }
    });
  return list;
}

Reply query_block_jobs(QmpContext& c, const Json&) { return list_jobs(c, is_block_job, block_job_json); }
Reply query_jobs(QmpContext& c, const Json&) { return list_jobs(c, is_any_job, job_json); }

template <class F>
Reply steer(QmpContext& c, const std::string& id, F ask) {
  for (BlockStore::Place* place : store(c).places()) {
    std::optional<Status> status = place->thread.run_on([&]() -> std::optional<Status> {
      JobPtr job = place->jobs.find(id);
      if (!job) return std::nullopt;
      Status asked = ask(*job);
      c.news = c.vm.machine().news_so_far();
      return asked;
    });
    if (status) return done(std::move(*status));
  }
  return Error(ErrorKind::NotFound, fmt::format("Block job '{}' not found", id));
}

std::string job_of(const Json& arguments) { return text_argument(arguments, "device", text_argument(arguments, "id")); }

Reply job_pause(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.pause(); });
}
Reply job_resume(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.resume(); });
}
Reply job_complete(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.complete(); });
}
Reply job_finalize(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.finalize(); });
}
Reply job_dismiss(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.dismiss(); });
}
Reply job_cancel(QmpContext& c, const Json& arguments) {
  return steer(c, job_of(arguments), [](Job& job) { return job.cancel(true); });
}
Reply block_job_cancel(QmpContext& c, const Json& arguments) {
  const bool force = flag_argument(arguments, "force", false);
  return steer(c, job_of(arguments), [=](Job& job) { return job.cancel(force); });
}
Reply block_job_set_speed(QmpContext& c, const Json& arguments) {
  const u64 speed = TRY(speed_argument(arguments));
  return steer(c, job_of(arguments), [=](Job& job) { return job.set_speed(speed); });
}

constexpr QmpCommand kCommands[] = {
    {"query-block-jobs", "", query_block_jobs},
    {"query-jobs", "", query_jobs},
    {"block-job-set-speed", "device:s speed:i", block_job_set_speed, "DeviceNotActive"},
    {"block-job-pause", "device:s", job_pause, "DeviceNotActive"},
    {"block-job-resume", "device:s", job_resume, "DeviceNotActive"},
    {"block-job-cancel", "device:s force?:b", block_job_cancel, "DeviceNotActive"},
    {"block-job-complete", "device:s", job_complete, "DeviceNotActive"},
    {"block-job-finalize", "id:s", job_finalize, "DeviceNotActive"},
    {"block-job-dismiss", "id:s", job_dismiss, "DeviceNotActive"},
    {"job-pause", "id:s", job_pause},
    {"job-resume", "id:s", job_resume},
    {"job-cancel", "id:s", job_cancel},
    {"job-complete", "id:s", job_complete},
    {"job-finalize", "id:s", job_finalize},
    {"job-dismiss", "id:s", job_dismiss},
};

}  // namespace

std::span<const QmpCommand> job_control_commands() { return kCommands; }

}  // namespace atl::control
