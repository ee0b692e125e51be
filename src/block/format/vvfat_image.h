// A folder of the host laid out as a FAT file system (Microsoft's "FAT: General Overview of On-Disk Format", 1.03):
// boot sector, tables and directories in memory, files by their names.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::block::vvfat {

struct Choice {
  std::string folder;
  u32 fat_bits = 0;     // 12, 16, 32; 0: what fits the kind of disk
  bool floppy = false;  // no partition table
  std::string label = "QEMU VVFAT";
};

/// Bytes of the disk that are not zero.
struct Region {
  u64 start = 0, bytes = 0;
  bool in_memory = true;
  u64 index = 0;  // in FatImage::memory, or of the file
};

struct FatImage {
  u64 size_bytes = 0;
  std::vector<std::string> memory;
  std::vector<std::string> files;  // paths
  std::vector<Region> regions;     // by start
};

/// Links and special files are left out. Errors name what does not fit.
Result<FatImage> lay_out_folder(const Choice& choice);

}  // namespace atl::block::vvfat
