#include "block/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace atl::block {
namespace {

constexpr off_t kUsedBase = 100;
constexpr off_t kRefusedBase = 200;

struct Permission {
  off_t number;
  const char* name;
  bool reader;  // a reader uses it
  bool writer;  // a writer uses it
  bool shared;  // others may use it meanwhile
};
constexpr Permission kPermissions[] = {
    // number  name            reader  writer  shared
    {0, "consistent read", true, true, true},
    {1, "write", false, true, false},
    {3, "resize", false, true, false},
};

struct flock byte_lock(short type, off_t at) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  return lock;
}

bool set_lock(const Fd& fd, short type, off_t at) {
  struct flock lock = byte_lock(type, at);
  return ::fcntl(fd.get(), F_OFD_SETLK, &lock) == 0;
}

bool others_hold(const Fd& fd, off_t at) {
  struct flock lock = byte_lock(F_WRLCK, at);  // any lock of another stands in the way of this one
  return ::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool uses(const Permission& p, bool writable) { return writable ? p.writer : p.reader; }

void unlock_all(const Fd& fd) {
  for (const Permission& p : kPermissions) {
    set_lock(fd, F_UNLCK, kUsedBase + p.number);
    set_lock(fd, F_UNLCK, kRefusedBase + p.number);
  }
}

/// What stands against us, as QEMU words it; "" if nothing does.
std::string find_conflict(const Fd& fd, bool writable) {
  for (const Permission& p : kPermissions) {
    if (uses(p, writable) && others_hold(fd, kRefusedBase + p.number))
      return fmt::format("Failed to get \"{}\" lock", p.name);
    if (!p.shared && others_hold(fd, kUsedBase + p.number))
      return fmt::format("Failed to get shared \"{}\" lock", p.name);
  }
  return {};
}

}  // namespace

void unlock_image(const Fd& fd) { unlock_all(fd); }

Status lock_image(const Fd& fd, const std::string& path, bool writable) {
  for (const Permission& p : kPermissions) {
    bool taken = (!uses(p, writable) || set_lock(fd, F_RDLCK, kUsedBase + p.number)) &&
                 (p.shared || set_lock(fd, F_RDLCK, kRefusedBase + p.number));
    if (taken) continue;
    bool conflict = errno == EAGAIN || errno == EACCES;
    unlock_all(fd);
    if (!conflict) return {};  // no such locks on this file system
    return Error(ErrorKind::Busy, fmt::format("{}: image is locked by another process", path), EAGAIN);
  }
  std::string conflict = find_conflict(fd, writable);
  if (conflict.empty()) return {};
  unlock_all(fd);
  return Error(ErrorKind::Busy, fmt::format("{}\nIs another process using the image [{}]?", conflict, path), EAGAIN);
}

}  // namespace atl::block
