// Upload and download of volumes: the bytes of the file itself, whatever its format.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/fd.h"
#include "manage/storage/pools.h"

namespace atl::manage {
namespace {

class Upload final : public StreamJob {
 public:
  Upload(Fd file, u64 offset, u64 limit)
      : StreamJob(Direction::FromClient), file_(std::move(file)), at_(offset), end_(limit) {}

  Status write(std::span<const u8> data) override {
    TRY(check_room(data.size()));
    while (!data.empty()) {
      ssize_t count = ::pwrite(file_.get(), data.data(), data.size(), static_cast<off_t>(at_));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return os_error("write to the volume");
      at_ += static_cast<u64>(count);
      data = data.subspan(static_cast<size_t>(count));
    }
    return {};
  }
  /// What was there goes.
  Status write_hole(u64 bytes) override {
    TRY(check_room(bytes));
    ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at_),
                static_cast<off_t>(bytes));
    at_ += bytes;
    struct stat status;
    if (::fstat(file_.get(), &status) < 0) return os_error("stat the volume");
    if (static_cast<u64>(status.st_size) < at_ && ::ftruncate(file_.get(), static_cast<off_t>(at_)) < 0)
      return os_error("grow the volume");
    return {};
  }
  Status finish() override {
    if (::fsync(file_.get()) < 0) return os_error("flush the volume");
    return {};
  }

 private:
  Status check_room(u64 bytes) const {
    if (bytes <= end_ - at_) return {};
    return Error(Code::SystemError, "cannot write to stream: No space left on device", Part::Streams);
  }

  Fd file_;
  u64 at_;
  const u64 end_;
};

class Download final : public StreamJob {
 public:
  Download(Fd file, u64 offset, u64 end, bool sparse)
      : StreamJob(Direction::ToClient), file_(std::move(file)), at_(offset), end_(end), sparse_(sparse) {}

  Result<Chunk> read(size_t limit_bytes) override {
    Chunk chunk;
    if (at_ >= end_) return chunk;
    u64 until = end_;
    if (sparse_) {
      off_t data = ::lseek(file_.get(), static_cast<off_t>(at_), SEEK_DATA);
      u64 begin = data < 0 ? end_ : std::min(static_cast<u64>(data), end_);
      if (begin > at_) {
        chunk.hole_bytes = begin - at_;
        at_ = begin;
        return chunk;
      }
      off_t hole = ::lseek(file_.get(), static_cast<off_t>(at_), SEEK_HOLE);
      if (hole > 0) until = std::min(static_cast<u64>(hole), end_);
    }
    chunk.data.resize(static_cast<size_t>(std::min<u64>(limit_bytes, until - at_)));
    TRY(read_exact_at(file_, chunk.data, at_));
    at_ += chunk.data.size();
    return chunk;
  }

 private:
  Fd file_;
  u64 at_;
  const u64 end_;
  const bool sparse_;
};

Result<Fd> open_volume(const Volume& volume, int flags) {
  if (volume.type == VolumeType::Dir)
    return Error(Code::InvalidArg, fmt::format("'{}' is a folder", volume.path), Part::Storage);
  return open_file(volume.path, flags);
}

}  // namespace

Result<std::unique_ptr<StreamJob>> Pools::upload(const VolumeRef& ref, u64 offset, u64 length) {
  Found found = TRY(fresh_volume(ref));
  Fd file = TRY(open_volume(found.volume, O_WRONLY));
  u64 limit = INT64_MAX;
  if (offset > limit || length > limit - offset)
    return Error(Code::Overflow, "offset and length are too large", Part::Storage);
  if (length) limit = offset + length;
  return std::make_unique<Upload>(std::move(file), offset, limit);
}

Result<std::unique_ptr<StreamJob>> Pools::download(const VolumeRef& ref, u64 offset, u64 length, bool sparse) {
  Found found = TRY(fresh_volume(ref));
  Fd file = TRY(open_volume(found.volume, O_RDONLY));
  u64 size = found.volume.physical_bytes;
  u64 end = length && offset < size ? offset + std::min(length, size - offset) : size;
  return std::make_unique<Download>(std::move(file), std::min(offset, size), end, sparse);
}

}  // namespace atl::manage
