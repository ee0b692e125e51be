// The firmware flash chip's registers: each 4 bytes are a write of a byte at an offset, or a read; then the rest of the input is
// restored as its state.
#include "base/endian.h"
#include "devices/legacy/pflash.h"

namespace {

using namespace atl;
using namespace atl::devices;

constexpr u64 kBase = 0xff000000, kBytes = 64 * kKiB;
constexpr size_t kStepBytes = 4, kMaxSteps = 4096;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  memory::AddressSpace memory("memory", u64{1} << 40);
  auto ram = MUST(memory::RamBlock::create("flash", kBytes, {}));
  auto flash = MUST(Pflash::create(memory, {.name = "flash", .base = kBase, .ram = ram, .secure = (size & 1) != 0}));
  memory::BusView view(memory, size & 2 ? memory::View::Smm : memory::View::Normal);
  size_t steps = 0;
  for (; size >= kStepBytes && steps < kMaxSteps; data += kStepBytes, size -= kStepBytes, ++steps) {
    const u64 at = kBase + load_le<u16>(data);
    if (data[2] & 1) view.write(at, data[3], 1);
    else (void)view.read(at, 1u << (data[2] >> 1 & 3));
  }
  Archive archive(std::span(data, size));
  flash->visit(archive);
  return 0;
}
