// How the host backs guest RAM.
//
// Anonymous memory is mapped without MAP_NORESERVE, so the kernel's overcommit rules decide; in addition, more than RAM
// and swap together is refused whatever those rules say, because it could only end in the OOM killer. More guests than
// fit at once stay possible (KSM, balloon, idle guests) unless the memory is preallocated.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>

#include "base/math.h"
#include "memory/guest_memory.h"

namespace atl::memory {
namespace {

constexpr u64 kTransparentHugePage = 2 * kMiB;

struct HostMemory {
  u64 total = 0;      // RAM and swap
  u64 available = 0;  // of these, what could be had now, roughly
};

HostMemory host_memory() {
  struct sysinfo info{};
  ::sysinfo(&info);
  u64 unit = info.mem_unit;
  HostMemory host{(info.totalram + info.totalswap) * unit, (info.freeram + info.freeswap) * unit};
  auto text = read_file("/proc/meminfo", 64 * kKiB);
  if (!text) return host;
  size_t at = text->find("MemAvailable:");
  if (at != std::string::npos)
    host.available = std::strtoull(text->c_str() + at + 13, nullptr, 10) * kKiB + info.freeswap * unit;
  return host;
}

Error too_much(u64 size_bytes, u64 host_bytes, const char* what) {
  return Error(ErrorKind::NoSpace,
               fmt::format("{} MiB are more than the {} MiB of memory and swap that this host has{}", size_bytes / kMiB,
                           host_bytes / kMiB, what),
               ENOMEM);
}

Status check_promise(u64 size_bytes, const RamOptions& options) {
  HostMemory host = host_memory();
  if (size_bytes > host.total) return too_much(size_bytes, host.total, "");
  if (options.prealloc && size_bytes > host.available) return too_much(size_bytes, host.available, " free");
  return {};
}

/// What a block is mapped from.
struct Source {
  Fd fd;  // none: anonymous
  u64 page_bytes = kPageSize;
  bool on_disk = false;  // an ordinary file: its pages need neither RAM nor swap
};

Result<u64> backing_page_bytes(const Fd& fd) {
  struct statfs fs{};
  if (::fstatfs(fd.get(), &fs) < 0) return os_error("statfs");
  return static_cast<u64>(fs.f_type) == HUGETLBFS_MAGIC ? static_cast<u64>(fs.f_bsize) : kPageSize;
}

Result<Source> open_memfd(const std::string& name, const RamOptions& options) {
  unsigned flags = MFD_CLOEXEC;
  if (options.backing == RamOptions::Backing::HugePages) {
    flags |= MFD_HUGETLB;
    if (options.huge_page_bytes)
      flags |= static_cast<unsigned>(std::countr_zero(options.huge_page_bytes)) << MAP_HUGE_SHIFT;
  }
  Fd fd(::memfd_create(name.c_str(), flags));
  if (!fd) return os_error("create a memfd");
  u64 page_bytes = TRY(backing_page_bytes(fd));
  return Source{std::move(fd), page_bytes, false};
}

Result<Source> open_backing_file(const std::string& path) {
  struct stat info{};
  bool exists = ::stat(path.c_str(), &info) == 0;
  Fd fd;
  if (exists && S_ISDIR(info.st_mode)) {
    std::string file = path + "/atoll-ram-XXXXXX";
    fd = Fd(::mkostemp(file.data(), O_CLOEXEC));
    if (!fd) return os_error("create " + file);
    ::unlink(file.c_str());
  } else {
    fd = TRY(open_file(path, O_RDWR | O_CREAT, 0600));
  }
  struct statfs fs{};
  if (::fstatfs(fd.get(), &fs) < 0) return os_error("statfs " + path);
  u64 type = static_cast<u64>(fs.f_type);
  bool on_disk = type != HUGETLBFS_MAGIC && type != TMPFS_MAGIC;
  u64 page_bytes = type == HUGETLBFS_MAGIC ? static_cast<u64>(fs.f_bsize) : kPageSize;
  return Source{std::move(fd), page_bytes, on_disk};
}

Result<Source> open_source(const std::string& name, const RamOptions& options) {
  using Backing = RamOptions::Backing;
  if (options.backing == Backing::File) return open_backing_file(options.path);
  // Shared memory must have a descriptor that others can map.
  if (options.backing == Backing::Anonymous && !options.shared) return Source{};
  return open_memfd(name, options);
}

Status grow(const Fd& fd, u64 size_bytes) {
  struct stat info{};
  if (::fstat(fd.get(), &info) < 0) return os_error("stat");
  if (static_cast<u64>(info.st_size) >= size_bytes) return {};
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) < 0) return os_error("grow the file");
  return {};
}

Result<Mapping> map_source(const Source& source, u64 size_bytes, const RamOptions& options) {
  constexpr int kAccess = PROT_READ | PROT_WRITE;
  if (!source.fd.valid()) {
    u64 alignment = size_bytes >= kTransparentHugePage ? kTransparentHugePage : kPageSize;
    return Mapping::anonymous(size_bytes, kAccess, 0, alignment);
  }
  TRY(grow(source.fd, size_bytes));
  return Mapping::of_file(source.fd, 0, size_bytes, kAccess, options.shared ? MAP_SHARED : MAP_PRIVATE);
}

/// Hints; a kernel without the feature refuses them, which changes nothing for the guest.
void advise(const Mapping& mapping, const Source& source, const RamOptions& options) {
  if (options.merge) ::madvise(mapping.data(), mapping.size(), MADV_MERGEABLE);
  if (!options.dump) ::madvise(mapping.data(), mapping.size(), MADV_DONTDUMP);
  if (!source.fd.valid() && mapping.size() >= kTransparentHugePage)
    ::madvise(mapping.data(), mapping.size(), MADV_HUGEPAGE);
}

Status preallocate(const Mapping& mapping, u64 page_bytes) {
  int r;
  do r = ::madvise(mapping.data(), mapping.size(), MADV_POPULATE_WRITE);
  while (r < 0 && (errno == EINTR || errno == EAGAIN));
  if (r == 0) return {};
  if (errno != EINVAL) return os_error("preallocate");
  for (u64 at = 0; at < mapping.size(); at += page_bytes) {  // before Linux 5.14
    volatile u8* byte = mapping.data() + at;
    *byte = *byte;
  }
  return {};
}

Result<Mapping> build(Source& source, u64 size_bytes, const RamOptions& options) {
  if (!source.on_disk) TRY(check_promise(size_bytes, options));
  Mapping mapping = TRY(map_source(source, size_bytes, options));
  advise(mapping, source, options);
  if (options.prealloc) TRY(preallocate(mapping, source.page_bytes));
  return mapping;
}

}  // namespace

Result<std::shared_ptr<RamBlock>> RamBlock::create(std::string name, u64 size_bytes, const RamOptions& options) {
  std::string what = fmt::format("cannot set up guest memory '{}' of {} MiB", name, size_bytes / kMiB);
  if (options.huge_page_bytes && !is_power_of_two(options.huge_page_bytes))
    return Error(ErrorKind::Invalid, fmt::format("{}: {} is no page size", what, options.huge_page_bytes));
  Source source = TRY(open_source(name, options).context(what));
  if (size_bytes == 0 || size_bytes > ~u64{0} - source.page_bytes)
    return Error(ErrorKind::Invalid, fmt::format("{}: {} bytes are not a possible size", what, size_bytes));
  Mapping mapping = TRY(build(source, align_up(size_bytes, source.page_bytes), options).context(what));
  return std::shared_ptr<RamBlock>(
      new RamBlock(std::move(name), std::move(source.fd), std::move(mapping), source.page_bytes, options.shared));
}

void RamBlock::discard(u64 offset, u64 size_bytes) {
  if (!range_fits(offset, size_bytes, size())) return;
  u64 first = align_up(offset, page_bytes_);
  u64 end = align_down(offset + size_bytes, page_bytes_);
  if (first >= end) return;
  ::madvise(data() + first, end - first, MADV_DONTNEED);
  // The file behind a private mapping is not ours to change; a memfd still reads as zero.
  if (shared_)
    ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first),
                static_cast<off_t>(end - first));
}

}  // namespace atl::memory
