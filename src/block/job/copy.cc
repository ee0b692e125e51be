#include "block/job/copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/mapping.h"
#include "base/math.h"
#include "base/task_group.h"
#include "block/image.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

/// Lets coroutines pass one after the other, by number.
class Turns {
 public:
  struct Wait {
    Turns& turns;
    u64 number;
    bool await_ready() const { return turns.next_ == number; }
    void await_suspend(std::coroutine_handle<> waiter) { turns.waiting_[number] = waiter; }
    void await_resume() const {}
  };
  /// The turn of `number` is over: the next may start once the caller suspends or ends.
  std::coroutine_handle<> pass() {
    auto found = waiting_.find(++next_);
    if (found == waiting_.end()) return nullptr;
    auto waiter = found->second;
    waiting_.erase(found);
    return waiter;
  }

 private:
  u64 next_ = 0;
  std::map<u64, std::coroutine_handle<>> waiting_;
};

class Copy {
 public:
  Copy(Loop& loop, CopyOptions options)
      : loop_(loop), o_(std::move(options)), group_(std::max(1u, o_.workers)) {}
  Task<Result<CopyResult>> run();

 private:
  struct Piece {
    u64 offset = 0;  // from the start of the range
    u64 bytes = 0;
    u64 number = 0;  // among data pieces
  };

  Task<Result<BlockStatus>> look(u64 offset);
  void fit_to_clusters(BlockStatus& run, u64 offset) const;
  Task<Status> add_data(u64 offset, u64 bytes);
  Task<Status> zero_run(u64 offset, u64 bytes);
  Task<Status> copy_piece(Piece piece);
  Task<Status> copy_with(Piece piece, std::span<u8> buffer);
  Task<Status> read_piece(u64 offset, std::span<u8> out);
  Task<Status> salvage(u64 offset, std::span<u8> out);
  Task<Status> read_trying(u64 offset, std::span<u8> out);
  Task<Status> write_trying(u64 offset, std::span<const u8> data);
  Task<Status> zero_trying(u64 offset, u64 bytes);
  Task<bool> is_retried(bool is_read, const Status& status);
  Task<Status> write_zeroes(u64 offset, u64 bytes);
  Task<Status> write_piece(u64 offset, std::span<const u8> data);
  Task<Status> write_part(u64 offset, std::span<const u8> data, bool zero);
  u64 zero_unit() const { return o_.fill ? 0 : o_.compressed ? o_.cluster_bytes : o_.detect_zero_bytes; }
  u64 chunk_end(u64 offset) const;
  Result<Mapping> take_buffer();
  void report();

  Loop& loop_;
  const CopyOptions o_;
  TaskGroup group_;
  Turns turns_;
  std::vector<Mapping> buffers_;
  CopyResult result_;
  u64 walked_ = 0, pieces_ = 0;
  std::set<u64> in_flight_;   // offsets of pieces
  bool stopping_ = false;
};

/// Up to the first piece that is still under way, or has failed.
void Copy::report() {
  const u64 done = in_flight_.empty() ? walked_ : std::min(walked_, *in_flight_.begin());
  if (o_.progress && !o_.progress(done, o_.bytes)) stopping_ = true;
}

Result<Mapping> Copy::take_buffer() {
  if (buffers_.empty()) return Mapping::anonymous(o_.chunk_bytes);
  Mapping buffer = std::move(buffers_.back());
  buffers_.pop_back();
  return buffer;
}

/// Chunks end where the target's do, so that formats write whole clusters.
u64 Copy::chunk_end(u64 offset) const {
  u64 unit = std::max<u64>(o_.chunk_bytes, kSectorBytes);
  return std::min(align_down(o_.target_offset + offset, unit) + unit - o_.target_offset, o_.bytes);
}

Task<Result<BlockStatus>> Copy::look(u64 offset) {
  u64 left = o_.bytes - offset;
  u64 source_bytes = o_.source->size_bytes(), at = o_.source_offset + offset;
  if (at >= source_bytes) {  // a source shorter than the range reads as zeroes there
    BlockStatus beyond;
    beyond.bytes = left;
    beyond.data = false;
    beyond.zero = true;
    co_return beyond;
  }
  NodePtr below = o_.top_only ? backing_of(*o_.source) : nullptr;
  const Node* base = o_.top_only ? below.get() : o_.base;
  co_return co_await status_above(*o_.source, base, at, std::min(left, source_bytes - at));
}

/// Compressed clusters are written whole: what is mixed counts as data.
void Copy::fit_to_clusters(BlockStatus& run, u64 offset) const {
  if (!o_.compressed || !o_.cluster_bytes) return;
  const u64 at = o_.target_offset + offset, cluster = o_.cluster_bytes, last = o_.target_offset + o_.bytes;
  bool is_data = run.allocated && !run.zero;
  u64 end = at + run.bytes;
  end = std::min(is_data ? align_up(end, cluster) : end == last ? end : align_down(end, cluster), last);
  if (end <= at) {
    run.allocated = true;
    run.zero = false;
    end = std::min(align_up(at + 1, cluster), last);
  }
  run.bytes = end - at;
}

Task<Result<CopyResult>> Copy::run() {
  if (o_.compressed && (!o_.cluster_bytes || o_.chunk_bytes % o_.cluster_bytes))
    co_return Error(ErrorKind::Unsupported, "Compression not supported for this file format", ENOTSUP);
  Status status;
  for (u64 offset = 0; status && !stopping_ && offset < o_.bytes;) {
    Result<BlockStatus> found = co_await look(offset);
    if (!found && o_.salvage) {  // what cannot be looked up may still be read
      found = BlockStatus{};
      found->bytes = chunk_end(offset) - offset;
    }
    if (!found) {
      status = std::move(found).error().with_context(fmt::format("error while reading block status at offset {}", o_.source_offset + offset));
      break;
    }
    BlockStatus run = *found;
    run.bytes = std::min(run.bytes, o_.bytes - offset);
    fit_to_clusters(run, offset);
    if (!run.allocated) {
      result_.skipped_bytes += run.bytes;
    } else if (run.zero && !o_.fill) {
      status = co_await zero_run(offset, run.bytes);
    } else {
      status = co_await add_data(offset, run.bytes);
    }
    if (stopping_) break;
    offset += run.bytes;
    walked_ = offset;
    if (status) report();
  }
  Status rest = co_await group_.all();
  if (status) status = std::move(rest);
  CO_TRY(std::move(status));
  if (stopping_) co_return Error(ErrorKind::Cancelled, "stopped on request", ECANCELED);
  co_return result_;
}

Task<Status> Copy::zero_run(u64 offset, u64 bytes) {
  result_.zero_bytes += bytes;
  Status status;
  // A bounded piece at a time: targets that have to write zeroes as data take long over a large one.
  while (!o_.target_is_zero && status && bytes > 0 && !stopping_) {
    u64 n = std::min(bytes, kGiB);
    status = co_await zero_trying(o_.target_offset + offset, n);
    offset += n;
    bytes -= n;
    walked_ = offset;
    if (status) report();
  }
  co_return status;
}

Task<Status> Copy::write_zeroes(u64 offset, u64 bytes) {
  return o_.target->write_zeroes(offset, bytes, o_.unmap ? kMayUnmap : kNoFlags);
}

// As long as they fail and the owner of the copy wants it, requests are made again.

Task<bool> Copy::is_retried(bool is_read, const Status& status) {
  if (status || !o_.on_error || stopping_) co_return false;
  co_return co_await o_.on_error(is_read, status.error());
}

Task<Status> Copy::zero_trying(u64 offset, u64 bytes) {
  Status status = co_await write_zeroes(offset, bytes);
  while (co_await is_retried(false, status)) status = co_await write_zeroes(offset, bytes);
  if (o_.written) o_.written(offset, bytes);
  co_return status;
}

Task<Status> Copy::read_trying(u64 offset, std::span<u8> out) {
  Status status = co_await read_piece(offset, out);
  while (co_await is_retried(true, status)) status = co_await read_piece(offset, out);
  co_return status;
}

Task<Status> Copy::write_trying(u64 offset, std::span<const u8> data) {
  Status status = co_await write_piece(offset, data);
  while (co_await is_retried(false, status)) status = co_await write_piece(offset, data);
  if (o_.written) o_.written(offset, data.size());
  co_return status;
}

/// Hands a run of data to the workers, piece by piece.
Task<Status> Copy::add_data(u64 offset, u64 bytes) {
  const u64 end = offset + bytes;
  while (offset < end && !stopping_) {
    Status status = co_await group_.room();
    CO_TRY(std::move(status));
    Piece piece{offset, std::min(chunk_end(offset), end) - offset, pieces_};
    if (o_.rate) {
      u64 delay = o_.rate->delay_ns(piece.bytes, monotonic_ns());
      if (delay) co_await loop_.sleep(delay);
    }
    if (o_.before_piece && !co_await o_.before_piece(piece.bytes)) stopping_ = true;
    if (stopping_) break;
    ++pieces_;
    in_flight_.insert(offset);
    offset += piece.bytes;
    walked_ = offset;
    group_.add(copy_piece(piece));
  }
  co_return Status{};
}

Task<Status> Copy::copy_piece(Piece piece) {
  Result<Mapping> buffer = take_buffer();
  Status status;
  if (buffer)
    status = co_await copy_with(piece, buffer->span().first(piece.bytes));
  else
    status = std::move(buffer).error();
  if (status) {
    in_flight_.erase(piece.offset);
    report();
  }
  if (buffer) buffers_.push_back(std::move(*buffer));
  co_return status;
}

Task<Status> Copy::copy_with(Piece piece, std::span<u8> buffer) {
  Status status = co_await read_trying(o_.source_offset + piece.offset, buffer);
  if (!o_.in_order) {
    if (status) status = co_await write_trying(o_.target_offset + piece.offset, buffer);
    co_return status;
  }
  Turns::Wait turn{turns_, piece.number};
  co_await turn;
  auto writing = write_trying(o_.target_offset + piece.offset, buffer);
  // The next one is woken at the end of this turn of the loop, when our write has been issued.
  if (auto next = turns_.pass()) loop_.post([next] { next.resume(); });
  if (status) status = co_await std::move(writing);
  co_return status;
}

Task<Status> Copy::read_piece(u64 offset, std::span<u8> out) {
  // The end of a source that is shorter than the range.
  u64 size = o_.source->size_bytes();
  u64 inside = offset < size ? std::min<u64>(out.size(), size - offset) : 0;
  std::fill(out.begin() + static_cast<long>(inside), out.end(), u8{0});
  if (!inside) co_return Status{};
  iovec whole{out.data(), inside};
  Status status = co_await o_.source->read(offset, {&whole, 1});
  if (!status && o_.salvage) status = co_await salvage(offset, out.first(inside));
  co_return std::move(status).context(fmt::format("error while reading at byte {}", offset));
}

/// Sector by sector; what cannot be read is zeroed and told.
Task<Status> Copy::salvage(u64 offset, std::span<u8> out) {
  for (u64 done = 0; done < out.size(); done += kSectorBytes) {
    auto sector = out.subspan(done, std::min<u64>(kSectorBytes, out.size() - done));
    iovec whole{sector.data(), sector.size()};
    Status status = co_await o_.source->read(offset + done, {&whole, 1});
    if (status) continue;
    std::fill(sector.begin(), sector.end(), u8{0});
    if (o_.on_salvaged) o_.on_salvaged(offset + done, sector.size(), status.error());
  }
  co_return Status{};
}

bool is_zero(std::span<const u8> data) {
  iovec whole{const_cast<u8*>(data.data()), data.size()};  // only read
  return iovec_is_zero({&whole, 1});
}

/// Neighbouring units that are alike, zero or not, are written at once.
Task<Status> Copy::write_piece(u64 offset, std::span<const u8> data) {
  const u64 unit = zero_unit();
  if (unit == 0) co_return co_await write_part(offset, data, false);
  u64 start = 0;
  while (start < data.size()) {
    u64 end = std::min<u64>(align_up(offset + start + 1, unit) - offset, data.size());
    const bool zero = is_zero(data.subspan(start, end - start));
    while (end < data.size()) {
      u64 next = std::min<u64>(end + unit, data.size());
      if (is_zero(data.subspan(end, next - end)) != zero) break;
      end = next;
    }
    Status status = co_await write_part(offset + start, data.subspan(start, end - start), zero);
    CO_TRY(std::move(status));
    start = end;
  }
  co_return Status{};
}

Task<Status> Copy::write_part(u64 offset, std::span<const u8> data, bool zero) {
  Status status;
  if (zero) {
    result_.zero_bytes += data.size();
    if (!o_.target_is_zero)
      status = co_await o_.target->write_zeroes(offset, data.size(), o_.unmap ? kMayUnmap : kNoFlags);
  } else {
    result_.data_bytes += data.size();
    iovec whole{const_cast<u8*>(data.data()), data.size()};  // only written from
    if (o_.compressed)
      status = co_await o_.target->write_compressed(offset, {&whole, 1});
    else
      status = co_await o_.target->write(offset, {&whole, 1}, kNoFlags);
  }
  co_return std::move(status).context(fmt::format("error while writing at byte {}", offset));
}

}  // namespace

void RateLimit::set_rate(u64 bytes_per_second) {
  rate_ = bytes_per_second;
  free_at_ns_ = 0;
}

u64 RateLimit::delay_ns(u64 bytes, u64 now_ns) {
  if (!rate_) return 0;
  u64 start = std::max(now_ns, free_at_ns_);
  free_at_ns_ = start + static_cast<u64>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate_));
  return start - now_ns;
}

Task<Result<CopyResult>> copy_range(Loop& loop, CopyOptions options) {
  Copy copy(loop, std::move(options));
  co_return co_await copy.run();
}

}  // namespace atl::block
