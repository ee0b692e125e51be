// Translations by hand, for tests of what surrounds them.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "base/endian.h"
#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/translate/code_cache.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace atl::soft::translate {

inline constexpr Mode kKernel64 = static_cast<Mode>(CodeSize::k64);
inline constexpr SoftOptions kByHand{.translation = Translation::Always, .cache_bytes = SoftOptions::kMinCacheBytes};

/// Host code that stands for the guest page at TestMachine::kCode (or another); one entry to begin with.
class TestDraft {
 public:
  explicit TestDraft(u16 offset = 0) {
    draft_.entries.push_back({.offset = offset});
    raw({0x48, 0x89, 0xac, 0x24});  // mov [rsp + page_rip], rbp
    word(offsetof(Core, page_rip));
    if (offset) {
      raw({0x48, 0x81, 0xac, 0x24});  // sub qword [rsp + page_rip], offset
      word(offsetof(Core, page_rip));
      word(offset);
    }
    draft_.entries[0].near = here();
  }
  TestDraft& raw(std::initializer_list<u8> bytes) {
    draft_.code.insert(draft_.code.end(), bytes);
    return *this;
  }
  TestDraft& call(Thunk thunk, Site site) {
    raw({0xe8});
    thunk_field(thunk);
    site.at = here();
    if (site.resume == kNext) site.resume = here();
    draft_.sites.push_back(site);
    return *this;
  }
  static constexpr HostOffset kNext = ~HostOffset{0};
  TestDraft& trapping(Site site) {
    site.at = here();
    site.traps = true;
    draft_.sites.push_back(site);
    return *this;
  }
  /// To the guest address at `offset` of the page, by Thunk::Lookup.
  TestDraft& leave(u32 offset) {
    raw({0x48, 0x8b, 0xac, 0x24});  // mov rbp, [rsp + page_rip]
    word(offsetof(Core, page_rip));
    raw({0x48, 0x81, 0xc5});        // add rbp, offset
    word(offset);
    raw({0xe9});
    thunk_field(Thunk::Lookup);
    return *this;
  }
  /// A link to `target`, whose stub follows.
  TestDraft& link(u16 target) {
    while (here() % 4 != 3) raw({0x90});
    raw({0xe9, 0, 0, 0, 0});
    draft_.links.push_back({.at = here() - 4, .stub = here(), .target = target});
    return leave(target);
  }
  /// The instruction at `offset` of the page as an op of a site.
  TestDraft& op(TestMachine& m, GuestAddr page, u16 offset) {
    m.core().rip = page + offset;
    const CodeBlock* block = m.core().blocks->find_single();
    for (int i : {0, 1}) {
      draft_.ops.push_back(block->ops[i]);
      draft_.ops.back().offset += offset;
    }
    return *this;
  }
  HostOffset here() const { return static_cast<HostOffset>(draft_.code.size()); }
  Draft take() { return std::move(draft_); }

 private:
  void word(u64 value) {
    for (int i = 0; i < 4; ++i) draft_.code.push_back(static_cast<u8>(value >> 8 * i));
  }
  void thunk_field(Thunk thunk) {
    draft_.fixups.push_back({here(), thunk});
    word(0);
  }

  Draft draft_;
};

/// Marks the page and enters the draft for its version.
inline CodeCache::Outcome add(TestMachine& m, GuestAddr page, TestDraft& draft, u16 offset = 0) {
  m.vm().code.mark(page);
  return m.runtime().cache().add(page + offset, kKernel64, m.vm().code.version(page), draft.take());
}

}  // namespace atl::soft::translate

#pragma GCC diagnostic pop
