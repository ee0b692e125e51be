// The text part of VMDK images: what the disk is made of ("VMware Virtual Disks", Virtual Disk Format 1.1, "The
// Descriptor File").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::block::vmdk {

inline constexpr u32 kNoParent = 0xffff'ffff;
inline constexpr u64 kMaxDescriptorBytes = kMiB;

struct ExtentLine {
  enum Kind : u8 { Flat, Sparse, Zero } kind = Sparse;
  u64 sectors = 0;
  std::string filename;   // as written, relative to the descriptor
  u64 offset_sector = 0;  // Flat: where in the file it starts
};

struct Descriptor {
  u32 cid = 0, parent_cid = kNoParent;
  std::string create_type;
  std::string parent_hint;  // "" if none
  std::vector<ExtentLine> extents;
  // Written only.
  std::string adapter_type = "ide", hardware_version = "4", tools_version = "2147483647";
  u64 size_bytes = 0;
};

/// Errors name the line.
Result<Descriptor> parse_descriptor(std::string_view text);
std::string build_descriptor(const Descriptor& descriptor);
/// The text with another CID; the same length. The same text if there is none.
std::string with_cid(std::string text, u32 cid);

}  // namespace atl::block::vmdk
