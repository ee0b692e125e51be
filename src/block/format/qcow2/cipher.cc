#include "block/format/qcow2/cipher.h"

#include <algorithm>
#include <functional>

#include "base/task_group.h"
#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kPieceBytes = 64 * kKiB;   // that one thread works on; less is done at once, here
constexpr u64 kAesKeyBytes = 16;

}  // namespace

Result<Cipher> Cipher::create_aes(std::string_view password) {
  crypto::KeyBytes key(kAesKeyBytes);
  std::copy_n(password.begin(), std::min<size_t>(password.size(), kAesKeyBytes), key.begin());
  crypto::CipherSpec spec{"aes-128", crypto::Chaining::Cbc, crypto::IvKind::Plain64, ""};
  Cipher cipher(TRY(crypto::SectorCipher::create(spec, key)));
  return cipher;
}

Result<Cipher> Cipher::create_luks(crypto::LuksHeader header, std::span<const u8> key, std::string password) {
  Cipher cipher(TRY(crypto::SectorCipher::create(header.cipher, key)));
  cipher.luks_ = std::move(header);
  cipher.password_ = std::move(password);
  return cipher;
}

/// One call of `work(offset)` on a worker thread.
static Task<Status> offload(Core& core, WorkerPool& pool, std::function<void()> work) {
  co_await pool.run(core.loop, std::move(work));
  co_return Status{};
}

template <class F>
Task<Status> Cipher::in_pieces(Core& core, std::span<u8> bytes, F work) {
  if (bytes.size() <= kPieceBytes) {
    work(u64{0}, bytes);
    co_return Status{};
  }
  WorkerPool* pool = CO_TRY(core.workers());
  TaskGroup group(2 * pool->threads());
  for (u64 at = 0; at < bytes.size(); at += kPieceBytes) {
    std::span<u8> piece = bytes.subspan(at, std::min<u64>(kPieceBytes, bytes.size() - at));
    (void)co_await group.room();
    std::function<void()> job = [&work, at, piece] { work(at, piece); };
    group.add(offload(core, *pool, std::move(job)));
  }
  co_return co_await group.all();
}

Task<Status> Cipher::decrypt(Core& core, Where where, std::span<u8> bytes) {
  const u64 first = first_sector(where);
  auto work = [this, first](u64 at, std::span<u8> piece) {
    sectors_.decrypt(first + at / crypto::SectorCipher::kSectorBytes, piece, piece.data());
  };
  co_return co_await in_pieces(core, bytes, work);
}

Task<Status> Cipher::encrypt(Core& core, Where where, std::span<u8> bytes) {
  const u64 first = first_sector(where);
  auto work = [this, first](u64 at, std::span<u8> piece) {
    sectors_.encrypt(first + at / crypto::SectorCipher::kSectorBytes, piece, piece.data());
  };
  co_return co_await in_pieces(core, bytes, work);
}

}  // namespace atl::block::qcow2
