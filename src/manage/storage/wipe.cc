#include "manage/storage/wipe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <vector>

#include "base/fd.h"

namespace atl::manage {
namespace {

constexpr size_t kChunkBytes = 3 << 18;  // divides by three: patterns of three bytes go on across chunks

constexpr WipePass byte(u8 b) { return {WipePass::Pattern, {b, b, b}}; }
constexpr WipePass three(u8 a, u8 b, u8 c) { return {WipePass::Pattern, {a, b, c}}; }
constexpr WipePass kRandom{WipePass::Random, {}}, kVerify{WipePass::Verify, {}};

constexpr WipePass kZero[] = {byte(0)};
constexpr WipePass kNnsa[] = {kRandom, kRandom, byte(0), kVerify};
constexpr WipePass kDod[] = {kRandom, byte(0), byte(0xff), kVerify};
constexpr WipePass kBsi[] = {byte(0xff), byte(0xfe), byte(0xfd), byte(0xfb), byte(0xf7),
                             byte(0xef), byte(0xdf), byte(0xbf), byte(0x7f)};
// P. Gutmann, Secure Deletion of Data from Magnetic and Solid-State Memory, 1996, table 1.
constexpr WipePass kGutmann[] = {kRandom,
                                 kRandom,
                                 kRandom,
                                 kRandom,
                                 byte(0x55),
                                 byte(0xaa),
                                 three(0x92, 0x49, 0x24),
                                 three(0x49, 0x24, 0x92),
                                 three(0x24, 0x92, 0x49),
                                 byte(0x00),
                                 byte(0x11),
                                 byte(0x22),
                                 byte(0x33),
                                 byte(0x44),
                                 byte(0x55),
                                 byte(0x66),
                                 byte(0x77),
                                 byte(0x88),
                                 byte(0x99),
                                 byte(0xaa),
                                 byte(0xbb),
                                 byte(0xcc),
                                 byte(0xdd),
                                 byte(0xee),
                                 byte(0xff),
                                 three(0x92, 0x49, 0x24),
                                 three(0x49, 0x24, 0x92),
                                 three(0x24, 0x92, 0x49),
                                 three(0x6d, 0xb6, 0xdb),
                                 three(0xb6, 0xdb, 0x6d),
                                 three(0xdb, 0x6d, 0xb6),
                                 kRandom,
                                 kRandom,
                                 kRandom,
                                 kRandom};
constexpr WipePass kSchneier[] = {byte(0), byte(0xff), kRandom, kRandom, kRandom, kRandom, kRandom};
constexpr WipePass kNoise[33] = {kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom,
                                 kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom,
                                 kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom, kRandom,
                                 kRandom, kRandom, kRandom, kRandom, kRandom, kRandom};

Status fill(std::span<u8> chunk, const WipePass& pass) {
  if (pass.kind == WipePass::Pattern) {
    for (size_t i = 0; i < chunk.size(); ++i) chunk[i] = pass.bytes[i % 3];
    return {};
  }
  while (!chunk.empty()) {
    ssize_t count = ::getrandom(chunk.data(), chunk.size(), 0);
    if (count < 0 && errno != EINTR) return os_error("getrandom");
    if (count > 0) chunk = chunk.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status overwrite(const std::string& path, u64 size, const WipePass& pass, std::vector<u8>& chunk) {
  Fd file = TRY(open_file(path, O_WRONLY));
  if (pass.kind == WipePass::Pattern) TRY(fill(chunk, pass));
  for (u64 left = size; left > 0;) {
    std::span<u8> part = std::span(chunk).first(static_cast<size_t>(std::min<u64>(left, chunk.size())));
    if (pass.kind == WipePass::Random) TRY(fill(part, pass));
    TRY(write_all(file, part));
    left -= part.size();
  }
  if (::fsync(file.get()) < 0) return os_error("flush " + path);
  return {};
}

/// Whether a pattern of an earlier pass is there.
Status verify(const std::string& path, u64 size, const WipePass& last, std::vector<u8>& chunk) {
  Fd file = TRY(open_file(path, O_RDONLY));
  (void)::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  std::vector<u8> expected(chunk.size());
  TRY(fill(expected, last));
  for (u64 at = 0; at < size;) {
    std::span<u8> part = std::span(chunk).first(static_cast<size_t>(std::min<u64>(size - at, chunk.size())));
    TRY(read_exact_at(file, part, at));
    if (!std::equal(part.begin(), part.end(), expected.begin()))
      return Error(Code::OperationFailed, fmt::format("'{}' does not read as what it was wiped with", path),
                   Part::Storage);
    at += part.size();
  }
  return {};
}

}  // namespace

Result<std::span<const WipePass>> wipe_passes(u32 algorithm) {
  const std::span<const WipePass> kAlgorithms[] = {
      kZero, kNnsa, kDod, kBsi, kGutmann, kSchneier, std::span(kNoise).first(7), kNoise, std::span(kNoise).first(1)};
  constexpr u32 kTrim = 9;
  if (algorithm == kTrim) return Error(Code::ArgumentUnsupported, "'trim' algorithm not supported", Part::Storage);
  if (algorithm >= std::size(kAlgorithms))
    return Error(Code::InvalidArg, fmt::format("wiping algorithm {} not supported", algorithm), Part::Storage);
  return kAlgorithms[algorithm];
}

Status wipe(const std::string& path, u64 size_bytes, std::span<const WipePass> passes) {
  std::vector<u8> chunk(kChunkBytes);
  WipePass last;
  for (const WipePass& pass : passes) {
    if (pass.kind == WipePass::Verify)
      TRY(verify(path, size_bytes, last, chunk));
    else
      TRY(overwrite(path, size_bytes, pass, chunk));
    last = pass;
  }
  return {};
}

}  // namespace atl::manage
