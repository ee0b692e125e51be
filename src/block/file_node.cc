// File node: a regular file or block device of the host, through io_uring.
//
// Supported: buffered and direct (O_DIRECT) I/O at any alignment, discard (hole punching), fast zeroing, flush, FUA,
// resize of regular files, image locking. Missing: removable host media, SCSI pass-through.
#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>

#include <algorithm>

#include "base/mapping.h"
#include "base/math.h"
#include "block/async_lock.h"
#include "block/file_lock.h"
#include "block/host_file.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZero = FALLOC_FL_ZERO_RANGE;

constexpr u64 kMostAtOnce = 64 * kKiB;

i32 result_of(ssize_t n) { return n < 0 ? -errno : static_cast<i32>(n); }

bool is_unsupported(i32 result) { return result == -EOPNOTSUPP || result == -ENOTTY || result == -ENOSYS; }

struct Bounce;

class FileNode final : public Node {
 public:
  FileNode(Loop& loop, HostFile file, const FileOptions& options);
  ~FileNode() override;

  NodeInfo info() const override;
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;
  u64 size_bytes() const override;
  Task<Status> resize(u64 size_bytes, Preallocation how) override;
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override;
  Task<Status> set_readonly(bool readonly) override;

 private:
  bool is_direct() const { return options_.cache_direct; }
  /// io_uring gives each request for such a file to a worker thread, which costs more than to copy a little right here.
  bool at_once(u64 size) const { return file_.in_memory && size <= kMostAtOnce; }
  bool needs_bounce(u64 offset, std::span<const iovec> list) const;
  Status check_write(u64 offset, u64 size) const;
  Error failed(const char* what, u64 offset, u64 size, i32 result) const;
  void grown_to(u64 end) { size_ = std::max(size_, file_.block_device ? 0 : end); }

  Task<Status> read_plain(u64 offset, std::span<const iovec> out);
  Task<Status> write_plain(u64 offset, std::span<const iovec> data);
  Task<Status> read_bounced(u64 offset, std::span<const iovec> out);
  Task<Status> write_bounced(u64 offset, std::span<const iovec> data);
  Task<Status> write_bounce(Bounce& bounce, std::vector<iovec> piece);
  Task<Status> write_data(u64 offset, std::span<const iovec> data);
  Status truncate(u64 size_bytes);
  Task<Status> preallocate(u64 offset, u64 size, Preallocation how);

  Loop& loop_;
  HostFile file_;
  const FileOptions options_;
  u64 size_;
  bool can_punch_ = true, can_zero_ = true;  // until the file system says no
  // After a failed fdatasync of cached data the kernel has dropped what it could not write, and the next call would
  // succeed: so the failure stays.
  i32 flush_error_ = 0;
  AsyncLock blocks_;  // exclusive: a read-modify-write of direct I/O is under way; shared: other writes of direct I/O
};

FileNode::FileNode(Loop& loop, HostFile file, const FileOptions& options)
    : loop_(loop), file_(std::move(file)), options_(options), size_(file_.size_bytes) {}

// io_uring's workers hold an open file a little longer than its last request, and so would its locks live. Those of a
// descriptor that was handed over are its owner's too.
FileNode::~FileNode() {
  if (options_.locking && options_.fd < 0) unlock_image(file_.fd);
}

NodeInfo FileNode::info() const {
  return {.node_name = options_.node_name,
          .driver = !options_.driver.empty() ? options_.driver : file_.block_device ? "host_device" : "file",
          .filename = options_.filename,
          .size_bytes = size_bytes(),
          .readonly = file_.readonly,
          .request_alignment = file_.request_alignment,
          .can_discard = options_.discard && !file_.readonly,
          .cache_direct = options_.cache_direct,
          .cache_no_flush = options_.cache_no_flush};
}

u64 FileNode::size_bytes() const { return file_.block_device ? measure(file_).value_or(size_) : size_; }

Error FileNode::failed(const char* what, u64 offset, u64 size, i32 result) const {
  return os_error(fmt::format("{} {} bytes at {} of {}", what, size, offset, file_.name), -result);
}

Status FileNode::check_write(u64 offset, u64 size) const {
  if (file_.readonly) return Error(ErrorKind::Permission, file_.name + " is open for reading only", EPERM);
  return check_range(offset, size, size_).context(file_.name);
}

// --- reading ---

Task<Status> FileNode::read(u64 offset, std::span<const iovec> out) {
  u64 size = iovec_bytes(out);
  CO_TRY(check_range(offset, size, size_).context(file_.name));
  if (size == 0) co_return Status{};
  if (needs_bounce(offset, out)) co_return co_await read_bounced(offset, out);
  // The usual case in one go, without another coroutine.
  if (out.size() <= IOV_MAX) {
    i32 n = 0;
    if (at_once(size)) n = result_of(::preadv(file_.fd.get(), out.data(), static_cast<int>(out.size()), static_cast<off_t>(offset)));
    else n = co_await loop_.readv(file_.fd.get(), out, offset);
    if (n == static_cast<i64>(size)) [[likely]]
      co_return Status{};
  }
  co_return co_await read_plain(offset, out);
}

/// Copes with short reads, interrupted ones and the end of the file, which reads as zeroes.
Task<Status> FileNode::read_plain(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  for (u64 done = 0; done < size;) {
    auto rest = iovec_slice(out, done);
    rest.resize(std::min<size_t>(rest.size(), IOV_MAX));
    i32 n = co_await loop_.readv(file_.fd.get(), rest, offset + done);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n < 0) co_return failed("read", offset, size, n);
    done += static_cast<u64>(n);
    if (n != 0 && !(is_direct() && n % file_.request_alignment)) continue;
    iovec_clear(out, done);
    co_return Status{};
  }
  co_return Status{};
}

// --- writing ---

Task<Status> FileNode::write(u64 offset, std::span<const iovec> data, u32 flags) {
  u64 size = iovec_bytes(data);
  CO_TRY(check_write(offset, size));
  if (size == 0) co_return Status{};
  i32 n = 0;
  if (!is_direct() && data.size() <= IOV_MAX) {
    if (at_once(size)) n = result_of(::pwritev(file_.fd.get(), data.data(), static_cast<int>(data.size()), static_cast<off_t>(offset)));
    else n = co_await loop_.writev(file_.fd.get(), data, offset);
  }
  if (n == static_cast<i64>(size)) [[likely]] {
    grown_to(offset + size);
  } else {
    Status status = co_await write_data(offset, data);
    CO_TRY(std::move(status));
  }
  if (flags & kFua) co_return co_await flush();
  co_return Status{};
}

Task<Status> FileNode::write_plain(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  for (u64 done = 0; done < size;) {
    auto rest = iovec_slice(data, done);
    rest.resize(std::min<size_t>(rest.size(), IOV_MAX));
    i32 n = co_await loop_.writev(file_.fd.get(), rest, offset + done);
    if (n == -EINTR || n == -EAGAIN) continue;
    if (n == 0) n = -ENOSPC;
    if (n < 0) co_return failed("write", offset, size, n);
    done += static_cast<u64>(n);
  }
  co_return Status{};
}

/// A write at any alignment. With direct I/O it keeps out of the way of read-modify-write cycles.
Task<Status> FileNode::write_data(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  Status status;
  if (is_direct()) {
    bool partial = ((offset | size) & (file_.request_alignment - 1)) != 0;
    co_await AsyncLock::Acquire(blocks_, partial);
    if (needs_bounce(offset, data))
      status = co_await write_bounced(offset, data);
    else
      status = co_await write_plain(offset, data);
    blocks_.release();
  } else {
    status = co_await write_plain(offset, data);
  }
  if (status) grown_to(offset + size);
  co_return status;
}

// --- direct I/O at odd alignments ---

bool FileNode::needs_bounce(u64 offset, std::span<const iovec> list) const {
  if (!is_direct()) return false;
  return (offset & (file_.request_alignment - 1)) ||
         !iovec_is_aligned(list, file_.memory_alignment, file_.request_alignment);
}

/// The aligned bytes around a piece of a request, in a buffer of our own.
struct Bounce {
  static constexpr u64 kMaxBytes = kMiB;

  Mapping memory;
  u64 start = 0;  // in the file
  u64 head = 0;   // of the piece, from `start`
  u64 size = 0;   // of the piece

  /// For as much of the request's rest as the buffer takes.
  static Result<Bounce> create(u64 offset, u64 left, u64 alignment) {
    u64 start = align_down(offset, alignment);
    u64 size = std::min(left, kMaxBytes - (offset - start));
    return Bounce{TRY(Mapping::anonymous(align_up(offset + size, alignment) - start)), start, offset - start, size};
  }
  iovec whole() const { return {memory.data(), memory.size()}; }
  u64 end() const { return start + memory.size(); }
  std::span<u8> piece() const { return memory.span().subspan(head, size); }
};

Task<Status> FileNode::read_bounced(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  for (u64 done = 0; done < size;) {
    Bounce bounce = CO_TRY(Bounce::create(offset + done, size - done, file_.request_alignment));
    iovec whole = bounce.whole();
    Status status = co_await read_plain(bounce.start, {&whole, 1});
    CO_TRY(std::move(status));
    iovec_copy_to(iovec_slice(out, done), bounce.piece());
    done += bounce.size;
  }
  co_return Status{};
}

Task<Status> FileNode::write_bounced(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  for (u64 done = 0; done < size;) {
    Bounce bounce = CO_TRY(Bounce::create(offset + done, size - done, file_.request_alignment));
    Status status = co_await write_bounce(bounce, iovec_slice(data, done, bounce.size));
    CO_TRY(std::move(status));
    done += bounce.size;
  }
  co_return Status{};
}

/// Fills the buffer up around the piece, with what the file holds there, and writes it.
Task<Status> FileNode::write_bounce(Bounce& bounce, std::vector<iovec> piece) {
  iovec whole = bounce.whole();
  if (bounce.size != bounce.memory.size()) {
    Status status = co_await read_plain(bounce.start, {&whole, 1});
    CO_TRY(std::move(status));
  }
  iovec_copy_from(piece, bounce.piece());
  Status status = co_await write_plain(bounce.start, {&whole, 1});
  CO_TRY(std::move(status));
  // A file of odd size must not grow by more than what was asked.
  u64 end = std::max(size_, bounce.start + bounce.head + bounce.size);
  bool too_long = !file_.block_device && bounce.end() > end;
  if (too_long && ::ftruncate(file_.fd.get(), static_cast<off_t>(end)) < 0)
    co_return os_error("truncate " + file_.name);
  grown_to(end);
  co_return Status{};
}

// --- zeroes, discard, flush, resize ---

Task<Status> FileNode::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  if (size == 0) co_return Status{};
  i32 result = -EOPNOTSUPP;
  bool inside = offset + size <= size_;
  if (inside && (flags & kMayUnmap) && options_.discard && can_punch_) {
    result = co_await loop_.fallocate(file_.fd.get(), kPunch, offset, size);
    can_punch_ = !is_unsupported(result);
  }
  if (inside && is_unsupported(result) && can_zero_) {
    result = co_await loop_.fallocate(file_.fd.get(), kZero, offset, size);
    can_zero_ = !is_unsupported(result);
  }
  // EINVAL: a block device whose sectors are larger than the request's alignment.
  bool by_hand = is_unsupported(result) || result == -EINVAL || result == -EINTR;
  if (result < 0 && !by_hand) co_return failed("write zeroes to", offset, size, result);
  Status status;
  if (by_hand) status = co_await write_zeroes_as_data(*this, offset, size);
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

/// A hint: what cannot be discarded stays.
Task<Status> FileNode::discard(u64 offset, u64 size) {
  CO_TRY(check_write(offset, size));
  u64 end = std::min(offset + size, size_);
  if (!options_.discard || !can_punch_ || offset >= end) co_return Status{};
  i32 result = co_await loop_.fallocate(file_.fd.get(), kPunch, offset, end - offset);
  can_punch_ = !is_unsupported(result);
  if (result < 0 && can_punch_ && result != -EINVAL && result != -EINTR)
    co_return failed("discard", offset, size, result);
  co_return Status{};
}

Task<Status> FileNode::flush() {
  if (options_.cache_no_flush || file_.readonly) co_return Status{};
  i32 result = flush_error_ ? flush_error_ : -EINTR;
  while (result == -EINTR) result = co_await loop_.fsync(file_.fd.get(), true);
  if (result < 0 && result != -ECANCELED && !is_direct()) flush_error_ = result;
  if (result < 0) co_return os_error("flush " + file_.name, -result);
  co_return Status{};
}

Status FileNode::truncate(u64 size_bytes) {
  if (::ftruncate(file_.fd.get(), static_cast<off_t>(size_bytes)) < 0) return os_error("resize " + file_.name);
  size_ = size_bytes;
  return {};
}

Task<Status> FileNode::resize(u64 size_bytes, Preallocation how) {
  if (file_.readonly) co_return Error(ErrorKind::Permission, file_.name + " is open for reading only", EPERM);
  if (file_.block_device && size_bytes <= FileNode::size_bytes() && how == Preallocation::Off) co_return Status{};
  if (file_.block_device)
    co_return Error(ErrorKind::Unsupported, file_.name + " is a block device, whose size is fixed", ENOTSUP);
  if (how == Preallocation::Metadata)
    co_return Error(ErrorKind::Unsupported, "Unsupported preallocation mode 'metadata'", ENOTSUP);
  const u64 before = size_;
  if (how != Preallocation::Off && size_bytes < before)
    co_return Error(ErrorKind::Invalid, "Preallocation can't be used for shrinking files", ENOTSUP);
  CO_TRY(truncate(size_bytes));
  if (how == Preallocation::Off || size_bytes == before) co_return Status{};
  Status status = co_await preallocate(before, size_bytes - before, how);
  if (!status) static_cast<void>(truncate(before));  // the first error counts
  co_return status;
}

Task<Status> FileNode::preallocate(u64 offset, u64 size, Preallocation how) {
  i32 result = -EOPNOTSUPP;
  if (how == Preallocation::Falloc) result = co_await loop_.fallocate(file_.fd.get(), 0, offset, size);
  if (is_unsupported(result)) co_return co_await write_zeroes_as_data(*this, offset, size);
  if (result < 0) co_return failed("Could not preallocate", offset, size, result);
  co_return Status{};
}

Task<Status> FileNode::set_readonly(bool readonly) {
  if (file_.readonly == readonly) co_return Status{};
  if (readonly) {
    Status status = co_await flush();
    CO_TRY(std::move(status));
  }
  co_return reopen_host_file(file_, options_, readonly);
}

/// What the file system knows of holes. Where it knows nothing, all is data.
Task<Result<BlockStatus>> FileNode::block_status(u64 offset, u64 bytes) {
  BlockStatus status;
  status.bytes = bytes;
  status.offset = offset;
  status.file = this;
  if (offset >= size_) {
    status.data = false;
    status.zero = true;
    co_return status;
  }
  const int fd = file_.fd.get();
  off_t data = file_.block_device ? -1 : ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
  off_t end = -1;
  status.data = data == static_cast<off_t>(offset) || (data < 0 && errno != ENXIO) || file_.block_device;
  status.zero = !status.data;
  if (data == static_cast<off_t>(offset)) end = ::lseek(fd, data, SEEK_HOLE);
  if (data > static_cast<off_t>(offset)) end = data;
  if (end > static_cast<off_t>(offset)) status.bytes = std::min(bytes, static_cast<u64>(end) - offset);
  co_return status;
}

}  // namespace

Result<std::unique_ptr<Node>> open_file_node(Loop& loop, const FileOptions& options) {
  HostFile file = TRY(open_host_file(options));
  FileOptions named = options;
  if (named.node_name.empty()) named.node_name = generate_node_name();
  return std::make_unique<FileNode>(loop, std::move(file), named);
}

}  // namespace atl::block
