// The translator: any page, any entry, any mode. What comes out decodes and holds only what translated code may do.
#include "cpu/soft/translate/host_code_check.h"
#include "cpu/soft/translate/translation.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::soft::translate;

const Translator& translator() {
  static const Translator instance(cpu::host_cpuid(), HostFeatures::detect());
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  if (size < 4) return 0;
  std::vector<u8> page(kPageSize, 0x90);
  std::copy_n(data + 4, std::min<size_t>(size - 4, kPageSize), page.begin());
  auto entry = static_cast<u16>((data[0] | data[1] << 8) % kPageSize);
  auto code = data[2] & 1 ? atl::soft::CodeSize::k64 : atl::soft::CodeSize::k32;
  auto mode = static_cast<Mode>(static_cast<u8>(code) | (data[2] >> 1 & 3) << kModeSetShift | (data[2] & 8 ? kModeFlatFsGs : 0));
  auto draft = translator().translate({.page = page, .gpa = 0x1000, .entry = entry, .mode = mode});
  if (draft) CHECK(find_forbidden(draft->code).empty());
  return 0;
}
