#include "machine/loaders/boot_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>

#include "base/math.h"

namespace atl::machine {

Result<BootFile> BootFile::open(std::string what, std::string path) {
  std::string label = fmt::format("{} {}", what, path);
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) < 0) return os_error(label);
  if (!S_ISREG(info.st_mode)) return Error(ErrorKind::Invalid, label + ": not a regular file");
  if (info.st_size == 0) return Error(ErrorKind::Invalid, label + ": the file is empty");
  return BootFile(std::move(label), std::move(path), std::move(fd), static_cast<u64>(info.st_size));
}

Error BootFile::error(std::string_view why) const {
  return Error(ErrorKind::Invalid, fmt::format("{}: {}", label_, why));
}

Status BootFile::check_range(u64 offset, u64 size) const {
  if (range_fits(offset, size, size_)) return {};
  return error(fmt::format("truncated: {} bytes at {:#x} wanted, the file has {}", size, offset, size_));
}

Result<std::vector<u8>> BootFile::head(u64 limit) const { return bytes(0, std::min(limit, size_)); }

Result<std::vector<u8>> BootFile::bytes(u64 offset, u64 size) const {
  TRY(check_range(offset, size));
  std::vector<u8> data(size);
  TRY(read_exact_at(*fd_, data, offset).context(label_));
  return data;
}

Status BootFile::load(const memory::GuestMemory& memory, u64 offset, u64 size, GuestAddr at) const {
  TRY(check_range(offset, size));
  if (size == 0) return {};
  u8* host = memory.host(at, size, true);
  if (!host) return error(fmt::format("{} bytes do not fit into guest memory at {:#x}", size, at));
  TRY(read_exact_at(*fd_, {host, size}, offset).context(label_));
  memory.wrote(at, size);
  return {};
}

}  // namespace atl::machine
