// LUKS1: places and numbers of the header (specification 1.2.3, figures 1 and 2). All fields are big-endian.
#pragma once

#include "base/types.h"

namespace atl::block::crypto::luks {

inline constexpr u8 kMagic[6] = {'L', 'U', 'K', 'S', 0xba, 0xbe};
inline constexpr u64 kVersionAt = 6, kCipherNameAt = 8, kCipherModeAt = 40, kHashAt = 72, kPayloadAt = 104;
inline constexpr u64 kKeyBytesAt = 108, kKeyDigestAt = 112, kKeySaltAt = 132, kKeyIterationsAt = 164, kUuidAt = 168;
inline constexpr u64 kSlotsAt = 208, kSlotBytes = 48, kNameBytes = 32, kUuidBytes = 40;
// Within a slot.
inline constexpr u64 kSlotStateAt = 0, kSlotIterationsAt = 4, kSlotSaltAt = 8, kSlotMaterialAt = 40,
                     kSlotStripesAt = 44;
inline constexpr u32 kActive = 0x00ac71f3, kInactive = 0x0000dead;
inline constexpr u32 kStripes = 4000;
inline constexpr u64 kMaterialAlignment = 4096;

// Ours: a header that asks for more would hold up its reader for minutes.
inline constexpr u32 kMaxIterations = 200'000'000;

}  // namespace atl::block::crypto::luks
