#include "block/job/create_job.h"

#include <fmt/format.h>

#include "block/create_options.h"

namespace atl::block {
namespace {

class CreateJob final : public Job {
 public:
  CreateJob(Graph& graph, JobOptions job, CreateOptions options) : Job(graph, "create", "", std::move(job)), o_(std::move(options)) {}

  std::vector<const Node*> nodes() const override { return {o_.file.get(), o_.data.get()}; }

 private:
  Task<Status> work() override {
    set_progress(0, 1);
    Status status = co_await o_.driver->create(graph_, o_.file, o_.filename, o_.options);
    if (status && o_.file) status = co_await o_.file->flush();
    CO_TRY(std::move(status));
    set_progress(1, 1);
    co_return Status{};
  }

  const CreateOptions o_;
};

}  // namespace

Result<std::shared_ptr<Job>> make_create_job(Graph& graph, JobOptions job, CreateOptions options) {
  if (!options.driver->create)
    return Error(ErrorKind::Unsupported, fmt::format("Driver '{}' does not support blockdev-create", options.driver->name), ENOTSUP);
  options.options = TRY(complete_create_options(*options.driver, options.options));
  return std::shared_ptr<Job>(std::make_shared<CreateJob>(graph, std::move(job), std::move(options)));
}

}  // namespace atl::block
