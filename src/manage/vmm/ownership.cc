#include "manage/vmm/ownership.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/endian.h"
#include "base/fd.h"

namespace atl::manage {

Status FileOwnership::give(const std::string& path, bool writable) {
  if (user_ == 0 || path.empty()) return {};
  struct stat now;
  if (::stat(path.c_str(), &now) < 0) return os_error(fmt::format("Cannot access storage file '{}'", path));
  if (now.st_uid == user_) return {};
  const bool readable = S_ISREG(now.st_mode) && (now.st_mode & S_IROTH);
  // Devices that everybody may use (/dev/urandom) are nobody's.
  const bool shared_device = S_ISCHR(now.st_mode) && (now.st_mode & S_IROTH);
  if (shared_device || (!writable && readable)) return {};
  if (is_vm_user(now.st_uid)) return Error(Code::ResourceBusy, fmt::format("'{}' is in use by another domain", path));
  if (::chown(path.c_str(), user_, group_) < 0) return os_error(fmt::format("unable to set user and group of '{}'", path));
  files_.push_back({path, now.st_uid, now.st_gid});
  return {};
}

namespace {

/// Only what is still the VM's: somebody may have put another file there.
void give_back(const OwnedFile& file, uid_t user) {
  struct stat now;
  if (::lstat(file.path.c_str(), &now) < 0 || now.st_uid != user || S_ISLNK(now.st_mode)) return;
  if (::lchown(file.path.c_str(), file.user, file.group) < 0) return;
}

}  // namespace

void FileOwnership::take_back() {
  for (const auto& file : files_) give_back(file, user_);
  files_.clear();
}

void FileOwnership::take_back(const std::string& path) {
  for (const auto& file : files_)
    if (file.path == path) give_back(file, user_);
  std::erase_if(files_, [&](const OwnedFile& file) { return file.path == path; });
}

namespace {

constexpr size_t kMaxDepth = 64;
constexpr u32 kMaxNameBytes = 1023;
constexpr u32 kBackingFormat = 0xe2792aca;

struct Backing {
  std::string file, format;
};

/// qcow2's specification, "Header" and "Header extensions".
Result<Backing> read_backing(const std::string& path) {
  Fd file = TRY(open_file(path, O_RDONLY));
  std::array<u8, 4096> head{};
  const ssize_t got = ::pread(file.get(), head.data(), head.size(), 0);
  if (got < 72 || std::memcmp(head.data(), "QFI\xfb", 4) != 0) return Backing{};
  const u64 offset = load_be<u64>(head.data() + 8);
  const u32 size = load_be<u32>(head.data() + 16);
  Backing backing;
  if (offset == 0 || size == 0 || size > kMaxNameBytes) return backing;
  backing.file.resize(size);
  if (::pread(file.get(), backing.file.data(), size, static_cast<off_t>(offset)) != size)
    return internal_error(fmt::format("cannot read the backing file's name from {}", path));
  const u32 version = load_be<u32>(head.data() + 4);
  size_t place = version >= 3 ? load_be<u32>(head.data() + 100) : 72;
  while (place + 8 <= static_cast<size_t>(got)) {
    const u32 type = load_be<u32>(head.data() + place), length = load_be<u32>(head.data() + place + 4);
    if (type == 0 || length > head.size() || place + 8 + length > static_cast<size_t>(got)) break;
    if (type == kBackingFormat) backing.format.assign(reinterpret_cast<const char*>(head.data()) + place + 8, length);
    place += 8 + (length + 7) / 8 * 8;
  }
  return backing;
}

}  // namespace

Result<std::vector<BackingFile>> backing_files(const std::string& path, std::string_view format) {
  std::vector<BackingFile> files;
  std::string at = path, kind(format);
  while (kind == "qcow2" && files.size() < kMaxDepth) {
    Backing backing = TRY(read_backing(at));
    if (backing.file.starts_with("file:")) backing.file.erase(0, 5);
    // Other protocols have no file of ours.
    if (backing.file.empty() || backing.file.starts_with("json:") || backing.file.find("://") != std::string::npos) break;
    if (!backing.file.starts_with('/')) backing.file.insert(0, at.substr(0, at.rfind('/') + 1));
    if (std::ranges::find(files, backing.file, &BackingFile::path) != files.end()) break;
    kind = backing.format.empty() ? "raw" : backing.format;
    files.push_back({backing.file, kind});
    at = backing.file;
  }
  return files;
}

}  // namespace atl::manage
