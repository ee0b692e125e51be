// What the parts of the LUKS library share and nobody else needs.
#pragma once

#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/crypto/luks.h"
#include "block/crypto/luks_spec.h"

namespace atl::block::crypto {

inline constexpr u64 kMaxKeyBytes = 64;

/// The structure that parse_luks_header() reads.
std::vector<u8> build_luks_header(const LuksHeader& header);

inline u64 material_bytes(const LuksHeader& header) { return u64{header.key_bytes} * luks::kStripes; }
inline u64 material_sectors(const LuksHeader& header) {
  return align_up(material_bytes(header), kSectorBytes) / kSectorBytes;
}

/// The master key, if `password` opens this slot; an empty key if not.
Task<Result<KeyBytes>> try_slot(Node& file, u64 base, const LuksHeader& header, u64 index, const std::string& password);
/// Puts the key's material under a new password, then makes the slot active.
Task<Status> fill_slot(Node& file, u64 base, LuksHeader& header, u64 index, const KeyBytes& key, std::string password,
                       u64 iteration_ms);
/// Makes the slot inactive, then destroys its material.
Task<Status> erase_slot(Node& file, u64 base, LuksHeader& header, u64 index);
Task<Status> write_luks_header(Node& file, u64 base, const LuksHeader& header);
/// Whether this is the key that the header's digest tells.
bool is_luks_key(const LuksHeader& header, const KeyBytes& key);

}  // namespace atl::block::crypto
