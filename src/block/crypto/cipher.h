// Disk sectors en- and decrypted one by one: a block cipher, a chaining mode, and how a sector's number becomes its IV.
//
// Supported: AES, Serpent and Twofish with keys of 128, 192 and 256 bits; XTS, CBC and ECB; plain, plain64 and ESSIV.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "block/crypto/key_bytes.h"

struct nettle_cipher;

namespace atl::block::crypto {

enum class Chaining : u8 { Ecb, Cbc, Xts };
enum class IvKind : u8 { None, Plain, Plain64, Essiv };

struct CipherSpec {
  std::string cipher = "aes-256";  // name and key bits, "aes-128" ... "twofish-256"
  Chaining chaining = Chaining::Xts;
  IvKind iv = IvKind::Plain64;
  std::string iv_hash;  // of Essiv: "sha256"
};

/// Spellings of LUKS and QEMU: "cbc", "plain64" ...; errors name what is not known.
Result<Chaining> parse_chaining(std::string_view name);
Result<IvKind> parse_iv_kind(std::string_view name);
const char* name_of(Chaining chaining);
const char* name_of(IvKind kind);
/// Length of the key that `spec` wants: XTS takes two.
Result<u64> key_bytes_of(const CipherSpec& spec);

/// Safe to use from several threads at a time.
class SectorCipher {
 public:
  static constexpr u64 kSectorBytes = 512;

  /// `key` is as long as key_bytes_of() says.
  static Result<SectorCipher> create(const CipherSpec& spec, std::span<const u8> key);

  /// Whole sectors, numbered from `first_sector` on. `to` may be where `from` is, but must not overlap it otherwise.
  void encrypt(u64 first_sector, std::span<const u8> from, u8* to) const;
  void decrypt(u64 first_sector, std::span<const u8> from, u8* to) const;

 private:
  static constexpr u64 kBlockBytes = 16;
  using Context = KeyBytes;

  SectorCipher() = default;
  void make_iv(u64 sector, u8* iv) const;
  void encrypt_sector(u64 sector, const u8* from, u8* to) const;
  void decrypt_sector(u64 sector, const u8* from, u8* to) const;

  const nettle_cipher* cipher_ = nullptr;
  Chaining chaining_ = Chaining::Xts;
  IvKind iv_ = IvKind::Plain64;
  Context encrypt_, decrypt_, tweak_;
  const nettle_cipher* essiv_cipher_ = nullptr;
  Context essiv_;
};

/// The old encryption of qcow and qcow2 images: AES-128-CBC, keyed with the password's first 16 bytes, IVs from guest
/// sectors.
Result<SectorCipher> qcow_aes_cipher(std::string_view password);

}  // namespace atl::block::crypto
