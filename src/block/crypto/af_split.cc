#include "block/crypto/af_split.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::block::crypto {
namespace {

void xor_into(KeyBytes& to, std::span<const u8> other) {
  for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<u8>(to[i] ^ other[i]);
}

/// Every piece as long as a digest becomes the digest of its number and itself.
void diffuse(const nettle_hash& hash, KeyBytes& block) {
  const u64 width = digest_bytes(hash);
  for (u64 at = 0; at < block.size(); at += width) {
    u8 number[4];
    store_be(number, static_cast<u32>(at / width));
    u64 size = std::min<u64>(width, block.size() - at);
    KeyBytes hashed = digest(hash, number, {&block[at], size});
    std::copy_n(hashed.begin(), size, block.begin() + static_cast<long>(at));
  }
}

}  // namespace

Result<KeyBytes> af_split(const nettle_hash& hash, std::span<const u8> key, u32 stripes) {
  KeyBytes material(key.size() * stripes), block(key.size());
  const std::span<u8> random = std::span(material).first(key.size() * (stripes - 1));
  TRY(fill_random(random));
  for (u64 at = 0; at < random.size(); at += key.size()) {
    xor_into(block, random.subspan(at, key.size()));
    diffuse(hash, block);
  }
  xor_into(block, key);
  std::copy(block.begin(), block.end(), material.end() - static_cast<long>(key.size()));
  return material;
}

KeyBytes af_merge(const nettle_hash& hash, std::span<const u8> material, u64 key_bytes) {
  KeyBytes block(key_bytes);
  u64 at = 0;
  for (; at + key_bytes < material.size(); at += key_bytes) {
    xor_into(block, material.subspan(at, key_bytes));
    diffuse(hash, block);
  }
  xor_into(block, material.subspan(at, key_bytes));
  return block;
}

}  // namespace atl::block::crypto
