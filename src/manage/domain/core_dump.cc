#include "manage/domain/core_dump.h"

#include <fcntl.h>
#include <unistd.h>

#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;
constexpr u64 kDump_ns = 3600'000'000'000;  // as fast as the disk is

Status write_core(QmpClient& monitor, const std::string& path) {
  Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  TRY(monitor.execute("getfd", {{"fdname", "dump"}}, kAnswer_ns, file.get()));
  auto done = monitor.execute("dump-guest-memory", {{"paging", false}, {"protocol", "fd:dump"}}, kDump_ns);
  if (!done) {
    ::unlink(path.c_str());
    return std::move(done).error();
  }
  return {};
}

/// What clients hear at the end: as much as there is to say of it.
void tell_end(Domains& domains, const Domain& domain, const LongJob& job) {
  TypedParams params;
  params.emplace_back("operation", job.operation);
  params.emplace_back("time_elapsed", u64{(job.end_ns - job.begin_ns) / 1'000'000});
  params.emplace_back("success", !job.failed);
  domains.events().domain(DomainEvent::JobCompleted, domain.ref(), params);
}

}  // namespace

Status dump_core(Domains& domains, Domain& domain, const std::string& path) {
  auto monitor = TRY(domain.monitor());
  LongJob job{.operation = kOperationDump, .begin_ns = monotonic_ns()};
  domain.set_long_job(job);
  Status written = write_core(*monitor, path);
  job.end_ns = monotonic_ns();
  job.failed = !written;
  domain.set_long_job(job);
  tell_end(domains, domain, job);
  return written;
}

Result<std::string> automatic_dump_path(const Config& config, const Domain& domain) {
  const std::string folder = config.paths.state + "/dump";
  TRY(make_folders(folder, 0700));
  const time_t now = ::time(nullptr);
  tm parts{};
  ::localtime_r(&now, &parts);
  return fmt::format("{}/{}-{:04}-{:02}-{:02}-{:02}:{:02}:{:02}", folder, domain.name(), parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

}  // namespace atl::manage
