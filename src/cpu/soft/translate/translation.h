// From guest bytes to host code: what the translator is asked and what it answers. A pure function of its input: no Core, no
// guest memory, no locks. The runtime (code_cache.h) places the result, applies its fixups and runs it.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "cpu/cpuid.h"
#include "cpu/soft/decode/decoder.h"
#include "cpu/soft/exec/op.h"
#include "cpu/soft/translate/abi.h"

namespace atl::soft::translate {

/// What the host has beyond x86-64 and SSE2.
struct HostFeatures {
  bool bmi2 = false, avx = false;
  static HostFeatures detect();
};

/// So many bytes of the next page can belong to an instruction.
inline constexpr size_t kTail = 14;

/// A set of offsets in a page.
struct OffsetSet {
  std::array<u64, kPageSize / 64> words{};
  bool test(u16 offset) const { return words[offset / 64] >> offset % 64 & 1; }
};

/// A region: code of one guest page, reached from `entry` by direct branches.
struct Request {
  std::span<const u8> page;          // the page's bytes, a copy that nobody changes: 4,096, or kTail more if the page behind it
                                     //   in the linear address space is known. An instruction that reaches there is translated
                                     //   too; it looks each time whether those bytes are still mapped and the same
  GuestAddr gpa = 0;                 // of the page
  u16 entry = 0;                     // offset in the page
  Mode mode = 0;
  const OffsetSet* seen = nullptr;  // offsets where the interpreter has started blocks: code outside is probably cold. Or none
};

/// A place in host code, as offset from the region's start.
using HostOffset = u32;

/// What the runtime must know about one call of a thunk, or about one instruction that may trap (DIV, aligned SSE, unmasked
/// SIMD exceptions). Sorted by `at`. Wherever a thunk goes to `resume`, the guest's flags are both in the host's and in
/// Core::cc; at `retry` nobody looks at the host's.
struct Site {
  HostOffset at = 0;          // the call's return address; of a trapping instruction its own address
  HostOffset retry = 0;       // misses: where the check starts; `traps`: where the signal handler continues with all other
                              //   registers and the flags as they are: code there puts the flags in order, calls CallOut
  HostOffset resume = 0;      // behind the guest instruction; 0: never, go to where RIP points
  u16 offset = 0;             // of the guest instruction in its page
  u16 op = 0;                 // CallOut: index into Draft::ops
  bool host_flags = false;    // the guest's flags are in the host's at `at`; else they are in Core::cc
  u8 vectors = kNoVectors;    // which vectors code behind `resume` and `retry` takes to be live
  bool traps = false;         // a trapping instruction, not a call
};

/// A jump or call rel32 to a thunk: the field's offset.
struct ThunkFixup {
  HostOffset at = 0;
  Thunk thunk = Thunk::Lookup;
};

/// A jump rel32 inside the guest page but out of the region. It leads to its own stub (which goes through Thunk::Lookup) until
/// the runtime makes it lead to the near entry of a region that has the target; and back, when that goes.
struct Link {
  HostOffset at = 0;       // of the rel32 field, which does not cross a 4-byte boundary
  HostOffset stub = 0;
  u16 target = 0;          // offset in the guest page
};

/// A block that may be entered from outside.
struct Entry {
  u16 offset = 0;          // in the guest page
  HostOffset far = 0;      // RBP = linear RIP: sets Core::page_rip, goes on as near
  HostOffset near = 0;     // Core::page_rip is right; flags in Core::cc
};

struct Draft {
  std::vector<u8> code;
  std::vector<Site> sites;
  std::vector<ThunkFixup> fixups;
  std::vector<Link> links;
  std::vector<Entry> entries;      // sorted by offset
  std::vector<Op> ops;             // of CallOut sites: pairs, the op and an end that only sets RIP and returns
  u32 guest_instructions = 0;
};

class Translator {
 public:
  Translator(const CpuidTable& cpuid, HostFeatures host);
  /// Any thread, one at a time. An error means that the entry cannot be translated (it straddles the page's end, say).
  Result<Draft> translate(const Request& request) const;

 private:
  Decoder decoder_;
  FeatureSet features_;
  HostFeatures host_;
};

}  // namespace atl::soft::translate
