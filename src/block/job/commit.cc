// block-commit of images that nobody writes: their content goes down into a backing file, and they leave the chain. (What is
// written meanwhile is committed by a mirror.)
#include <fmt/format.h>

#include "block/job/jobs.h"

namespace atl::block {
namespace {

class CommitJob final : public Job {
 public:
  CommitJob(Graph& graph, std::string device, JobOptions job, CommitOptions options, NodePtr overlay)
      : Job(graph, "commit", std::move(device), std::move(job)), o_(std::move(options)), overlay_(std::move(overlay)) {}

  std::vector<const Node*> nodes() const override;
  std::vector<const Node*> pinned() const override;
  Task<Status> attach() override {
    was_readonly_ = o_.base->info().readonly;
    co_return co_await o_.base->set_readonly(false);
  }

 private:
  Task<Status> work() override;
  Task<Status> settle() override;
  Filtered filtered() const override { return {o_.top, "commit_top"}; }
  Task<Status> undo() override { return o_.base->set_readonly(was_readonly_); }

  const CommitOptions o_;
  const NodePtr overlay_;
  bool was_readonly_ = true;
};

std::vector<const Node*> CommitJob::pinned() const { return chain_between(*o_.active, *overlay_); }
std::vector<const Node*> CommitJob::nodes() const { return chain_between(*o_.top, *o_.base); }

Task<Status> CommitJob::work() {
  const u64 size = o_.top->size_bytes();
  set_progress(0, size);
  if (o_.base->size_bytes() < size) {
    Status grown = co_await o_.base->resize(size, Preallocation::Off);
    CO_TRY(std::move(grown));
  }
  CopyOptions copy = copy_options(*o_.top, *o_.base);
  copy.bytes = size;
  copy.base = o_.base.get();
  copy.progress = [this](u64 done, u64 total) {
    set_progress(done, total);
    return !is_cancelled();
  };
  Result<CopyResult> copied = co_await copy_range(graph_.loop(), std::move(copy));
  CO_TRY(std::move(copied));
  co_return co_await o_.base->flush();
}

Task<Status> CommitJob::settle() {
  if (overlay_->info().readonly) {
    Status writable = co_await overlay_->set_readonly(false);
    CO_TRY(std::move(writable));
  }
  std::string name = o_.backing_name.value_or(graph_.name_of(*below_filters(o_.base)));
  std::string format = below_filters(o_.base)->info().driver;
  Status status = co_await overlay_->image()->change_backing(name, format);
  CO_TRY(std::move(status));
  CO_TRY(overlay_->replace_child("backing", o_.base));
  if (overlay_ != o_.active) {
    status = co_await overlay_->set_readonly(true);
    CO_TRY(std::move(status));
  }
  co_return co_await o_.base->set_readonly(was_readonly_);
}

}  // namespace

Result<std::shared_ptr<Job>> make_commit_job(Graph& graph, std::string device, JobOptions job, CommitOptions options) {
  NodePtr below = backing_of(*options.top);
  if (!below || !is_in_chain(below, *options.base))
    return Error(ErrorKind::Invalid, fmt::format("'{}' is not in this backing file chain", options.base->info().node_name));
  if (below_filters(options.top) == below_filters(options.active)) {
    MirrorOptions mirror;
    mirror.source = options.top;
    mirror.target = options.base;
    mirror.sync = SyncMode::Top;
    mirror.base = options.base;
    mirror.commit = true;
    return make_mirror_job(graph, std::move(device), std::move(job), std::move(mirror));
  }
  NodePtr overlay = overlay_of(options.active, *options.top);
  if (!overlay || !overlay->image())
    return Error(ErrorKind::Invalid, fmt::format("'{}' is not in this backing file chain", options.top->info().node_name));
  return std::shared_ptr<Job>(
      std::make_shared<CommitJob>(graph, std::move(device), std::move(job), std::move(options), std::move(overlay)));
}

}  // namespace atl::block
