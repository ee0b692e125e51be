// Keys in and out of LUKS1's slots (specification 1.2.3, sections 2 and 4).
#include "block/crypto/luks.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "block/crypto/af_split.h"
#include "block/crypto/luks_detail.h"

namespace atl::block::crypto {

using namespace luks;

namespace {

std::span<const u8> bytes_of(std::string_view text) { return {reinterpret_cast<const u8*>(text.data()), text.size()}; }

/// Material is encrypted as the payload is, its sectors counted from 0, with a key made of the password.
Result<SectorCipher> slot_cipher(const LuksHeader& header, const LuksSlot& slot, std::string_view password) {
  const nettle_hash* hash = TRY(find_hash(header.hash));
  KeyBytes key = derive_key(*hash, bytes_of(password), slot.salt, slot.iterations, header.key_bytes);
  return SectorCipher::create(header.cipher, key);
}

std::string make_uuid() {
  u8 r[16] = {};
  (void)fill_random(r);
  r[6] = static_cast<u8>((r[6] & 0x0f) | 0x40);
  r[8] = static_cast<u8>((r[8] & 0x3f) | 0x80);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:04x}{:08x}", load_be<u32>(r), load_be<u16>(r + 4),
                     load_be<u16>(r + 6), load_be<u16>(r + 8), load_be<u16>(r + 10), load_be<u32>(r + 12));
}

u64 material_stride(u64 key_bytes) { return align_up(key_bytes * kStripes, kMaterialAlignment) / kSectorBytes; }

/// A header without keys in it yet.
Result<LuksHeader> lay_out(const LuksCreateOptions& options) {
  LuksHeader header;
  header.cipher = options.cipher;
  header.hash = options.hash;
  header.key_bytes = static_cast<u32>(TRY(key_bytes_of(options.cipher)));
  const u64 stride = material_stride(header.key_bytes), first = kMaterialAlignment / kSectorBytes;
  for (u64 i = 0; i < kLuksSlots; ++i) {
    header.slots[i].material_sector = static_cast<u32>(first + i * stride);
    header.slots[i].stripes = kStripes;
  }
  header.payload_sector = static_cast<u32>(first + kLuksSlots * stride);
  return header;
}

Result<KeyBytes> make_master_key(LuksHeader& header, u64 iteration_ms) {
  const nettle_hash* hash = TRY(find_hash(header.hash));
  KeyBytes key(header.key_bytes);
  TRY(fill_random(key));
  TRY(fill_random(header.key_salt));
  header.uuid = make_uuid();
  header.key_iterations =
      std::min(kMaxIterations, iterations_for(*hash, header.key_digest.size(), iteration_ms / kLuksSlots));
  KeyBytes digest = derive_key(*hash, key, header.key_salt, header.key_iterations, header.key_digest.size());
  std::copy(digest.begin(), digest.end(), header.key_digest.begin());
  return key;
}

Task<Status> write_at(Node& file, u64 offset, std::span<const u8> bytes) {
  iovec whole{const_cast<u8*>(bytes.data()), bytes.size()};  // only written from
  if (offset + bytes.size() > file.size_bytes()) {
    Status grown = co_await file.resize(offset + bytes.size(), Preallocation::Off);
    CO_TRY(std::move(grown));
  }
  co_return co_await file.write(offset, {&whole, 1}, kNoFlags);
}

}  // namespace

bool is_luks_key(const LuksHeader& header, const KeyBytes& key) {
  auto hash = find_hash(header.hash);
  if (!hash) return false;
  KeyBytes digest = derive_key(**hash, key, header.key_salt, header.key_iterations, header.key_digest.size());
  return std::equal(digest.begin(), digest.end(), header.key_digest.begin());
}

Task<Result<LuksHeader>> read_luks_header(Node& file, u64 base) {
  std::vector<u8> bytes(kLuksStructBytes);
  if (!range_fits(base, bytes.size(), file.size_bytes()))
    co_return Error(ErrorKind::Invalid, fmt::format("no room for a LUKS header at {}", base));
  iovec whole{bytes.data(), bytes.size()};
  Status status = co_await file.read(base, {&whole, 1});
  CO_TRY(std::move(status).context("read the LUKS header"));
  co_return parse_luks_header(bytes);
}

Task<Status> write_luks_header(Node& file, u64 base, const LuksHeader& header) {
  std::vector<u8> bytes = build_luks_header(header);
  Status status = co_await write_at(file, base, bytes);
  CO_TRY(std::move(status));
  co_return co_await file.flush();
}

Task<Result<KeyBytes>> try_slot(Node& file, u64 base, const LuksHeader& header, u64 index,
                                const std::string& password) {
  const LuksSlot& slot = header.slots[index];
  KeyBytes material(material_sectors(header) * kSectorBytes);
  const u64 offset = base + slot.material_sector * kSectorBytes;
  if (!range_fits(offset, material.size(), file.size_bytes()))
    co_return Error(ErrorKind::Invalid, fmt::format("LUKS header: key slot {}'s material is cut short", index));
  iovec whole{material.data(), material.size()};
  Status status = co_await file.read(offset, {&whole, 1});
  CO_TRY(std::move(status).context(fmt::format("read key slot {}", index)));
  SectorCipher cipher = CO_TRY(slot_cipher(header, slot, password));
  cipher.decrypt(0, material, material.data());
  const nettle_hash* hash = CO_TRY(find_hash(header.hash));
  KeyBytes key = af_merge(*hash, std::span(material).first(material_bytes(header)), header.key_bytes);
  if (!is_luks_key(header, key)) key.clear();
  co_return key;
}

Task<Result<KeyBytes>> unlock_luks(Node& file, u64 base, const LuksHeader& header, std::string password) {
  for (u64 i = 0; i < kLuksSlots; ++i) {
    if (!header.slots[i].active) continue;
    Result<KeyBytes> tried = co_await try_slot(file, base, header, i, password);
    KeyBytes key = CO_TRY(std::move(tried));
    if (!key.empty()) co_return key;
  }
  co_return Error(ErrorKind::Permission, "Invalid password, cannot unlock any keyslot", EPERM);
}

Task<Status> fill_slot(Node& file, u64 base, LuksHeader& header, u64 index, const KeyBytes& key, std::string password,
                       u64 iteration_ms) {
  LuksSlot slot = header.slots[index];
  const nettle_hash* hash = CO_TRY(find_hash(header.hash));
  CO_TRY(fill_random(slot.salt));
  slot.stripes = kStripes;
  slot.iterations = std::min(kMaxIterations, iterations_for(*hash, header.key_bytes, iteration_ms));
  slot.active = true;
  KeyBytes material = CO_TRY(af_split(*hash, key, kStripes));
  material.resize(material_sectors(header) * kSectorBytes);
  SectorCipher cipher = CO_TRY(slot_cipher(header, slot, password));
  cipher.encrypt(0, material, material.data());
  Status status = co_await write_at(file, base + slot.material_sector * kSectorBytes, material);
  CO_TRY(std::move(status));
  status = co_await file.flush();
  CO_TRY(std::move(status));
  LuksSlot before = std::exchange(header.slots[index], slot);
  status = co_await write_luks_header(file, base, header);
  if (!status) header.slots[index] = before;
  co_return status;
}

Task<Status> erase_slot(Node& file, u64 base, LuksHeader& header, u64 index) {
  LuksSlot& slot = header.slots[index];
  slot.active = false;
  slot.iterations = 0;
  slot.salt.fill(0);
  Status status = co_await write_luks_header(file, base, header);
  CO_TRY(std::move(status));
  std::vector<u8> noise(material_sectors(header) * kSectorBytes);
  CO_TRY(fill_random(noise));
  status = co_await write_at(file, base + slot.material_sector * kSectorBytes, noise);
  CO_TRY(std::move(status));
  co_return co_await file.flush();
}

Result<u64> luks_header_bytes(const LuksCreateOptions& options) { return luks_header_bytes(TRY(lay_out(options))); }

Task<Result<LuksVolume>> create_luks(Node& file, u64 base, LuksCreateOptions options) {
  LuksVolume volume{CO_TRY(lay_out(options)), {}};
  volume.key = CO_TRY(make_master_key(volume.header, options.iteration_ms));
  CO_TRY(SectorCipher::create(volume.header.cipher, volume.key));  // refuses what does not fit before writing
  if (base + luks_header_bytes(volume.header) > file.size_bytes()) {
    Status grown = co_await file.resize(base + luks_header_bytes(volume.header), Preallocation::Off);
    CO_TRY(std::move(grown));
  }
  Status status = co_await fill_slot(file, base, volume.header, 0, volume.key, options.password, options.iteration_ms);
  CO_TRY(std::move(status));
  co_return std::move(volume);
}

}  // namespace atl::block::crypto
