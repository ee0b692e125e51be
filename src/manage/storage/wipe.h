// Overwriting of a volume's bytes, by the algorithms of virStorageVolWipeAlgorithm, which are those of scrub(1).
#pragma once

#include <span>
#include <string>

#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

/// What one pass writes: a byte (or three in turn), noise, or a look at whether the last pass is there.
struct WipePass {
  enum Kind : u8 { Pattern, Random, Verify } kind = Pattern;
  u8 bytes[3] = {0, 0, 0};
};

/// The passes of an algorithm; InvalidArg if there is none of that number.
Result<std::span<const WipePass>> wipe_passes(u32 algorithm);
/// All passes over the first `size_bytes` of a file or device, each flushed.
Status wipe(const std::string& path, u64 size_bytes, std::span<const WipePass> passes);

}  // namespace atl::manage
