// block-commit of images that nobody writes: their content goes down into a backing file, and they leave the chain. (What is
// written meanwhile is committed by a mirror.)
#include <fmt/format.h>

#include "block/job/jobs.h"

namespace atl::block {
namespace {

NodePtr overlay_of(const NodePtr& active, const NodePtr& top) {
  NodePtr node = active;
  while (node) {
    NodePtr below = backing_of(*node);
    if (below == top) return node;
    node = std::move(below);
  }
  return nullptr;
}

class CommitJob final : public Job {
 public:
  CommitJob(Graph& graph, std::string device, JobOptions job, CommitOptions options, NodePtr overlay)
      : Job(graph, "commit", std::move(device), std::move(job)), o_(std::move(options)), overlay_(std::move(overlay)) {}

  std::vector<const Node*> nodes() const override { return {o_.active.get(), overlay_.get(), o_.top.get(), o_.base.get()}; }
  Task<Status> attach() override {
    was_readonly_ = o_.base->info().readonly;
    co_return co_await o_.base->set_readonly(false);
  }

 private:
  Task<Status> work() override;
  Task<Status> settle() override;
  Task<Status> undo() override { return o_.base->set_readonly(was_readonly_); }

  const CommitOptions o_;
  const NodePtr overlay_;
  bool was_readonly_ = true;
};

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
  std::string name = o_.backing_name.value_or(o_.base->info().filename);
  std::string format = o_.base->info().driver;
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
  while (below && below != options.base) below = backing_of(*below);
  if (!below)
    return Error(ErrorKind::Invalid, fmt::format("'{}' is not in this backing file chain", options.base->info().node_name));
  if (options.top == options.active) {
    MirrorOptions mirror;
    mirror.source = options.active;
    mirror.target = options.base;
    mirror.sync = SyncMode::Top;
    mirror.base = options.base;
    mirror.commit = true;
    return make_mirror_job(graph, std::move(device), std::move(job), std::move(mirror));
  }
  NodePtr overlay = overlay_of(options.active, options.top);
  if (!overlay || !overlay->image())
    return Error(ErrorKind::Invalid, fmt::format("'{}' is not in this backing file chain", options.top->info().node_name));
  return std::shared_ptr<Job>(
      std::make_shared<CommitJob>(graph, std::move(device), std::move(job), std::move(options), std::move(overlay)));
}

}  // namespace atl::block
