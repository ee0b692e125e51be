#include "block/host_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/mapping.h"
#include "block/file_lock.h"

namespace atl::block {
namespace {

Result<Fd> open_path(const FileOptions& options, bool readonly) {
  // O_NONBLOCK: a pipe without a writer must not hold us up before we have seen that it is no disk.
  int flags = (readonly ? O_RDONLY : O_RDWR) | O_NONBLOCK | (options.cache_direct ? O_DIRECT : 0);
  auto fd = open_file(options.filename, flags);
  if (!fd && options.cache_direct && fd.error().os_errno() == EINVAL)
    return Error(ErrorKind::Unsupported,
                 fmt::format("Could not open '{}': filesystem does not support O_DIRECT", options.filename), EINVAL);
  if (!fd) return os_error(fmt::format("Could not open '{}'", options.filename), fd.error().os_errno());
  return fd;
}

bool may_fall_back(const Error& error) {
  return error.os_errno() == EACCES || error.os_errno() == EROFS || error.os_errno() == EPERM;
}

/// A descriptor that was handed over keeps its access mode; the rest of its flags become what the options ask.
Result<Fd> adopt(const FileOptions& options, bool& readonly) {
  int raw = ::fcntl(options.fd, F_DUPFD_CLOEXEC, 0);
  if (raw < 0) return os_error(fmt::format("descriptor {}", options.fd));
  Fd fd(raw);
  bool can_write = (::fcntl(raw, F_GETFL) & O_ACCMODE) == O_RDWR;
  if (!can_write && !readonly && !options.auto_readonly)
    return Error(ErrorKind::Permission, fmt::format("descriptor {} is not open for reading and writing", options.fd),
                 EACCES);
  readonly |= !can_write;
  return fd;
}

Result<Fd> open_descriptor(const FileOptions& options, bool& readonly) {
  if (options.fd >= 0) return adopt(options, readonly);
  auto fd = open_path(options, readonly);
  if (!fd && !readonly && options.auto_readonly && may_fall_back(fd.error())) {
    readonly = true;
    fd = open_path(options, true);
  }
  return fd;
}

Status set_flags(const HostFile& file, bool direct) {
  int flags = ::fcntl(file.fd.get(), F_GETFL);
  flags = (flags & ~(O_NONBLOCK | O_DIRECT)) | (direct ? O_DIRECT : 0);
  if (::fcntl(file.fd.get(), F_SETFL, flags) < 0) return os_error("set the flags of " + file.name);
  return {};
}

bool is_in_memory(const Fd& fd) {
  struct statfs system{};
  return ::fstatfs(fd.get(), &system) == 0 && (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
}

Status examine(HostFile& file) {
  struct stat info{};
  if (::fstat(file.fd.get(), &info) < 0) return os_error("stat " + file.name);
  file.block_device = S_ISBLK(info.st_mode);
  if (!file.block_device && !S_ISREG(info.st_mode))
    return Error(ErrorKind::Invalid, "'file' driver requires '" + file.name + "' to be a regular file");
  file.in_memory = !file.block_device && is_in_memory(file.fd);
  file.size_bytes = TRY(measure(file));
  return {};
}

bool can_read(const HostFile& file, u8* at, u64 size) {
  ssize_t n;
  do n = ::pread(file.fd.get(), at, size, 0);
  while (n < 0 && errno == EINTR);
  return n >= 0 || errno != EINVAL;
}

/// The kernel tells alignments only by refusing, so we ask.
Status probe_alignment(HostFile& file) {
  constexpr u32 kLargest = 4096;
  Mapping buffer = TRY(Mapping::anonymous(2 * kLargest));
  file.request_alignment = kSectorBytes;
  while (file.request_alignment < kLargest && !can_read(file, buffer.data(), file.request_alignment))
    file.request_alignment *= 2;
  file.memory_alignment = kSectorBytes;
  while (file.memory_alignment < kLargest && !can_read(file, buffer.data() + file.memory_alignment, kLargest))
    file.memory_alignment *= 2;
  return {};
}

}  // namespace

Result<u64> measure(const HostFile& file) {
  off_t end = ::lseek(file.fd.get(), 0, SEEK_END);  // tells the size of block devices too
  if (end < 0) return os_error("measure " + file.name);
  return static_cast<u64>(end);
}

Result<HostFile> open_host_file(const FileOptions& options) {
  HostFile file;
  file.name = options.filename.empty() ? fmt::format("descriptor {}", options.fd) : options.filename;
  file.readonly = options.readonly;
  file.fd = TRY(open_descriptor(options, file.readonly));
  TRY(examine(file));
  TRY(set_flags(file, options.cache_direct));
  if (options.locking) TRY(lock_image(file.fd, file.name, !file.readonly));
  if (options.cache_direct) TRY(probe_alignment(file));
  return file;
}

Status reopen_host_file(HostFile& file, const FileOptions& options, bool readonly) {
  if (options.fd >= 0)
    return Error(ErrorKind::Unsupported, file.name + " was handed over as a descriptor and keeps its access mode", ENOTSUP);
  Fd fd = TRY(open_path(options, readonly));
  Fd old = std::exchange(file.fd, std::move(fd));
  Status ready = set_flags(file, options.cache_direct);
  if (options.locking) unlock_image(old);  // ours stand in our way, too
  if (ready && options.locking) ready = lock_image(file.fd, file.name, !readonly);
  if (ready) {
    file.readonly = readonly;
    return {};
  }
  file.fd = std::move(old);
  // Nobody can have taken what we held a moment ago for long; without the lock we would still be no worse than unlocked.
  if (options.locking) static_cast<void>(lock_image(file.fd, file.name, !file.readonly));
  return ready;
}

}  // namespace atl::block
