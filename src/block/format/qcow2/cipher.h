// Encryption of an image's data: LUKS, and the old AES method. Works on whole sectors of 512 bytes.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "base/task.h"
#include "block/crypto/cipher.h"
#include "block/crypto/luks.h"

namespace atl::block::qcow2 {

class Core;

class Cipher {
 public:
  /// Where the bytes are stored and what part of the disk they are: LUKS numbers sectors by the former, AES by the latter.
  struct Where {
    u64 host = 0, guest = 0;
  };

  /// The old method, whose key is the password itself.
  static Result<Cipher> create_aes(std::string_view password);
  static Result<Cipher> create_luks(crypto::LuksHeader header, std::span<const u8> key, std::string password);

  Task<Status> decrypt(Core& core, Where where, std::span<u8> bytes);
  Task<Status> encrypt(Core& core, Where where, std::span<u8> bytes);
  /// Of LUKS.
  std::optional<crypto::LuksHeader>& luks() { return luks_; }
  const std::string& password() const { return password_; }

 private:
  explicit Cipher(crypto::SectorCipher sectors) : sectors_(std::move(sectors)) {}
  template <class F>
  static Task<Status> in_pieces(Core& core, std::span<u8> bytes, F work);
  u64 first_sector(Where where) const { return (luks_ ? where.host : where.guest) / crypto::SectorCipher::kSectorBytes; }

  crypto::SectorCipher sectors_;
  std::optional<crypto::LuksHeader> luks_;
  std::string password_;
};

}  // namespace atl::block::qcow2
