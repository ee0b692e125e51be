// What the bytes of a LUKS1 header mean, and which headers are refused.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "block/crypto/luks_detail.h"

namespace atl::block::crypto {

using namespace luks;

namespace {

Error bad(std::string text) { return Error(ErrorKind::Invalid, "LUKS header: " + std::move(text)); }

std::string text_at(std::span<const u8> bytes, u64 at, u64 most) {
  const char* start = reinterpret_cast<const char*>(&bytes[at]);
  return std::string(start, ::strnlen(start, most));
}

/// "xts-plain64", "cbc-essiv:sha256", "ecb"; the cipher's width follows from the key's.
Status parse_cipher(std::string_view name, std::string_view mode, u64 key_bytes, CipherSpec& out) {
  std::string_view chaining = mode.substr(0, mode.find('-'));
  std::string_view iv = chaining.size() < mode.size() ? mode.substr(chaining.size() + 1) : "none";
  out.chaining = TRY(parse_chaining(chaining).context("LUKS header: cipher-mode"));
  out.iv = TRY(parse_iv_kind(iv.substr(0, iv.find(':'))).context("LUKS header: cipher-mode"));
  if (size_t colon = iv.find(':'); colon != iv.npos) out.iv_hash = iv.substr(colon + 1);
  u64 bits = key_bytes * 8 / (out.chaining == Chaining::Xts ? 2 : 1);
  out.cipher = fmt::format("{}-{}", name, bits);
  if (TRY(key_bytes_of(out).context("LUKS header: cipher-name and key-bytes")) != key_bytes)
    return bad(fmt::format("key-bytes is {}", key_bytes));
  return {};
}

Status check_iterations(std::string_view what, u32 iterations) {
  if (iterations == 0 || iterations > kMaxIterations)
    return bad(fmt::format("{} asks for {} iterations", what, iterations));
  return {};
}

LuksSlot parse_slot(std::span<const u8> bytes) {
  LuksSlot slot;
  slot.active = load_be<u32>(&bytes[kSlotStateAt]) == kActive;
  slot.iterations = load_be<u32>(&bytes[kSlotIterationsAt]);
  std::copy_n(&bytes[kSlotSaltAt], slot.salt.size(), slot.salt.begin());
  slot.material_sector = load_be<u32>(&bytes[kSlotMaterialAt]);
  slot.stripes = load_be<u32>(&bytes[kSlotStripesAt]);
  return slot;
}

/// Material must lie between the header and the payload, and slots must not share it.
Status check_slots(const LuksHeader& header) {
  const u64 sectors = material_sectors(header);
  for (u64 i = 0; i < kLuksSlots; ++i) {
    const LuksSlot& slot = header.slots[i];
    std::string name = fmt::format("key slot {}", i);
    if (slot.stripes != kStripes) return bad(fmt::format("{} has {} stripes", name, slot.stripes));
    if (slot.active) TRY(check_iterations(name, slot.iterations));
    if (slot.material_sector * kSectorBytes < kLuksStructBytes)
      return bad(fmt::format("{}'s key material at sector {} overlaps the header", name, slot.material_sector));
    if (slot.material_sector + sectors > header.payload_sector)
      return bad(fmt::format("{}'s key material at sector {} reaches into the payload", name, slot.material_sector));
    for (u64 k = 0; k < i; ++k) {
      u64 other = header.slots[k].material_sector;
      if (other < slot.material_sector + sectors && slot.material_sector < other + sectors)
        return bad(fmt::format("{} shares its key material with key slot {}", name, k));
    }
  }
  return {};
}

void put_text(std::span<u8> to, std::string_view text) { std::copy_n(text.begin(), text.size(), to.begin()); }

}  // namespace

Result<LuksHeader> parse_luks_header(std::span<const u8> bytes) {
  if (bytes.size() < kLuksStructBytes || !std::equal(std::begin(kMagic), std::end(kMagic), bytes.begin()))
    return Error(ErrorKind::Invalid, "Volume is not in LUKS format");
  u32 version = load_be<u16>(&bytes[kVersionAt]);
  if (version != 1) return Error(ErrorKind::Unsupported, fmt::format("LUKS version {} is not supported", version));
  LuksHeader header;
  header.key_bytes = load_be<u32>(&bytes[kKeyBytesAt]);
  if (header.key_bytes == 0 || header.key_bytes > kMaxKeyBytes)
    return bad(fmt::format("key-bytes is {}", header.key_bytes));
  TRY(parse_cipher(text_at(bytes, kCipherNameAt, kNameBytes), text_at(bytes, kCipherModeAt, kNameBytes),
                   header.key_bytes, header.cipher));
  header.hash = text_at(bytes, kHashAt, kNameBytes);
  TRY(find_hash(header.hash).context("LUKS header: hash-spec"));
  header.payload_sector = load_be<u32>(&bytes[kPayloadAt]);
  std::copy_n(&bytes[kKeyDigestAt], header.key_digest.size(), header.key_digest.begin());
  std::copy_n(&bytes[kKeySaltAt], header.key_salt.size(), header.key_salt.begin());
  header.key_iterations = load_be<u32>(&bytes[kKeyIterationsAt]);
  TRY(check_iterations("mk-digest-iter", header.key_iterations));
  header.uuid = text_at(bytes, kUuidAt, kUuidBytes);
  for (u64 i = 0; i < kLuksSlots; ++i)
    header.slots[i] = parse_slot(bytes.subspan(kSlotsAt + i * kSlotBytes, kSlotBytes));
  TRY(check_slots(header));
  return header;
}

std::vector<u8> build_luks_header(const LuksHeader& header) {
  std::vector<u8> bytes(kLuksStructBytes);
  const CipherSpec& cipher = header.cipher;
  std::string mode = name_of(cipher.chaining);
  if (cipher.iv != IvKind::None) mode += fmt::format("-{}", name_of(cipher.iv));
  if (!cipher.iv_hash.empty()) mode += ":" + cipher.iv_hash;
  std::span<u8> all(bytes);
  std::copy(std::begin(kMagic), std::end(kMagic), bytes.begin());
  store_be<u16>(&bytes[kVersionAt], 1);
  put_text(all.subspan(kCipherNameAt, kNameBytes), cipher.cipher.substr(0, cipher.cipher.find('-')));
  put_text(all.subspan(kCipherModeAt, kNameBytes), mode);
  put_text(all.subspan(kHashAt, kNameBytes), header.hash);
  store_be(&bytes[kPayloadAt], header.payload_sector);
  store_be(&bytes[kKeyBytesAt], header.key_bytes);
  std::copy(header.key_digest.begin(), header.key_digest.end(), &bytes[kKeyDigestAt]);
  std::copy(header.key_salt.begin(), header.key_salt.end(), &bytes[kKeySaltAt]);
  store_be(&bytes[kKeyIterationsAt], header.key_iterations);
  put_text(all.subspan(kUuidAt, kUuidBytes), header.uuid);
  for (u64 i = 0; i < kLuksSlots; ++i) {
    const LuksSlot& slot = header.slots[i];
    u8* at = &bytes[kSlotsAt + i * kSlotBytes];
    store_be(at + kSlotStateAt, slot.active ? kActive : kInactive);
    store_be(at + kSlotIterationsAt, slot.iterations);
    std::copy(slot.salt.begin(), slot.salt.end(), at + kSlotSaltAt);
    store_be(at + kSlotMaterialAt, slot.material_sector);
    store_be(at + kSlotStripesAt, slot.stripes);
  }
  return bytes;
}

Json luks_info(const LuksHeader& header) {
  Json slots = Json::array();
  for (const LuksSlot& slot : header.slots) {
    Json row = {{"active", slot.active}, {"key-offset", slot.material_sector * kSectorBytes}};
    if (slot.active) row.update({{"iters", slot.iterations}, {"stripes", slot.stripes}});
    slots.push_back(std::move(row));
  }
  Json info = {{"cipher-alg", header.cipher.cipher},
               {"cipher-mode", name_of(header.cipher.chaining)},
               {"ivgen-alg", name_of(header.cipher.iv)},
               {"hash-alg", header.hash},
               {"payload-offset", luks_header_bytes(header)},
               {"master-key-iters", header.key_iterations},
               {"uuid", header.uuid},
               {"slots", std::move(slots)}};
  if (!header.cipher.iv_hash.empty()) info["ivgen-hash-alg"] = header.cipher.iv_hash;
  return info;
}

}  // namespace atl::block::crypto
