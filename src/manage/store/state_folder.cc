#include "manage/store/state_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "base/fd.h"
#include "manage/store/late_flush.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

std::string temporary_of(const std::string& path) {
  size_t slash = path.rfind('/');
  size_t base = slash == std::string::npos ? 0 : slash + 1;
  return fmt::format("{}.{}{}", path.substr(0, base), path.substr(base), kTemporary);
}

Result<std::vector<std::string>> entries(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder) return os_error("open " + path);
  std::vector<std::string> found;
  while (const dirent* entry = ::readdir(folder.get())) found.emplace_back(entry->d_name);
  std::ranges::sort(found);
  return found;
}

/// What a write that was cut off left: finished if it says of itself that it is whole, else removed.
Status recover(const std::string& folder, const std::string& entry) {
  std::string temporary = folder + "/" + entry;
  if (auto final_name = LateFlush::complete_name(folder, entry)) {
    TRY(flush_file(temporary));
    if (::rename(temporary.c_str(), (folder + "/" + *final_name).c_str()) == 0) return sync_folder(folder);
    return os_error("rename " + temporary);
  }
  if (::unlink(temporary.c_str()) < 0 && errno != ENOENT) return os_error("remove " + temporary);
  return {};
}

Status unlink_if_there(const std::string& path) {
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) return os_error("remove " + path);
  return {};
}

/// Of a remove that was cut off: a later object of that name must not start by itself.
Status drop_stale_links(const std::string& folder, const std::string& suffix) {
  const std::string links = folder + "/autostart";
  if (::access(links.c_str(), F_OK) < 0) return {};
  for (const std::string& entry : TRY(entries(links)))
    if (entry.ends_with(suffix) && ::access((folder + "/" + entry).c_str(), F_OK) < 0)
      TRY(unlink_if_there(links + "/" + entry));
  return {};
}

}  // namespace

Status write_whole(const std::string& path, std::string_view content, unsigned mode, bool flush) {
  Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
  if (::fchmod(file.get(), mode) < 0) return os_error("chmod " + path);
  std::span bytes(reinterpret_cast<const u8*>(content.data()), content.size());
  if (auto written = write_all(file, bytes); !written) return std::move(written.error()).with_context("write " + path);
  if (flush && ::fsync(file.get()) < 0) return os_error("flush " + path);
  return {};
}

Status flush_file(const std::string& path) {
  Fd file = TRY(open_file(path, O_RDONLY));
  if (::fsync(file.get()) < 0) return os_error("flush " + path);
  return {};
}

Status sync_folder(const std::string& path) {
  Fd folder = TRY(open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(folder.get()) < 0) return os_error("flush " + path);
  return {};
}

Status make_folders(const std::string& path, unsigned mode) {
  for (size_t at = 1; at <= path.size(); ++at) {
    if (at < path.size() && path[at] != '/') continue;
    std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), mode) < 0 && errno != EEXIST) return os_error("make folder " + part);
  }
  return {};
}

Status write_atomically(const std::string& path, std::string_view content, unsigned mode, Flush flush) {
  std::string temporary = temporary_of(path);
  Status written = write_whole(temporary, content, mode, flush != Flush::Never);
  if (written && ::rename(temporary.c_str(), path.c_str()) < 0) written = Status(os_error("rename to " + path));
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  return flush == Flush::Never ? Status() : sync_folder(folder_of(path));
}

StateFolder::StateFolder(std::string path, std::string suffix, Flush flush)
    : path_(std::move(path)), suffix_(std::move(suffix)), flush_(flush) {}
StateFolder::~StateFolder() = default;
StateFolder::StateFolder(StateFolder&&) noexcept = default;

Result<StateFolder> StateFolder::open(std::string path, std::string suffix, unsigned folder_mode, Flush flush) {
  TRY(make_folders(path, folder_mode));
  StateFolder folder(std::move(path), std::move(suffix), flush);
  for (const std::string& entry : TRY(entries(folder.path_)))
    if (entry.starts_with('.') && entry.ends_with(kTemporary)) TRY(recover(folder.path_, entry));
  TRY(drop_stale_links(folder.path_, folder.suffix_));
  if (flush == Flush::Later) folder.late_ = TRY(LateFlush::start(folder.path_));
  return folder;
}

/// Before anything but a write: it must not overtake one.
void StateFolder::settle() const {
  if (late_) late_->settle();
}

/// Flushes a folder's entries, when it is time.
Status StateFolder::sync(const std::string& path) const {
  if (flush_ == Flush::Now) return sync_folder(path);
  if (late_) late_->flush_folder(path);
  return {};
}

Status StateFolder::write(const std::string& name, std::string_view content, unsigned mode) const {
  if (late_) return late_->write(name + suffix_, content, mode);
  return write_atomically(file(name), content, mode, flush_);
}

Result<std::string> StateFolder::read(const std::string& name) const {
  settle();
  return read_file(file(name), xml::Limits{}.bytes);
}

bool StateFolder::contains(const std::string& name) const {
  settle();
  return ::access(file(name).c_str(), F_OK) == 0;
}

Status StateFolder::remove(const std::string& name) const {
  if (late_) late_->cancel(name + suffix_);
  TRY(unlink_if_there(file(name)));
  TRY(unlink_if_there(link(name)));
  return sync(path_);
}

Status StateFolder::rename(const std::string& from, const std::string& to) const {
  settle();
  bool starts = autostart(from);
  if (::rename(file(from).c_str(), file(to).c_str()) < 0) return os_error("rename " + file(from));
  TRY(unlink_if_there(link(from)));
  TRY(sync(path_));
  return starts ? set_autostart(to, true) : Status();
}

Result<std::vector<std::string>> StateFolder::names() const {
  settle();
  std::vector<std::string> found;
  for (const std::string& entry : TRY(entries(path_)))
    if (!entry.starts_with(".") && entry.size() > suffix_.size() && entry.ends_with(suffix_))
      found.push_back(entry.substr(0, entry.size() - suffix_.size()));
  return found;
}

Status StateFolder::set_autostart(const std::string& name, bool on) const {
  std::string folder = path_ + "/autostart";
  if (!on && !autostart(name)) return {};
  TRY(make_folders(folder, 0700));
  TRY(unlink_if_there(link(name)));
  if (on && ::symlink(file(name).c_str(), link(name).c_str()) < 0) return os_error("link " + link(name));
  return sync(folder);
}

bool StateFolder::autostart(const std::string& name) const {
  struct stat status;
  return ::lstat(link(name).c_str(), &status) == 0;
}

}  // namespace atl::manage
