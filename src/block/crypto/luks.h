// LUKS1 headers (LUKS On-Disk Format Specification 1.2.3): made, unlocked, and their key slots changed.
//
// Used by the `luks` format and by qcow2, whose header of the same form lies in clusters of its own. Supported: what
// crypto/cipher.h and crypto/hash.h offer. Missing: LUKS2 (refused by name).
//
// A header lies at some offset `base` of a node, with the material of its key slots behind it: luks_header_bytes() in
// all. Deriving a key takes up to seconds of processor time, by design.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "block/crypto/cipher.h"
#include "block/driver.h"
#include "block/node.h"

namespace atl::block::crypto {

inline constexpr u64 kLuksSlots = 8;
inline constexpr u64 kLuksStructBytes = 592;  // what parse_luks_header() looks at

struct LuksSlot {
  bool active = false;
  u32 iterations = 0;
  std::array<u8, 32> salt{};
  u32 material_sector = 0;  // from the header's start
  u32 stripes = 0;
};

struct LuksHeader {
  CipherSpec cipher;
  std::string hash = "sha256";
  u32 payload_sector = 0;  // where a luks image's data begin; of no meaning in qcow2
  u32 key_bytes = 0;
  std::array<u8, 20> key_digest{};
  std::array<u8, 32> key_salt{};
  u32 key_iterations = 0;
  std::string uuid;
  std::array<LuksSlot, kLuksSlots> slots;
};

/// Meaning of the first bytes; errors name the field.
Result<LuksHeader> parse_luks_header(std::span<const u8> bytes);
/// Header and key material, in bytes.
inline u64 luks_header_bytes(const LuksHeader& header) { return u64{header.payload_sector} * kSectorBytes; }
/// What `info` shows ("format-specific" data of luks, "encrypt" of qcow2).
Json luks_info(const LuksHeader& header);

Task<Result<LuksHeader>> read_luks_header(Node& file, u64 base);

/// The master key, if the password opens one of the slots.
Task<Result<KeyBytes>> unlock_luks(Node& file, u64 base, const LuksHeader& header, std::string password);

struct LuksCreateOptions {
  CipherSpec cipher;
  std::string hash = "sha256";
  u64 iteration_ms = 2000;
  std::string password;
};
/// Options as text, each name behind `prefix` ("encrypt." for qcow2): key-secret, cipher-alg, cipher-mode, ivgen-alg,
/// ivgen-hash-alg, hash-alg, iter-time.
Result<LuksCreateOptions> luks_create_options(const Graph& graph, const Json& options, std::string_view prefix);
/// The same without the password, for who wants to know sizes only.
Result<LuksCreateOptions> luks_cipher_options(const Json& options, std::string_view prefix);
/// What luks_header_bytes() will be.
Result<u64> luks_header_bytes(const LuksCreateOptions& options);

struct LuksVolume {
  LuksHeader header;
  KeyBytes key;
};
/// Writes a new header with one key slot; the file reaches as far as luks_header_bytes() afterwards.
Task<Result<LuksVolume>> create_luks(Node& file, u64 base, LuksCreateOptions options);

/// Changes key slots, as `amend` asks: state (active, inactive), new-secret, old-secret, keyslot, iter-time, each
/// behind `prefix`. `password` opened the image. `header` follows.
Task<Status> amend_luks(Graph& graph, Node& file, u64 base, LuksHeader& header, std::string password, Json options,
                        std::string prefix, bool force);

}  // namespace atl::block::crypto
