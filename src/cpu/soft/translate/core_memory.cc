#include "cpu/soft/translate/core_memory.h"

#include <sys/mman.h>

#include <new>

#include "base/check.h"
#include "base/mapping.h"

namespace atl::soft {
namespace {

constexpr u64 kBelow = kPageSize + kTranslationStackBytes;
constexpr u64 kTotal = kBelow + (sizeof(Core) + kPageSize - 1) / kPageSize * kPageSize;

}  // namespace

CorePtr allocate_core() {
  void* base = ::mmap(nullptr, kTotal, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(base != MAP_FAILED);
  CHECK(::mprotect(base, kPageSize, PROT_NONE) == 0);
  // Default-initialized: members without an initializer keep the zeros of the mapping.
  return CorePtr(new (static_cast<u8*>(base) + kBelow) Core);
}

void FreeCore::operator()(Core* core) const {
  core->~Core();
  ::munmap(reinterpret_cast<u8*>(core) - kBelow, kTotal);
}

}  // namespace atl::soft
