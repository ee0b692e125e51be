#include "block/crypto/cipher.h"

#include <fmt/format.h>
#include <nettle/cbc.h>
#include <nettle/nettle-meta.h>

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "block/crypto/hash.h"

namespace atl::block::crypto {
namespace {

struct CipherRow {
  const char* name;
  const nettle_cipher* cipher;
};
const CipherRow kCiphers[] = {
    {"aes-128", &nettle_aes128},         {"aes-192", &nettle_aes192},         {"aes-256", &nettle_aes256},
    {"serpent-128", &nettle_serpent128}, {"serpent-192", &nettle_serpent192}, {"serpent-256", &nettle_serpent256},
    {"twofish-128", &nettle_twofish128}, {"twofish-192", &nettle_twofish192}, {"twofish-256", &nettle_twofish256},
};
constexpr const char* kChainings[] = {"ecb", "cbc", "xts"};
constexpr const char* kIvKinds[] = {"none", "plain", "plain64", "essiv"};

Error unknown(const char* what, std::string_view name) {
  return Error(ErrorKind::Unsupported, fmt::format("{} '{}' is not supported", what, name), ENOTSUP);
}

Result<const nettle_cipher*> find_cipher(std::string_view name) {
  for (const CipherRow& row : kCiphers)
    if (name == row.name) return row.cipher;
  return unknown("cipher algorithm", name);
}

KeyBytes context_for(const nettle_cipher& cipher, nettle_set_key_func* set_key, const u8* key) {
  KeyBytes context(cipher.context_size);
  set_key(context.data(), key);
  return context;
}

/// ESSIV encrypts with the same cipher, in the width that the digest has.
Result<const nettle_cipher*> essiv_cipher(std::string_view name, u64 key_bytes) {
  std::string wide = fmt::format("{}-{}", name.substr(0, name.find('-')), key_bytes * 8);
  auto found = find_cipher(wide);
  if (!found) return unknown("an IV hash whose digest is no key of the cipher:", wide);
  return found;
}

/// The tweaks of a sector's blocks: each is the one before, times x in GF(2^128) (IEEE 1619).
void make_tweaks(u8* tweaks) {
  u64 low = load_le<u64>(tweaks), high = load_le<u64>(tweaks + 8);
  for (u64 at = 16; at < SectorCipher::kSectorBytes; at += 16) {
    u64 carry = high >> 63;
    high = high << 1 | low >> 63;
    low = low << 1 ^ (carry * 0x87);
    store_le(tweaks + at, low);
    store_le(tweaks + at + 8, high);
  }
}

void xor_sector(u8* to, const u8* a, const u8* b) {
  for (u64 i = 0; i < SectorCipher::kSectorBytes; i += 8) store_le(to + i, load_le<u64>(a + i) ^ load_le<u64>(b + i));
}

}  // namespace

Result<Chaining> parse_chaining(std::string_view name) {
  for (u8 i = 0; i < std::size(kChainings); ++i)
    if (name == kChainings[i]) return Chaining{i};
  return unknown("cipher mode", name);
}

Result<IvKind> parse_iv_kind(std::string_view name) {
  for (u8 i = 0; i < std::size(kIvKinds); ++i)
    if (name == kIvKinds[i]) return IvKind{i};
  return unknown("IV generator", name);
}

const char* name_of(Chaining chaining) { return kChainings[static_cast<u8>(chaining)]; }
const char* name_of(IvKind kind) { return kIvKinds[static_cast<u8>(kind)]; }

Result<u64> key_bytes_of(const CipherSpec& spec) {
  const nettle_cipher* cipher = TRY(find_cipher(spec.cipher));
  return u64{cipher->key_size} * (spec.chaining == Chaining::Xts ? 2 : 1);
}

Result<SectorCipher> SectorCipher::create(const CipherSpec& spec, std::span<const u8> key) {
  if (key.size() != TRY(key_bytes_of(spec)))
    return Error(ErrorKind::Invalid, fmt::format("a key of {} bytes does not fit {}", key.size(), spec.cipher));
  SectorCipher out;
  out.cipher_ = TRY(find_cipher(spec.cipher));
  out.chaining_ = spec.chaining;
  out.iv_ = spec.iv;
  out.encrypt_ = context_for(*out.cipher_, out.cipher_->set_encrypt_key, key.data());
  out.decrypt_ = context_for(*out.cipher_, out.cipher_->set_decrypt_key, key.data());
  if (spec.chaining == Chaining::Xts)
    out.tweak_ = context_for(*out.cipher_, out.cipher_->set_encrypt_key, key.data() + key.size() / 2);
  if (spec.iv == IvKind::Essiv) {
    KeyBytes hashed = digest(*TRY(find_hash(spec.iv_hash)), key);
    out.essiv_cipher_ = TRY(essiv_cipher(spec.cipher, hashed.size()));
    out.essiv_ = context_for(*out.essiv_cipher_, out.essiv_cipher_->set_encrypt_key, hashed.data());
  }
  return out;
}

void SectorCipher::make_iv(u64 sector, u8* iv) const {
  std::memset(iv, 0, kBlockBytes);
  if (iv_ == IvKind::Plain) sector &= 0xffff'ffff;
  if (iv_ != IvKind::None) store_le(iv, sector);
  if (iv_ == IvKind::Essiv) essiv_cipher_->encrypt(essiv_.data(), kBlockBytes, iv, iv);
}

void SectorCipher::encrypt_sector(u64 sector, const u8* from, u8* to) const {
  u8 tweaks[kSectorBytes];
  make_iv(sector, tweaks);
  if (chaining_ == Chaining::Ecb) return cipher_->encrypt(encrypt_.data(), kSectorBytes, to, from);
  if (chaining_ == Chaining::Cbc)
    return cbc_encrypt(encrypt_.data(), cipher_->encrypt, kBlockBytes, tweaks, kSectorBytes, to, from);
  cipher_->encrypt(tweak_.data(), kBlockBytes, tweaks, tweaks);
  make_tweaks(tweaks);
  xor_sector(to, from, tweaks);
  cipher_->encrypt(encrypt_.data(), kSectorBytes, to, to);
  xor_sector(to, to, tweaks);
}

void SectorCipher::decrypt_sector(u64 sector, const u8* from, u8* to) const {
  u8 tweaks[kSectorBytes];
  make_iv(sector, tweaks);
  if (chaining_ == Chaining::Ecb) return cipher_->decrypt(decrypt_.data(), kSectorBytes, to, from);
  if (chaining_ == Chaining::Cbc)
    return cbc_decrypt(decrypt_.data(), cipher_->decrypt, kBlockBytes, tweaks, kSectorBytes, to, from);
  cipher_->encrypt(tweak_.data(), kBlockBytes, tweaks, tweaks);
  make_tweaks(tweaks);
  xor_sector(to, from, tweaks);
  cipher_->decrypt(decrypt_.data(), kSectorBytes, to, to);
  xor_sector(to, to, tweaks);
}

void SectorCipher::encrypt(u64 first_sector, std::span<const u8> from, u8* to) const {
  for (u64 at = 0; at < from.size(); at += kSectorBytes)
    encrypt_sector(first_sector + at / kSectorBytes, from.data() + at, to + at);
}

void SectorCipher::decrypt(u64 first_sector, std::span<const u8> from, u8* to) const {
  for (u64 at = 0; at < from.size(); at += kSectorBytes)
    decrypt_sector(first_sector + at / kSectorBytes, from.data() + at, to + at);
}

Result<SectorCipher> qcow_aes_cipher(std::string_view password) {
  KeyBytes key(16);
  std::memcpy(key.data(), password.data(), std::min(password.size(), key.size()));
  return SectorCipher::create({.cipher = "aes-128", .chaining = Chaining::Cbc, .iv = IvKind::Plain64, .iv_hash = {}},
                              key);
}

}  // namespace atl::block::crypto
