// Keeps two programs from writing one image: the byte locks that QEMU and its tools take on the image file itself, so
// that they and we exclude each other.
//
// Convention (QEMU's file driver): open-file-description locks, all of them read locks. Byte 100 + n is locked by who
// uses permission n, byte 200 + n by who cannot bear that others use it. Before working, one looks that nobody holds
// the opposite byte. Permissions: 0 consistent read, 1 write, 2 write unchanged, 3 resize.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace atl::block {

/// Takes the locks of a reader or writer that shares only reading. They are gone when the last descriptor of the open
/// file is. A file system that has no such locks passes. The error is Busy and names the file.
Status lock_image(const Fd& fd, const std::string& path, bool writable);
/// Gives all of them back.
void unlock_image(const Fd& fd);

}  // namespace atl::block
