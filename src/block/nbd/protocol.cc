#include "block/nbd/protocol.h"

#include <cerrno>

namespace atl::block::nbd {

int to_wire_errno(int err) {
  switch (err) {
    case EPERM: case EROFS: case EACCES: return 1;
    case EIO: return 5;
    case ENOMEM: return 12;
    case EINVAL: return 22;
    case ENOSPC: case EFBIG: case EDQUOT: return 28;
    case EOVERFLOW: return 75;
    case ENOTSUP: return 95;
    case ESHUTDOWN: return 108;
    default: return 22;
  }
}

int from_wire_errno(u32 value) {
  switch (value) {
    case 0: return 0;
    case 1: return EPERM;
    case 5: return EIO;
    case 12: return ENOMEM;
    case 28: return ENOSPC;
    case 75: return EOVERFLOW;
    case 95: return ENOTSUP;
    case 108: return ESHUTDOWN;
    default: return EINVAL;
  }
}

}  // namespace atl::block::nbd
