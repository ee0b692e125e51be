#include "base/result.h"

#include <cstring>

namespace atl {
namespace {

ErrorKind kind_of(int err) {
  switch (err) {
    case ENOENT: case ENODEV: case ENXIO: case ESRCH: return ErrorKind::NotFound;
    case EEXIST: return ErrorKind::Exists;
    case ENOTSUP: case ENOSYS: case ENOTTY: return ErrorKind::Unsupported;
    case EBUSY: case EAGAIN: case EADDRINUSE: return ErrorKind::Busy;
    case ENOSPC: case ENOMEM: case EDQUOT: case EMFILE: case ENFILE: return ErrorKind::NoSpace;
    case EACCES: case EPERM: case EROFS: return ErrorKind::Permission;
    case ECANCELED: return ErrorKind::Cancelled;
    case EINVAL: case EISDIR: case ENOTDIR: case ENAMETOOLONG: return ErrorKind::Invalid;
    default: return ErrorKind::Io;
  }
}

}  // namespace

Error os_error(std::string_view what, int err) {
  return Error(kind_of(err), std::string(what) + ": " + std::strerror(err), err);
}

Error os_error(std::string_view what) { return os_error(what, errno); }

}  // namespace atl
