// VHDX's log ([MS-VHDX] 2.3): sectors of metadata are written there first, so that a crash leaves them old or new.
#pragma once

#include "block/format/vhdx_spec.h"
#include "block/node.h"

namespace atl::block::vhdx {

/// A piece of the file that the log tells of: 4 KiB at a multiple of 4 KiB.
struct LoggedSector {
  u64 offset = 0;
  std::vector<u8> bytes;
};

/// How many sectors one entry in a log of this size can hold.
u64 log_capacity(u64 log_bytes);
/// One entry that holds them all.
Result<std::vector<u8>> build_log_entry(const Header& header, u64 sequence, std::span<const LoggedSector> sectors,
                                        u64 file_bytes);
/// Writes to the file what the newest complete sequence of entries holds. True if there was one.
Task<Result<bool>> replay_log(Node& file, const Header& header);

}  // namespace atl::block::vhdx
