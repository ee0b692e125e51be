// The functions behind the thunks: what translated code asks for, one object a vCPU. Own thread, but for the counters.
//
// They run on the stack below the core, with the guest's registers in Core::gpr, cc and ext. What they return is where
// translated code goes on; nullptr means out of it, with everything in the core as the interpreter wants it.
#pragma once

#include <array>
#include <memory>

#include "cpu/soft/exec/op.h"
#include "cpu/soft/translate/code_cache.h"

namespace atl::soft::translate {

class Runtime {
 public:
  Runtime(Core& core, CodeCache& cache);

  /// Runs translated code for core.rip until something else must be done: attention, a pending debug event, no translation.
  /// False if there is none to begin with.
  bool run();

  /// Translates the code at core.rip in the current mode, if `version` is its settled page's.
  CodeCache::Outcome translate(u32 version);

  CodeCache& cache() { return cache_; }

  const void* lookup(u64 rip);
  const void* miss(const u8* at, u64 linear, bool write);
  const void* callout(const u8* at);
  const void* single(const u8* at);
  const void* refuse_vectors(const u8* at);

  struct Stats {
    u64 entries = 0, lookups = 0, lookup_failures = 0, misses = 0, fills = 0, singles = 0, callouts = 0, vectors_refused = 0, exceptions = 0,
        changes = 0;
  };
  const Stats& stats() const { return stats_; }
  /// Any thread.
  void add_counters(cpu::Counters& out) const;

 private:
  struct Place {
    const Region* region = nullptr;
    const Site* site = nullptr;
  };
  struct CachedPlace {
    u64 key = 0;
    Place place;
  };
  /// One instruction, decoded; `key` is the place of its site.
  struct Single {
    const Site* site = nullptr;
    std::array<Op, 2> ops;
  };
  static constexpr unsigned kPlaces = 1024, kSingles = 256;

  Place place_of(const u8* at);
  const void* find_code(u64 rip);
  const void* go_on();
  const void* resume(const Place& place, HostOffset where);
  const void* run_single(const Place& place);
  const Op* single_at(const Place& place);
  const void* run_op(const Op* op, const Place& place);
  const void* after(const Place& place, u64 expected_rip);
  const void* deliver();
  void take_flags(const Place& place);
  void sync();

  Core& core_;
  CodeCache& cache_;
  u64 changes_ = 0;
  Stats stats_;
  std::array<CachedPlace, kPlaces> places_;
  std::array<Single, kSingles> singles_;
};

/// Gives the core its runtime; before the first run. The VM has a code cache.
std::unique_ptr<Runtime> attach_runtime(Core& core, CodeCache& cache);

/// For tests that compare: runs with every instruction translated (those that cannot be: interpreted) until RIP is in a page for
/// which CodeCache::set_forbidden() was called, or until `limit` entries into translated code and single steps were made. The
/// cache's option is Translation::Always. Exceptions are delivered to the guest's handlers. False: limit or triple fault.
bool run_translated(Core& core, u64 limit);

}  // namespace atl::soft::translate
