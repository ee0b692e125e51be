#include "cpu/soft/translate/runtime.h"

#include "cpu/soft/direct/tier.h"
#include "cpu/soft/exec/address.h"
#include "cpu/soft/exec/block_cache.h"
#include "cpu/soft/exec/run.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/events.h"
#include "cpu/soft/translate/jump_cache.h"
#include "cpu/soft/translate/mode.h"
#include "cpu/soft/translate/signals.h"
#include "cpu/soft/translate/thunks.h"

namespace atl::soft::translate {
namespace {

/// No block has this mode, so that the handler of a branch does not run on into one.
constexpr ModeKey kNoBlocks = 0xff;

bool hits(Core& core, u64 linear, Access access) { return fast_host(core, linear, 1, access) != nullptr; }

/// Lets the MMU enter the page. Whatever fault that meets is met again by who runs the instruction.
bool fill(Core& core, u64 linear, Access access) {
  if (core.code_size == CodeSize::k64 && !is_canonical(linear)) return false;
  bool allowed = access == Access::Write ? probe_write(core, linear, 1) : probe_read(core, linear, 1);
  core.fault_pending = false;
  return allowed && hits(core, linear, access);
}

/// Memory of the page behind core.rip's if code there has been run lately, else nullptr.
const u8* next_page(Core& core) {
  const u64 linear = (core.rip & ~(kPageSize - 1)) + kPageSize;
  const FetchEntry& entry = core.tlb.fetch_at(core.user(), linear);
  return entry.tag == linear ? entry.host : nullptr;
}

bool undisturbed(const Core& core) {
  return core.attention.load(std::memory_order_relaxed) == 0 && core.mp_state == MpState::Runnable && core.debug_hits == 0;
}

}  // namespace

Runtime::Runtime(Core& core, CodeCache& cache) : core_(core), cache_(cache) {
  core.host_avx = HostFeatures::detect().avx;
}

/// What is remembered of the cache is forgotten when it changed.
void Runtime::sync() {
  u64 now = cache_.changes();
  if (now == changes_) [[likely]] return;
  changes_ = now;
  ++stats_.changes;
  flush_jumps(core_, false);
  places_.fill({});
  for (Single& single : singles_) single.site = nullptr;
}

bool Runtime::run() {
  if (core_.translate_mode == kNoMode || !undisturbed(core_) || !core_.debugger.points.empty() || !cache_.enter(core_)) return false;
  const void* code = go_on();
  if (code) {
    allow_traps();
    ++stats_.entries;
    atl_translate_enter(&core_, code, core_.rip);
  }
  CodeCache::leave(core_);
  return code != nullptr;
}

CodeCache::Outcome Runtime::translate(u32 version) {
  FetchPage page;
  if (core_.translate_mode == kNoMode || !fetch_page(core_, core_.rip, page) || !page.host || !cache_.covers(page.gpa)) {
    core_.fault_pending = false;
    return CodeCache::Outcome::Refused;
  }
  return cache_.translate(page.gpa | (core_.rip & (kPageSize - 1)), core_.translate_mode, version, page.host, next_page(core_));
}

// -- finding -----------------------------------------------------------------------------------------------------------------

const void* Runtime::find_code(u64 rip) {
  const Mode mode = core_.translate_mode;
  const JumpEntry& entry = jump_entry(core_, mode, rip);
  if (entry.rip == rip) return entry.code;
  FetchPage page;
  if (!fetch_page(core_, rip, page)) {
    core_.fault_pending = false;  // the interpreter meets it again and reports it
    return nullptr;
  }
  const void* code = page.host ? cache_.find(page.gpa | (rip & (kPageSize - 1)), mode) : nullptr;
  if (code) add_jump(core_, mode, rip, code, core_.tlb.fetch_at(core_.user(), rip).frame & FrameBits::kGlobal);
  else ++stats_.lookup_failures;
  return code;
}

/// To the translation for core.rip.
const void* Runtime::go_on() {
  core_.want_vectors = 0;
  if (!undisturbed(core_) || core_.translate_mode == kNoMode) return nullptr;
  if (core_.direct && core_.direct->takes(core_.rip)) return nullptr;
  sync();
  set_up_jumps(core_, core_.translate_mode);
  const void* code = find_code(core_.rip);
  core_.go_rip = core_.rip;
  core_.vectors_allowed = vectors_allowed(core_);
  return code;
}

/// Behind or before the site's instruction in its region.
const void* Runtime::resume(const Place& place, HostOffset where) {
  core_.vectors_allowed = vectors_allowed(core_);
  core_.want_vectors = place.site->vectors;
  if (core_.want_vectors > core_.vectors_allowed) return go_on();
  return place.region->code + where;
}

const void* Runtime::lookup(u64 rip) {
  ++stats_.lookups;
  core_.rip = rip;
  return go_on();
}

Runtime::Place Runtime::place_of(const u8* at) {
  const u64 key = reinterpret_cast<u64>(at);
  CachedPlace& cached = places_[(key ^ key >> 10) % kPlaces];
  if (cached.key == key) [[likely]] return cached.place;
  const Region* region = cache_.region_at(at);
  CHECK(region);
  const Site* site = region->site_at(static_cast<HostOffset>(at - region->code), false);
  CHECK(site);  // the translator lists every call of a thunk
  cached = {key, {region, site}};
  return cached.place;
}

// -- memory ------------------------------------------------------------------------------------------------------------------

void Runtime::take_flags(const Place& place) {
  if (place.site->host_flags) core_.cc = core_.host_cc;
}

/// A tag that is there already was not enough: the access crosses the page's end.
const void* Runtime::miss(const u8* at, u64 linear, bool write) {
  ++stats_.misses;
  Place place = place_of(at);
  take_flags(place);
  const Access access = write ? Access::Write : Access::Read;
  if (!hits(core_, linear, access) && fill(core_, linear, access)) {
    ++stats_.fills;
    return resume(place, place.site->retry);
  }
  return run_single(place);
}

/// The site's instruction, decoded. The page has the version that the region was made from. nullptr after a fault.
const Op* Runtime::single_at(const Place& place) {
  Single& single = singles_[(reinterpret_cast<u64>(place.site) / sizeof(Site)) % kSingles];
  if (single.site == place.site) return single.ops.data();
  const CodeBlock* block = core_.blocks->find_single();
  if (!block) return nullptr;
  single.ops = {block->ops[0], block->ops[1]};
  const bool straddles = place.site->offset + block->length > kPageSize;  // what is in the next page may change
  single.site = straddles ? nullptr : place.site;
  return single.ops.data();
}

const void* Runtime::run_single(const Place& place) {
  ++stats_.singles;
  core_.rip = core_.page_rip + place.site->offset;
  const bool stale = core_.vm->code.version(place.region->page) != place.region->version;
  if (stale) return go_on();  // and from there to the interpreter
  const Op* op = single_at(place);
  if (!op) return deliver();
  core_.block_rip = core_.rip;
  return run_op(op, place);
}

/// The op came with the region; its offsets count from the page's start.
const void* Runtime::callout(const u8* at) {
  ++stats_.callouts;
  Place place = place_of(at);
  take_flags(place);
  core_.block_rip = core_.page_rip;
  return run_op(&place.region->ops[place.site->op], place);
}

const void* Runtime::single(const u8* at) {
  Place place = place_of(at);
  take_flags(place);
  return run_single(place);
}

/// Vector instructions fault at present: the interpreter runs the one at hand.
const void* Runtime::refuse_vectors(const u8* at) {
  ++stats_.vectors_refused;
  return single(at);
}

const void* Runtime::run_op(const Op* op, const Place& place) {
  core_.leave_block = false;
  core_.block_mode = kNoBlocks;
  const u64 behind = core_.block_rip + op->offset + op->length;
  op->run(core_, op);
  return after(place, behind);
}

const void* Runtime::after(const Place& place, u64 expected_rip) {
  if (core_.fault_pending) [[unlikely]] return deliver();
  if (core_.leave_block || core_.rip != expected_rip || core_.translate_mode != place.region->mode || !place.site->resume ||
      !undisturbed(core_))
    return go_on();
  return resume(place, place.site->resume);
}

/// To the handler of the exception that the instruction at core.rip raised.
const void* Runtime::deliver() {
  ++stats_.exceptions;
  if (!deliver_exception(core_)) {
    core_.shutdown = true;
    return nullptr;
  }
  return go_on();
}

void Runtime::add_counters(cpu::Counters& out) const {
  auto add = [&](const char* name, const u64& counter) {
    out.emplace_back(name, std::atomic_ref(const_cast<u64&>(counter)).load(std::memory_order_relaxed));
  };
  add("translated_entries", stats_.entries);
  add("translated_lookups", stats_.lookups);
  add("translated_lookup_failures", stats_.lookup_failures);
  add("translated_tlb_misses", stats_.misses);
  add("translated_tlb_fills", stats_.fills);
  add("translated_singles", stats_.singles);
  add("translated_callouts", stats_.callouts);
  add("translated_vectors_refused", stats_.vectors_refused);
  add("translated_exceptions", stats_.exceptions);
  add("translated_changes", stats_.changes);
}

// -- thunks' side ------------------------------------------------------------------------------------------------------------

extern "C" {

[[gnu::used, gnu::visibility("hidden")]] const void* atl_translate_lookup(Core* core, u64 rip) { return core->translation->lookup(rip); }
[[gnu::used, gnu::visibility("hidden")]] const void* atl_translate_miss_read(Core* core, const u8* at, u64 linear) {
  return core->translation->miss(at, linear, false);
}
[[gnu::used, gnu::visibility("hidden")]] const void* atl_translate_miss_write(Core* core, const u8* at, u64 linear) {
  return core->translation->miss(at, linear, true);
}
[[gnu::used, gnu::visibility("hidden")]] const void* atl_translate_callout(Core* core, const u8* at) { return core->translation->callout(at); }
[[gnu::used, gnu::visibility("hidden")]] const void* atl_translate_single(Core* core, const u8* at) { return core->translation->single(at); }
[[gnu::used, gnu::visibility("hidden")]] const void* atl_translate_refuse_vectors(Core* core, const u8* at) {
  return core->translation->refuse_vectors(at);
}

}  // extern "C"

std::unique_ptr<Runtime> attach_runtime(Core& core, CodeCache& cache) {
  cache.set_cpuid(*core.cpuid);
  auto runtime = std::make_unique<Runtime>(core, cache);
  core.translation = runtime.get();
  return runtime;
}

namespace {

/// The version of the page at core.rip once no vCPU has a write tag for it, which one vCPU alone settles at once.
bool translate_here(Core& core) {
  CodeBlock* block = core.blocks->find();
  if (!block || !block->settled()) {
    core.fault_pending = false;
    return false;
  }
  return core.translation->translate(block->version) == CodeCache::Outcome::Ready;
}

}  // namespace

bool run_translated(Core& core, u64 limit) {
  CodeCache& cache = core.translation->cache();
  for (; limit > 0; --limit) {
    FetchPage page;
    if (fetch_page(core, core.rip, page) && cache.forbidden(page.gpa)) return true;
    core.fault_pending = false;
    core.attention.fetch_and(~u32{kAttendCode}, std::memory_order_relaxed);
    bool ran = core.translation->run() || (translate_here(core) && core.translation->run());
    if (!ran && !step_one(core)) return false;
    if (core.shutdown) return core.shutdown = false;
  }
  return false;
}

}  // namespace atl::soft::translate
