// blockdev-mirror, and block-commit of an image in use: the target is made alike and kept so while the source is written, until
// the user completes and the target takes the source's place. With copy-mode=write-blocking a guest's write completes only
// when the target has it, too.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/log.h"
#include "base/task_group.h"
#include "block/job/jobs.h"
#include "block/job/replacing.h"

namespace atl::block {
namespace {

constexpr u64 kNapNs = 100'000'000;
constexpr u64 kRunBytes = 1 * kMiB;
constexpr unsigned kRunsAtOnce = 8;

class MirrorJob final : public Job, private WriteObserver {
 public:
  MirrorJob(Graph& graph, std::string device, JobOptions job, MirrorOptions options, u32 granularity)
      : Job(graph, options.commit ? "commit" : "mirror", std::move(device), std::move(job)),
        o_(std::move(options)),
        dirty_("mirror", o_.source->size_bytes(), granularity) {}

  std::vector<const Node*> nodes() const override {
    if (o_.commit) return chain_between(*o_.source, *o_.target);
    return {o_.source.get(), o_.target.get()};
  }
  Task<Status> attach() override;

 private:
  Task<Status> work() override;
  Task<Status> settle() override;
  Task<Status> undo() override;
  bool can_complete() const override { return true; }
  Filtered filtered() const override { return {o_.source, "mirror_top"}; }
  Task<Status> prepare();
  Task<Status> zero_target();
  Task<Status> find_data();
  Task<Status> copy_dirty(bool last);
  Task<Status> copy_run(DirtyBitmap::Run run);
  Task<Status> copy_marked(DirtyBitmap::Run run);

  void written(u64 offset, u64 bytes) override { dirty_.set(offset, bytes); }
  Task<Status> settled(u64 offset, u64 bytes) override;
  bool is_busy(u64 offset, u64 bytes) const;
  struct Change {
    MirrorJob& job;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { job.waiting_.push_back(waiter); }
    void await_resume() const {}
  };

  const MirrorOptions o_;
  DirtyBitmap dirty_;
  Observation watch_;
  bool was_readonly_ = false, copied_all_ = false;
  // write_blocking: what is being copied, so that an older copy never overtakes a newer one.
  std::multimap<u64, u64> busy_;   // offset to end
  std::vector<std::coroutine_handle<>> waiting_;
};

Task<Status> MirrorJob::attach() {
  was_readonly_ = o_.target->info().readonly;
  if (was_readonly_) {
    Status status = co_await o_.target->set_readonly(false);
    CO_TRY(std::move(status));
  }
  watch_ = Observation(graph_, *o_.source, *this);
  co_return Status{};
}

Task<Status> MirrorJob::work() {
  const u64 size = o_.source->size_bytes();
  set_progress(0, size);
  if (o_.commit && o_.target->size_bytes() < size) {
    Status grown = co_await o_.target->resize(size, Preallocation::Off);
    CO_TRY(std::move(grown));
  }
  if (!o_.commit && o_.target->size_bytes() != size)
    co_return Error(ErrorKind::Invalid, "Source and target image have different sizes");
  Status status;
  if (o_.sync != SyncMode::None) status = co_await prepare();
  set_progress(0, dirty_.dirty_bytes());
  if (status && !is_cancelled()) status = co_await copy_dirty(false);
  copied_all_ = true;
  while (status && !is_cancelled()) {
    status = co_await copy_dirty(false);
    if (!status || is_cancelled()) break;
    bool go_on = co_await checkpoint(0);
    if (!go_on) break;
    if (!dirty_.is_clean()) continue;
    become_ready();
    if (wants_completion()) break;
    static_cast<void>(co_await nap(kNapNs));
  }
  if (is_cancelled()) co_return Status{};
  CO_TRY(std::move(status));
  co_return co_await o_.target->flush();
}

/// Finds what is to be copied the first time. What the source reads as zeroes is left out where the target does, too.
Task<Status> MirrorJob::prepare() {
  if (o_.sync == SyncMode::Full && !o_.target_is_zero) {
    Status zeroed = co_await zero_target();
    CO_TRY(std::move(zeroed));
  }
  co_return co_await find_data();
}

Task<Status> MirrorJob::zero_target() {
  const u64 size = o_.source->size_bytes();
  for (u64 offset = 0; offset < size && !is_cancelled();) {
    const u64 bytes = std::min(size - offset, kGiB);
    bool go_on = co_await checkpoint(0);
    if (!go_on) break;
    Status status = co_await o_.target->write_zeroes(offset, bytes, kMayUnmap);
    wrote(*o_.target, offset, bytes);
    CO_TRY(std::move(status));
    offset += bytes;
  }
  co_return Status{};
}

Task<Status> MirrorJob::find_data() {
  const u64 size = o_.source->size_bytes();
  NodePtr below = o_.sync == SyncMode::Top && !o_.base ? backing_of(*o_.source) : o_.base;
  for (u64 offset = 0; offset < size && !is_cancelled();) {
    Result<BlockStatus> found = co_await status_above(*o_.source, below.get(), offset, size - offset);
    BlockStatus status = CO_TRY(std::move(found));
    const u64 bytes = std::min(status.bytes, size - offset);
    if (status.allocated && (o_.sync == SyncMode::Top || !status.zero)) dirty_.set(offset, bytes);
    offset += bytes;
  }
  co_return Status{};
}

bool MirrorJob::is_busy(u64 offset, u64 bytes) const {
  return std::ranges::any_of(busy_, [&](const auto& range) { return range.first < offset + bytes && offset < range.second; });
}

/// A guest's write: with write_blocking what it made dirty is copied before it completes. While all is being copied the first
/// time, what lies ahead is left to that. Errors are the job's, which meets them again: the range is dirty then.
Task<Status> MirrorJob::settled(u64 offset, u64 bytes) {
  const u64 end = std::min(offset + bytes, dirty_.size_bytes());
  while (o_.write_blocking && copied_all_ && !is_cancelled() && offset < end) {
    auto run = dirty_.next_dirty(offset, std::min(kRunBytes, end - offset));
    if (!run || run->offset >= end) break;
    if (is_busy(run->offset, run->bytes)) {
      Change change{*this};
      co_await change;
      continue;
    }
    dirty_.clear(run->offset, run->bytes);
    Status status = co_await copy_run(*run);
    if (!status) break;
    offset = run->offset + run->bytes;
  }
  co_return Status{};
}

/// Once over all that was written meanwhile. `last`: the graph is drained, so neither pauses nor limits count.
Task<Status> MirrorJob::copy_dirty(bool last) {
  TaskGroup group(kRunsAtOnce);
  Status status;
  u64 total = done() + dirty_.dirty_bytes();
  for (u64 at = 0; status;) {
    auto run = dirty_.next_dirty(at, kRunBytes);
    if (!run) break;
    if (!last) {
      bool go_on = co_await checkpoint(run->bytes);
      if (!go_on) break;
    }
    status = co_await group.room();
    if (!status) break;
    while (is_busy(run->offset, run->bytes)) {
      Change change{*this};
      co_await change;
    }
    dirty_.clear(run->offset, run->bytes);
    group.add(copy_run(*run));
    at = run->offset + run->bytes;
  }
  Status rest = co_await group.all();
  set_progress(done(), std::max(total, done()));
  if (status) status = std::move(rest);
  co_return status;
}

/// What could not be copied is dirty again.
Task<Status> MirrorJob::copy_run(DirtyBitmap::Run run) {
  auto busy = busy_.emplace(run.offset, run.offset + run.bytes);
  Status status = co_await copy_marked(run);
  busy_.erase(busy);
  if (status) advance(run.bytes);
  else dirty_.set(run.offset, run.bytes);
  for (auto waiter : std::exchange(waiting_, {})) graph_.loop().post([self = shared_from_this(), waiter] { waiter.resume(); });
  co_return status;
}

Task<Status> MirrorJob::copy_marked(DirtyBitmap::Run run) {
  CopyOptions copy;
  copy.source = o_.source.get();
  copy.target = o_.target.get();
  copy.written = [this](u64 at, u64 size) { wrote(*o_.target, at, size); };
  copy.source_offset = copy.target_offset = run.offset;
  copy.bytes = run.bytes;
  copy.workers = 1;
  copy.chunk_bytes = kRunBytes;
  copy.on_error = [this](bool is_read, const Error& error) { return wants_retry(is_read, error); };
  Result<CopyResult> copied = co_await copy_range(graph_.loop(), std::move(copy));
  CO_TRY(std::move(copied));
  co_return Status{};
}

Task<Status> MirrorJob::settle() {
  while (!dirty_.is_clean()) {
    Status status = co_await copy_dirty(true);
    CO_TRY(std::move(status));
  }
  Status status = co_await o_.target->flush();
  CO_TRY(std::move(status));
  watch_.end();
  if (wants_switch() && o_.switch_over) {
    const Node& replaced = o_.replaces ? *o_.replaces : *o_.source;
    if (o_.replaces && !can_replace(graph_, *o_.source, replaced)) {
      log_warning("mirror: '{}' shows its data to others by now, and cannot be replaced", replaced.info().node_name);
      co_return os_error("replace", EPERM);
    }
    co_return graph_.replace(replaced, o_.target);
  }
  co_return co_await o_.target->set_readonly(was_readonly_);
}

Task<Status> MirrorJob::undo() {
  watch_.end();
  if (!was_readonly_) co_return Status{};
  co_return co_await o_.target->set_readonly(true);
}

}  // namespace

Result<std::shared_ptr<Job>> make_mirror_job(Graph& graph, std::string device, JobOptions job, MirrorOptions options) {
  if (options.source == options.target) return Error(ErrorKind::Invalid, "Can't mirror node into itself");
  u32 granularity = options.granularity ? options.granularity : 65536;
  if (granularity < 512 || granularity > 64 * kMiB || (granularity & (granularity - 1)))
    return Error(ErrorKind::Invalid, "Parameter 'granularity' expects a power of 2 in range [512B, 64MB]");
  return std::shared_ptr<Job>(std::make_shared<MirrorJob>(graph, std::move(device), std::move(job), std::move(options), granularity));
}

}  // namespace atl::block
