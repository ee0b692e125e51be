// blockdev-backup: the target becomes what the source was when the job started. What a write is about to overwrite is copied
// first.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/math.h"
#include "block/job/jobs.h"

namespace atl::block {
namespace {

constexpr u64 kRunBytes = 1 * kMiB;
constexpr u64 kNapNs = 500'000'000;

class BackupJob final : public Job, private WriteObserver {
 public:
  BackupJob(Graph& graph, std::string device, JobOptions job, BackupOptions options, u64 cluster_bytes)
      : Job(graph, "backup", std::move(device), std::move(job)),
        o_(std::move(options)),
        cluster_bytes_(cluster_bytes),
        todo_("backup", o_.source->size_bytes(), static_cast<u32>(cluster_bytes)) {}
  ~BackupJob() override { release_bitmap(); }

  std::vector<const Node*> nodes() const override { return {o_.source.get(), o_.target.get()}; }
  Task<Status> attach() override;

 private:
  Task<Status> before_write(u64 offset, u64 bytes) override;
  void written(u64, u64) override {}

  Task<Status> work() override;
  Task<Status> settle() override;
  Task<Status> undo() override;
  Task<Status> find_allocated();
  Task<Status> copy_clusters(u64 offset, u64 bytes, bool for_write);
  Task<Status> copy_marked(u64 offset, u64 bytes, bool for_write);
  bool is_busy(u64 offset, u64 bytes) const;
  void release_bitmap();
  void restore_bitmap();

  struct Change {
    BackupJob& job;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { job.waiting_.push_back(waiter); }
    void await_resume() const {}
  };

  const BackupOptions o_;
  const u64 cluster_bytes_;
  DirtyBitmap todo_;
  std::unique_ptr<DirtyBitmap> taken_;   // what the user's bitmap held
  Observation watch_;
  std::set<u64> busy_;                   // clusters being copied, by offset
  std::vector<std::coroutine_handle<>> waiting_;
  Status failure_;                       // of a copy on behalf of a write
};

Task<Status> BackupJob::attach() {
  if (o_.sync == SyncMode::Incremental) {
    taken_ = std::make_unique<DirtyBitmap>("taken", todo_.size_bytes(), o_.bitmap->granularity());
    taken_->merge(*o_.bitmap);
    todo_.merge(*o_.bitmap);
    o_.bitmap->clear_all();
    o_.bitmap->busy = true;
  } else {
    todo_.set(0, todo_.size_bytes());
  }
  watch_ = Observation(graph_, *o_.source, *this);
  co_return Status{};
}

bool BackupJob::is_busy(u64 offset, u64 bytes) const {
  auto found = busy_.lower_bound(align_down(offset, cluster_bytes_));
  return found != busy_.end() && *found < offset + bytes;
}

/// The clusters that a write is about to change.
Task<Status> BackupJob::before_write(u64 offset, u64 bytes) {
  const u64 end = std::min(offset + bytes, todo_.size_bytes());
  for (u64 at = align_down(offset, cluster_bytes_); at < end;) {
    while (is_busy(at, cluster_bytes_)) {
      Change change{*this};
      co_await change;
    }
    auto run = todo_.next_dirty(at, std::min(kRunBytes, align_up(end - at, cluster_bytes_)));
    if (!run || run->offset >= end) break;
    if (run->offset != at) {
      at = run->offset;
      continue;
    }
    u64 clusters = cluster_bytes_;
    while (clusters < run->bytes && !is_busy(at + clusters, cluster_bytes_)) clusters += cluster_bytes_;
    Status status = co_await copy_clusters(at, std::min(clusters, run->bytes), true);
    // The guest's write goes on: it is the backup that has failed.
    if (!status && failure_) failure_ = std::move(status);
    at += clusters;
  }
  co_return Status{};
}

/// Nobody else may be at these clusters, and all of them are still to be copied.
Task<Status> BackupJob::copy_clusters(u64 offset, u64 bytes, bool for_write) {
  todo_.clear(offset, bytes);
  for (u64 at = offset; at < offset + bytes; at += cluster_bytes_) busy_.insert(at);
  Status status = co_await copy_marked(offset, bytes, for_write);
  for (u64 at = offset; at < offset + bytes; at += cluster_bytes_) busy_.erase(at);
  advance(bytes);
  for (auto waiter : std::exchange(waiting_, {})) graph_.loop().post([self = shared_from_this(), waiter] { waiter.resume(); });
  co_return status;
}

/// `for_write`: on behalf of a guest, who cannot wait for a user to decide about errors.
Task<Status> BackupJob::copy_marked(u64 offset, u64 bytes, bool for_write) {
  CopyOptions copy;
  copy.source = o_.source.get();
  copy.target = o_.target.get();
  copy.written = [this](u64 at, u64 size) { wrote(*o_.target, at, size); };
  copy.source_offset = copy.target_offset = offset;
  copy.bytes = std::min(bytes, o_.source->size_bytes() - offset);
  copy.workers = 1;
  copy.chunk_bytes = kRunBytes;
  if (!for_write) copy.on_error = [this](bool is_read, const Error& error) { return wants_retry(is_read, error); };
  copy.target_is_zero = o_.target_is_zero;
  copy.compressed = o_.compressed;
  copy.cluster_bytes = o_.compressed ? o_.target->image()->cluster_bytes() : 0;
  Result<CopyResult> copied = co_await copy_range(graph_.loop(), std::move(copy));
  CO_TRY(std::move(copied));
  co_return Status{};
}

/// sync=top: what the image itself does not hold stays out. Found while the guest runs; what it allocates meanwhile has been
/// copied before.
Task<Status> BackupJob::find_allocated() {
  const u64 size = todo_.size_bytes();
  for (u64 offset = 0; offset < size;) {
    Result<BlockStatus> found = co_await o_.source->block_status(offset, size - offset);
    BlockStatus status = CO_TRY(std::move(found));
    u64 end = std::min(offset + status.bytes, size);
    if (!status.allocated) {
      u64 first = align_up(offset, cluster_bytes_), last = end == size ? end : align_down(end, cluster_bytes_);
      if (first < last) todo_.clear(first, last - first);
    }
    offset = end;
  }
  co_return Status{};
}

Task<Status> BackupJob::work() {
  set_progress(0, todo_.dirty_bytes());
  if (o_.sync == SyncMode::Top) {
    Status status = co_await find_allocated();
    CO_TRY(std::move(status));
  }
  if (o_.sync != SyncMode::None) set_progress(0, todo_.dirty_bytes());
  for (u64 at = 0; failure_;) {
    if (o_.sync == SyncMode::None) {
      bool go_on = co_await nap(kNapNs);
      if (!go_on) break;
      continue;
    }
    auto run = todo_.next_dirty(at, kRunBytes);
    if (!run) break;
    bool go_on = co_await checkpoint(run->bytes);
    if (!go_on) break;
    run = todo_.next_dirty(run->offset, kRunBytes);  // a write may have been faster
    if (!run) break;
    at = run->offset;
    Status status = co_await copy_clusters(run->offset, run->bytes, false);
    CO_TRY(std::move(status));
  }
  while (!busy_.empty()) {
    Change change{*this};
    co_await change;
  }
  CO_TRY(std::move(failure_));
  if (is_cancelled()) co_return Status{};
  co_return co_await o_.target->flush();
}

Task<Status> BackupJob::settle() {
  watch_.end();
  if (o_.bitmap_mode == BackupOptions::BitmapMode::Never) restore_bitmap();
  release_bitmap();
  co_return Status{};
}

Task<Status> BackupJob::undo() {
  static_cast<void>(co_await graph_.drain());
  watch_.end();
  graph_.resume();
  if (o_.bitmap_mode != BackupOptions::BitmapMode::Always) restore_bitmap();
  release_bitmap();
  co_return Status{};
}

void BackupJob::restore_bitmap() {
  if (taken_) o_.bitmap->merge(*taken_);
}

void BackupJob::release_bitmap() {
  if (taken_) o_.bitmap->busy = false;
  taken_.reset();
}

}  // namespace

Result<std::shared_ptr<Job>> make_backup_job(Graph& graph, std::string device, JobOptions job, BackupOptions options) {
  if (options.source == options.target) return Error(ErrorKind::Invalid, "Source and target cannot be the same");
  if (options.source->size_bytes() != options.target->size_bytes())
    return Error(ErrorKind::Invalid, "Source and target image have different sizes");
  if (options.target->info().readonly)
    return Error(ErrorKind::Permission, fmt::format("Block node is read-only: '{}'", options.target->info().node_name));
  if ((options.sync == SyncMode::Incremental) != (options.bitmap != nullptr))
    return Error(ErrorKind::Invalid, "must provide a valid bitmap name for 'bitmap' sync mode");
  if (options.bitmap && options.bitmap->busy)
    return Error(ErrorKind::Busy, fmt::format("Bitmap '{}' is currently in use by another operation and cannot be used",
                                              options.bitmap->name()));
  Image* image = options.target->image();
  if (options.compressed && !(image && image->cluster_bytes()))
    return Error(ErrorKind::Unsupported, "Compression is not supported for this drive");
  u64 cluster = std::max<u64>(65536, image ? image->cluster_bytes() : 0);
  return std::shared_ptr<Job>(std::make_shared<BackupJob>(graph, std::move(device), std::move(job), std::move(options), cluster));
}

}  // namespace atl::block
