#include "cpu/soft/differential/values.h"

#include <bit>

#include "base/endian.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/native/supported.h"

namespace atl::soft::differential {
namespace {

constexpr u64 kIntegers[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
                             0x8000000000000000, 0xffffffffffffffff, 0x0101010101010101, 0xaaaaaaaaaaaaaaaa};
constexpr u64 kDoubles[] = {0x0000000000000000, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
                            0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 0xfff8000000000000, 0x0000000000000001,
                            0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x41dfffffffc00000, 0x43e0000000000000,
                            0x3fe0000000000000, 0x4008000000000000, 0x3810000000000000};
constexpr u32 kSingles[] = {0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0x00000001,
                            0x007fffff, 0x00800000, 0x7f7fffff, 0x4effffff, 0x4f000000, 0x3f000000, 0x40490fdb};

template <class T, size_t N>
T pick(Random& random, const T (&values)[N]) {
  return values[random.below(N)];
}

/// A random significand with an exponent near 1, so that sums and products neither vanish nor overflow.
u64 ordinary_double(Random& random) {
  return (random.next() & 0x800fffffffffffff) | (u64{1023 - 40} + random.below(80)) << 52;
}
u32 ordinary_single(Random& random) {
  return static_cast<u32>((random.next() & 0x807fffff) | (127 - 20 + random.below(40)) << 23);
}

void fill_st(Random& random, u8* out) {
  u64 significand = random.percent(70) ? random.next() | u64{1} << 63 : random_integer(random);
  u64 exponent = random.percent(70) ? 0x3fff - 60 + random.below(120) : random.percent(50) ? 0x7fff : random.below(3) * 0x3fff;
  store_le<u64>(out, significand);
  store_le<u16>(out + 8, static_cast<u16>(exponent | random.below(2) << 15));
}

void fill_x87(Random& random, u8* image_bytes) {
  u16 control = random.percent(60) ? 0x37f : static_cast<u16>(0x40 | (random.next() & 0x0f3f) | (random.percent(50) ? 0x3f : 0));
  auto status = static_cast<u16>(random.next() & 0x7f7f);
  if (random.percent(75)) status &= 0xff80;
  if (random.percent(90)) status &= static_cast<u16>(0xff80 | control);  // else an exception waits
  if (status & ~control & 0x3f) status |= 0x8080;
  constexpr u8 kTags[] = {0, 0xff, 0xff, 0x80, 0xc0};
  store_le(image_bytes + image::kFcw, control);
  store_le(image_bytes + image::kFsw, status);
  image_bytes[image::kFtw] = random.percent(70) ? pick(random, kTags) : random.byte();
  for (unsigned i = 0; i < 8; ++i) fill_st(random, image_bytes + image::kSt + 16 * i);
}

u32 random_mxcsr(Random& random) {
  if (random.percent(60)) return image::kMxcsrDefault;
  auto value = static_cast<u32>(random.next() & image::kMxcsrValid);
  return random.percent(60) ? value | image::kMxcsrMasks : value;
}

u64 random_opmask(Random& random) {
  switch (random.below(5)) {
    case 0: return 0;
    case 1: return ~u64{0};
    case 2: return random.next() >> random.below(64);
    case 3: return u64{1} << random.below(64);
    default: return random.next();
  }
}

void fill_wide(Random& random, u8* bytes) {
  for (unsigned i = 0; i < 8; ++i) store_le(bytes + image::kOpmask + 8 * i, random_opmask(random));
  fill_random(random, std::span(bytes + image::kZmmHigh, image::kEnd - image::kZmmHigh));
}

}  // namespace

u64 random_integer(Random& random) {
  u64 kind = random.below(4);
  if (kind == 0) return pick(random, kIntegers);
  if (kind == 1) return random.below(256);
  if (kind == 2) return random.next() >> random.below(64);
  return random.next();
}

u64 random_lanes(Random& random) {
  switch (random.below(6)) {
    case 0: return random_integer(random);
    case 1: return pick(random, kDoubles);
    case 2: return ordinary_double(random);
    case 3: return pick(random, kSingles) | u64{pick(random, kSingles)} << 32;
    case 4: return ordinary_single(random) | u64{ordinary_single(random)} << 32;
    default: return random.next();
  }
}

void fill_random(Random& random, std::span<u8> bytes) {
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) store_le(&bytes[i], random_lanes(random));
}

void fill_registers(Random& random, Registers& r) {
  for (u64& value : r.gpr) value = random_integer(random);
  constexpr u64 kFlags = cpu::kArithmeticFlags | cpu::kID;
  r.rflags = cpu::kIF | 2 | (random.next() & kFlags) | (random.percent(20) ? u64{cpu::kDF} : 0);
  u8* bytes = r.xsave.data();
  fill_x87(random, bytes);
  store_le(bytes + image::kMxcsr, random_mxcsr(random));
  fill_random(random, std::span(bytes + image::kXmm, 256));
  fill_random(random, std::span(bytes + image::kYmmHigh, 256));
  store_le<u64>(bytes + image::kHeader, host_has_avx512() ? 0xe7 : 7);
  if (host_has_avx512()) fill_wide(random, bytes);
}

}  // namespace atl::soft::differential
