// LUKS's anti-forensic splitter (specification 1.2.3, section 2.4): a key spread over many bytes, all of which are
// needed to get it back, so that wiping any of them destroys it.
#pragma once

#include "block/crypto/hash.h"

namespace atl::block::crypto {

/// `stripes` times as many bytes as the key has.
Result<KeyBytes> af_split(const nettle_hash& hash, std::span<const u8> key, u32 stripes);
/// The key of `key_bytes` again.
KeyBytes af_merge(const nettle_hash& hash, std::span<const u8> material, u64 key_bytes);

}  // namespace atl::block::crypto
