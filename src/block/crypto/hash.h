// Hashes by the names that LUKS uses, and keys derived from passwords.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "block/crypto/key_bytes.h"

struct nettle_hash;

namespace atl::block::crypto {

/// sha1, sha224, sha256, sha384, sha512 or ripemd160; the error names what is not known.
Result<const nettle_hash*> find_hash(std::string_view name);
/// The digest of `first` followed by `second`.
KeyBytes digest(const nettle_hash& hash, std::span<const u8> first, std::span<const u8> second = {});
u64 digest_bytes(const nettle_hash& hash);

/// PBKDF2 (RFC 8018) with HMAC.
KeyBytes derive_key(const nettle_hash& hash, std::span<const u8> password, std::span<const u8> salt, u32 iterations,
                    u64 key_bytes);
/// How many iterations take `milliseconds` of processor time here; at least 1000, as the LUKS specification asks.
u32 iterations_for(const nettle_hash& hash, u64 key_bytes, u64 milliseconds);

/// Random bytes for keys and salts.
Status fill_random(std::span<u8> out);

}  // namespace atl::block::crypto
