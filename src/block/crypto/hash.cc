#include "block/crypto/hash.h"

#include <fmt/format.h>
#include <nettle/hmac.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha2.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>

namespace atl::block::crypto {
namespace {

constexpr size_t kMaxContext = 256;
static_assert(sizeof(sha512_ctx) <= kMaxContext, "the largest of those below");
constexpr u32 kMinIterations = 1000;
constexpr u32 kMaxIterations = 0xffff'ffff;

const nettle_hash* const kHashes[] = {&nettle_sha1,   &nettle_sha224, &nettle_sha256,
                                      &nettle_sha384, &nettle_sha512, &nettle_ripemd160};

/// An HMAC over any of the hashes, as nettle's generic functions want it.
struct Hmac {
  const nettle_hash* hash;
  alignas(16) u8 outer[kMaxContext];
  alignas(16) u8 inner[kMaxContext];
  alignas(16) u8 state[kMaxContext];

  Hmac(const nettle_hash& h, std::span<const u8> key) : hash(&h) {
    hmac_set_key(outer, inner, state, hash, key.size(), key.data());
  }
  ~Hmac() { ::explicit_bzero(this, sizeof *this); }
  Hmac(const Hmac&) = delete;
  Hmac& operator=(const Hmac&) = delete;

  static void update(void* self, size_t size, const u8* data) {
    auto* mac = static_cast<Hmac*>(self);
    hmac_update(mac->state, mac->hash, size, data);
  }
  static void finish(void* self, size_t size, u8* out) {
    auto* mac = static_cast<Hmac*>(self);
    hmac_digest(mac->outer, mac->inner, mac->state, mac->hash, size, out);
  }
};

u64 thread_cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

u64 time_of(const nettle_hash& hash, u64 key_bytes, u32 iterations) {
  const u8 salt[32] = {};
  u64 start = thread_cpu_ns();
  derive_key(hash, {salt, 8}, salt, iterations, key_bytes);
  return thread_cpu_ns() - start;
}

}  // namespace

Result<const nettle_hash*> find_hash(std::string_view name) {
  for (const nettle_hash* hash : kHashes)
    if (name == hash->name) return hash;
  return Error(ErrorKind::Unsupported, fmt::format("hash algorithm '{}' is not supported", name), ENOTSUP);
}

u64 digest_bytes(const nettle_hash& hash) { return hash.digest_size; }

KeyBytes digest(const nettle_hash& hash, std::span<const u8> first, std::span<const u8> second) {
  alignas(16) u8 context[kMaxContext];
  KeyBytes out(hash.digest_size);
  hash.init(context);
  hash.update(context, first.size(), first.data());
  hash.update(context, second.size(), second.data());
  hash.digest(context, out.size(), out.data());
  ::explicit_bzero(context, sizeof context);
  return out;
}

KeyBytes derive_key(const nettle_hash& hash, std::span<const u8> password, std::span<const u8> salt, u32 iterations,
                    u64 key_bytes) {
  Hmac mac(hash, password);
  KeyBytes key(key_bytes);
  nettle_pbkdf2(&mac, Hmac::update, Hmac::finish, hash.digest_size, std::max(iterations, 1u), salt.size(), salt.data(),
                key.size(), key.data());
  return key;
}

u32 iterations_for(const nettle_hash& hash, u64 key_bytes, u64 milliseconds) {
  u32 tried = kMinIterations;
  u64 ns = time_of(hash, key_bytes, tried);
  while (ns < 50'000'000 && tried < kMaxIterations / 4) {
    tried *= 4;
    ns = time_of(hash, key_bytes, tried);
  }
  u128 wanted = u128{tried} * std::min<u64>(milliseconds, 1 << 22) * 1'000'000 / ns;
  return static_cast<u32>(std::clamp<u128>(wanted, kMinIterations, kMaxIterations));
}

Status fill_random(std::span<u8> out) {
  while (!out.empty()) {
    ssize_t n = ::getrandom(out.data(), std::min<size_t>(out.size(), 256), 0);
    if (n < 0 && errno != EINTR) return os_error("get random bytes");
    if (n > 0) out = out.subspan(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace atl::block::crypto
