// block-stream: an image takes over what its backing files hold, down to a base or altogether.
#include <fmt/format.h>

#include "base/mapping.h"
#include "block/job/jobs.h"
#include "block/range_guard.h"

namespace atl::block {
namespace {

constexpr u64 kChunkBytes = 512 * kKiB;

/// The node that stands on `base`; without one the last of all.
NodePtr last_above(NodePtr top, const NodePtr& base) {
  if (base) return overlay_of(std::move(top), *base);
  NodePtr node = below_filters(std::move(top));
  while (NodePtr below = backing_of(*node)) node = below_filters(below);
  return node;
}

class StreamJob final : public Job {
 public:
  StreamJob(Graph& graph, std::string device, JobOptions job, StreamOptions options)
      : Job(graph, "stream", std::move(device), std::move(job)), o_(std::move(options)), bottom_(last_above(o_.top, o_.base)) {}

  std::vector<const Node*> nodes() const override;
  Task<Status> attach() override {
    was_readonly_ = o_.top->info().readonly;
    if (was_readonly_) {
      Status status = co_await o_.top->set_readonly(false);
      CO_TRY(std::move(status));
    }
    watch_ = Observation(graph_, *o_.top, guard_);
    co_return Status{};
  }

 private:
  Task<Status> work() override;
  Task<Status> settle() override;
  Filtered filtered() const override { return {o_.top, "copy-on-read"}; }
  Task<Status> undo() override {
    watch_.end();
    co_return co_await o_.top->set_readonly(was_readonly_);
  }
  /// What stays below. Another job may have changed it.
  NodePtr base() const { return backing_of(*bottom_); }
  Task<Result<BlockStatus>> look(u64 offset, u64 bytes);
  Task<Result<u64>> step(u64 offset, u64 most);
  Task<Result<u64>> copy_up(u64 offset, u64 bytes);
  Task<Result<u64>> copy_locked(u64 offset, u64 bytes);

  const StreamOptions o_;
  const NodePtr bottom_;   // the lowest whose content goes up
  bool was_readonly_ = false;
  RangeGuard guard_;
  Observation watch_;
  Mapping buffer_;
};

/// The base is not among them: another job may work further down.
std::vector<const Node*> StreamJob::nodes() const {
  return chain_between(*o_.top, *bottom_);
}

/// `allocated`: to be copied up.
Task<Result<BlockStatus>> StreamJob::look(u64 offset, u64 bytes) {
  Result<BlockStatus> own = co_await o_.top->block_status(offset, bytes);
  BlockStatus status = CO_TRY(std::move(own));
  NodePtr below = backing_of(*o_.top), bottom = base();
  bool already = status.allocated || !below || below == bottom || below->size_bytes() <= offset;
  if (already) {
    status.allocated = false;
    co_return status;
  }
  u64 inside = std::min(status.bytes, below->size_bytes() - offset);
  Result<BlockStatus> found = co_await status_above(*below, bottom.get(), offset, inside);
  status = CO_TRY(std::move(found));
  // Without a base, what nobody has reads as zeroes afterwards, too.
  if (!bottom && status.zero) status.allocated = false;
  co_return status;
}

Task<Status> StreamJob::work() {
  buffer_ = CO_TRY(Mapping::anonymous(kChunkBytes));
  const u64 size = o_.top->size_bytes();
  set_progress(0, size);
  Status failure;
  for (u64 offset = 0; offset < size;) {
    Result<u64> stepped = co_await step(offset, size - offset);
    if (is_cancelled()) co_return Status{};
    if (!stepped) {
      const ErrorPolicy action = co_await on_error(true, stepped.error());
      if (is_cancelled()) co_return Status{};
      if (action == ErrorPolicy::Stop) continue;
      if (failure) failure = Error(stepped.error());
      if (action == ErrorPolicy::Report) co_return failure;
      stepped = std::min(kChunkBytes, size - offset);   // ignored for now, but the job has failed
    }
    offset += *stepped;
    set_progress(offset, size);
  }
  CO_TRY(std::move(failure));
  co_return co_await o_.top->flush();
}

/// Deals with what begins at `offset`; gives the bytes gone through.
Task<Result<u64>> StreamJob::step(u64 offset, u64 most) {
  Result<BlockStatus> found = co_await look(offset, most);
  BlockStatus status = CO_TRY(std::move(found));
  u64 bytes = std::min(status.bytes, most);
  if (status.allocated) bytes = std::min(bytes, kChunkBytes);
  bool go_on = co_await checkpoint(status.allocated ? bytes : 0);
  if (!go_on || !status.allocated) co_return bytes;
  co_return co_await copy_up(offset, bytes);
}

Task<Result<u64>> StreamJob::copy_up(u64 offset, u64 bytes) {
  static_cast<void>(co_await guard_.lock(offset, bytes));
  Result<u64> copied = co_await copy_locked(offset, bytes);
  guard_.unlock(offset, bytes);
  co_return copied;
}

/// The guest may have written there before the lock was ours. Gives the bytes dealt with.
Task<Result<u64>> StreamJob::copy_locked(u64 offset, u64 bytes) {
  Result<BlockStatus> now = co_await look(offset, bytes);
  BlockStatus status = CO_TRY(std::move(now));
  bytes = std::min(bytes, status.bytes);
  if (!status.allocated) co_return bytes;
  Status done;
  if (status.zero) {
    done = co_await o_.top->write_zeroes(offset, bytes, kMayUnmap);
  } else {
    iovec whole{buffer_.data(), bytes};
    done = co_await o_.top->read(offset, {&whole, 1});
    if (done) done = co_await o_.top->write(offset, {&whole, 1}, kNoFlags);
  }
  CO_TRY(std::move(done));
  co_return bytes;
}

Task<Status> StreamJob::settle() {
  watch_.end();
  std::string name, format;
  NodePtr below = base();
  if (below) {
    name = o_.backing_name.value_or(graph_.name_of(*below_filters(below)));
    format = below_filters(below)->info().driver;
  }
  Status status = co_await o_.top->image()->change_backing(name, format);
  CO_TRY(std::move(status));
  CO_TRY(o_.top->replace_child("backing", below));
  co_return co_await o_.top->set_readonly(was_readonly_);
}

}  // namespace

Result<std::shared_ptr<Job>> make_stream_job(Graph& graph, std::string device, JobOptions job, StreamOptions options) {
  const NodeInfo info = options.top->info();
  if (!options.top->image()) return Error(ErrorKind::Unsupported, fmt::format("Node '{}' has no backing file", info.node_name));
  if (graph.stays_readonly(*options.top)) return Error(ErrorKind::Permission, "Block node is read-only");
  NodePtr below = backing_of(*options.top);
  if (options.base && !(below && is_in_chain(below, *options.base)))
    return Error(ErrorKind::Invalid, fmt::format("Node '{}' is not a backing image of '{}'", options.base->info().node_name, device));
  return std::shared_ptr<Job>(std::make_shared<StreamJob>(graph, std::move(device), std::move(job), std::move(options)));
}

}  // namespace atl::block
