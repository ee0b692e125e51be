// A regular file or block device as the host shows it: opened as asked, locked, measured.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "block/node.h"

namespace atl::block {

struct HostFile {
  Fd fd;
  std::string name;  // for people
  bool block_device = false;
  bool in_memory = false;      // on a file system of the host's memory: small transfers never wait
  bool readonly = false;
  u64 size_bytes = 0;
  u32 request_alignment = 1;  // of offsets and lengths; above 1 with O_DIRECT only
  u32 memory_alignment = 1;   // of buffers
};

/// Every error names the file.
Result<HostFile> open_host_file(const FileOptions& options);
/// Opens the same file anew with the other access mode, and takes the locks that go with it. On failure all is as before.
Status reopen_host_file(HostFile& file, const FileOptions& options, bool readonly);
/// The size now.
Result<u64> measure(const HostFile& file);

}  // namespace atl::block
