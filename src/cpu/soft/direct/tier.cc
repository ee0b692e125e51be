#include "cpu/soft/direct/tier.h"

#include <signal.h>

#include "base/clock.h"
#include "cpu/soft/direct/confine.h"
#include "cpu/soft/direct/registers.h"
#include "cpu/soft/direct/scan.h"
#include "cpu/soft/exec/run.h"
#include "cpu/soft/mmu/walk.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/translate/jump_cache.h"

namespace atl::soft::direct {
namespace {

constexpr u64 kPageMask = ~(kPageSize - 1);
constexpr u64 kNoPage = ~u64{0};

/// Whether a helper can map the block's pages one by one.
bool shares_pages(const memory::RamBlock& block) { return block.fd().valid() && block.is_shared() && block.page_bytes() == kPageSize; }

bool reserved(u64 linear) { return linear >= kStub && linear < kReservedEnd; }

Access access_of(u64 error) { return error & kPfI ? Access::Fetch : error & kPfW ? Access::Write : Access::Read; }

u8 needed(Access access) { return access == Access::Fetch ? kExecute : access == Access::Write ? kWrite : kRead; }

}  // namespace

Result<std::unique_ptr<Tier>> Tier::create(Core& core) {
  auto helper = TRY(Helper::create());
  return std::unique_ptr<Tier>(new Tier(core, std::move(helper)));
}

Tier::Tier(Core& core, std::unique_ptr<Helper> helper) : core_(core), helper_(std::move(helper)), policy_(1'000'000) {}

// -- when --------------------------------------------------------------------------------------------------------------------

void Tier::arm() {
  const bool wanted = helper_->alive() && (always_ || policy_.promoted(root()));
  if (wanted && !armed_) translate::flush_jumps(core_, false);  // so that returns to user code come by here
  armed_ = wanted;
}

void Tier::sample() {
  if (!helper_->alive() || always_) return;
  if (!core_.user()) return policy_.sampled_kernel(root());
  if (policy_.sampled(root(), monotonic_ns()) && !armed_) {
    ++stats_.promotions;
    arm();
  }
  if (armed_ && reserved_pages_used()) {
    policy_.demote(root(), monotonic_ns());
    arm();
  }
}

/// A program that has something where the stub is cannot be run.
bool Tier::reserved_pages_used() {
  for (u64 linear = kStub; linear < kReservedEnd; linear += kPageSize) {
    PageMapping page;
    u32 error = 0;
    if (walk(core_, core_.tlb.physical, &core_.tlb.walks, linear, {.set = kUserSet, .probe = true}, page, error)) return true;
  }
  return false;
}

void Tier::count_exit(u64& counter) {
  ++counter;
  if (!always_ && !policy_.handed_over(root(), monotonic_ns())) note_demotion();
}

void Tier::note_demotion() {
  ++stats_.demotions;
  arm();
}

void Tier::disable() {
  armed_ = always_ = false;
}

// -- the TLB's doings ----------------------------------------------------------------------------------------------------------

void Tier::space_switched(bool keep) {
  left_page_ = kNoPage;
  if (!keep) drop_space(current_space(core_));
  arm();
}

void Tier::drop_space(u16 space) {
  if (space != space_) return;
  ++stats_.drops;
  mirror_.drop_all();
}

void Tier::drop_page(u16 space, u64 linear) {
  if (space != space_) return;
  mirror_.drop(linear);
}

// -- running -----------------------------------------------------------------------------------------------------------------

bool Tier::run_armed() {
  if (core_.cpl != 3 || core_.rip >> 12 == left_page_) return false;
  left_page_ = kNoPage;
  declined_ = !helper_->alive() || !fits(core_);
  if (declined_) return false;
  if (space_ != current_space(core_)) {
    space_ = current_space(core_);
    mirror_.drop_all();
  }
  sync_memory_map(core_);
  if (retry_.rip == core_.rip) map_page(retry_.linear, retry_.access);  // the guest has seen to its page fault
  retry_.rip = kNoPage;
  core_.fault_pending = false;
  while (enter() == Next::Again) {
  }
  return true;
}

Tier::Next Tier::enter() {
  if (mirror_.size() > Mirror::kMostPages) mirror_.drop_all();
  export_registers(core_, helper_->exchange());
  const auto& orders = mirror_.take_orders();
  running_.store(true, std::memory_order_seq_cst);
  // Who sets bits from here on sees that we run, and kicks.
  if (core_.attention.load(std::memory_order_seq_cst) != 0) {
    running_.store(false, std::memory_order_seq_cst);
    return Next::Leave;
  }
  ++stats_.entries;
  const Helper::Exit exit = helper_->run(orders);
  running_.store(false, std::memory_order_seq_cst);
  mirror_.confirm(exit.orders_done);
  if (!exit.alive) {
    disable();
    return Next::Leave;
  }
  SignalFrame frame;
  if (!find_frame(helper_->exchange(), exit.context, frame)) return Next::Again;
  import_registers(core_, helper_->exchange(), frame);
  return stopped(frame);
}

Tier::Next Tier::stopped(const SignalFrame& frame) {
  if (frame.signal == kKickSignal) {
    ++stats_.kicks;
    return Next::Again;  // and out, if it still has a reason
  }
  if (frame.signal == SIGSEGV && frame.trap == kPFault) return page_fault(frame);
  adjust_rip(frame);
  count_exit(frame.signal == SIGSYS ? stats_.system_calls : stats_.others);
  return interpret(frame);
}

/// To the instruction that was stopped at, if the processor reports it behind.
void Tier::adjust_rip(const SignalFrame& frame) {
  constexpr u64 kVsyscall = 0xffffffffff600000;
  if (frame.signal == SIGSYS && (frame.call_address & kPageMask) == kVsyscall) {
    core_.rip = frame.call_address;  // the host has taken the return address off the stack
    core_.gpr[kRsp] -= 8;
  } else if (frame.signal == SIGSYS) {
    core_.rip -= 2;  // SYSCALL, INT 0x80
  } else if (frame.signal == SIGTRAP && frame.trap == kBP) {
    u8 last = 0;
    const bool readable = read_mem(core_, core_.rip - 1, last);
    core_.fault_pending = false;
    core_.rip -= readable && last != 0xcc ? 2 : 1;  // INT 3 has two forms
  } else if (frame.signal == SIGTRAP && frame.trap == kDB && !(core_.other_flags & kTF)) {
    core_.rip -= 1;  // INT1
  }
}

/// The core's own way of running the instruction: it raises the guest's exception, or does what the host may not.
Tier::Next Tier::interpret(const SignalFrame& frame) {
  if (frame.signal == SIGTRAP && frame.trap == kDB && (core_.other_flags & kTF)) {
    core_.debug_hits |= kDr6Bs;
    return Next::Leave;
  }
  if (!step_one(core_)) core_.shutdown = true;
  return core_.cpl == 3 && !core_.shutdown && core_.mp_state == MpState::Runnable && armed_ && fits(core_) ? Next::Again : Next::Leave;
}

// -- pages -------------------------------------------------------------------------------------------------------------------

Tier::Next Tier::page_fault(const SignalFrame& frame) {
  const u64 linear = frame.cr2;
  const Access access = access_of(frame.error);
  ++stats_.faults;
  if (!always_ && !policy_.missed_page(root(), monotonic_ns())) note_demotion();
  const bool odd = linear >= kUserEnd || reserved(linear) || (frame.error & (kPfPk | kPfRsvd)) || (mirror_.rights(linear) & needed(access));
  // A page cannot be executed and written at once: who writes to the page it runs in would never get on.
  const bool own_code = access == Access::Write && (linear - (core_.rip & kPageMask)) < 2 * kPageSize && (mirror_.rights(linear) & kExecute);
  if (odd || own_code) return interpret(frame);
  if (map_page(linear, access)) return armed_ ? Next::Again : Next::Leave;
  if (core_.fault_pending) {  // the guest's own
    retry_ = {core_.rip, linear, access};
    return Next::Leave;
  }
  if (access != Access::Fetch) return interpret(frame);
  count_exit(stats_.refused_pages);
  if (linear >> 12 != core_.rip >> 12) return interpret(frame);  // an instruction that reaches into the page
  left_page_ = linear >> 12;
  return Next::Leave;
}

/// False with fault_pending: the guest's tables do not allow it. False without: the core has to do it itself.
bool Tier::map_page(u64 linear, Access access) {
  PageMapping page;
  if (!translate_user_page(core_, linear, access, page)) return false;
  const auto backing = backing_of(page.gpa & kPageMask);
  if (!backing || page.global) return false;
  const u8 rights = rights_of(linear, page, access);
  if (!(rights & needed(access))) return false;
  ++stats_.maps;
  map_with_neighbours(linear & kPageMask, *backing, rights, page.page_shift, access);
  return true;
}

/// What a page that the guest may access so is mapped with.
u8 Tier::rights_of(u64 linear, const PageMapping& page, Access access) {
  const GuestAddr gpa = page.gpa & kPageMask;
  const PhysicalMemory::Window* window = core_.tlb.physical.find(gpa, kPageSize);
  if (!window) return 0;
  const bool executed = access == Access::Fetch || (mirror_.rights(linear) & kExecute);
  const bool writable = page.dirty && !window->readonly && access_allowed(core_, page, kUserSet, Access::Write) &&
                        !core_.vm->code.holds_code(gpa);
  if (access == Access::Write) return writable ? kRead | kWrite : 0;
  if (!executed) return writable ? kRead | kWrite : kRead;
  const bool runs = access_allowed(core_, page, kUserSet, Access::Fetch) && verdicts_.fit({window->host + (gpa - window->base), kPageSize});
  return runs ? kRead | kExecute : kRead;
}

/// With those beside it that one order can map too.
void Tier::map_with_neighbours(u64 linear, const Backing& backing, u8 rights, u8 page_shift, Access access) {
  const u64 kMost = access == Access::Fetch ? 7 : 15;
  auto fits_at = [&](u64 at, i64 distance) {
    PageMapping page;
    if (at >= kUserEnd || reserved(at) || mirror_.rights(at) || !present(at, access, page)) return false;
    const auto other = backing_of(page.gpa & kPageMask);
    return other && !page.global && page.page_shift == page_shift && other->file == backing.file &&
           static_cast<i64>(other->offset - backing.offset) == distance * static_cast<i64>(kPageSize) && rights_of(at, page, access) == rights;
  };
  u64 before = 0, behind = 0;
  while (before < kMost && fits_at(linear - (before + 1) * kPageSize, -static_cast<i64>(before + 1))) ++before;
  while (behind < kMost && fits_at(linear + (behind + 1) * kPageSize, static_cast<i64>(behind + 1))) ++behind;
  for (u64 i = 0; i <= before + behind; ++i) {
    Backing at = backing;
    at.offset += (i - before) * kPageSize;
    at.gpa += (i - before) * kPageSize;
    mirror_.map(linear + (i - before) * kPageSize, at, rights, page_shift);
  }
}

/// Without a fault, whoever's it would be.
bool Tier::present(u64 linear, Access access, PageMapping& page) {
  const Access mild = access == Access::Write ? Access::Read : access;  // not to make pages dirty that nobody writes
  if (core_.tlb.second.find(current_space(core_), linear, page)) return access_allowed(core_, page, kUserSet, mild);
  u32 error = 0;
  return walk(core_, core_.tlb.physical, &core_.tlb.walks, linear, {.set = kUserSet, .access = mild}, page, error);
}

std::optional<Backing> Tier::backing_of(GuestAddr gpa) {
  if (!map_ || map_generation_ != core_.tlb.map_generation) {
    map_ = core_.vm->memory->map();
    map_generation_ = core_.tlb.map_generation;
  }
  const memory::AddressMap::Slot* slot = map_->find(gpa);
  if (!slot || !slot->region->ram || slot->size - (gpa - slot->base) < kPageSize) return std::nullopt;
  const memory::Region& region = *slot->region;
  const int file = file_of(region.ram);
  if (file < 0) return std::nullopt;
  return Backing{file, region.ram_offset + slot->region_offset + (gpa - slot->base), gpa};
}

/// The helper's descriptor of the block, -1 if it cannot share it.
int Tier::file_of(const std::shared_ptr<memory::RamBlock>& block) {
  auto [at, is_new] = files_.try_emplace(block, -1);
  if (is_new && shares_pages(*block)) {
    if (auto its = helper_->give(block->fd())) at->second = *its;
  }
  return at->second;
}

void Tier::add_counters(cpu::Counters& out) const {
  auto add = [&](const char* name, const u64& counter) {
    out.emplace_back(name, std::atomic_ref(const_cast<u64&>(counter)).load(std::memory_order_relaxed));
  };
  add("direct_entries", stats_.entries);
  add("direct_faults", stats_.faults);
  add("direct_maps", stats_.maps);
  add("direct_system_calls", stats_.system_calls);
  add("direct_kicks", stats_.kicks);
  add("direct_refused_pages", stats_.refused_pages);
  add("direct_other_exits", stats_.others);
  add("direct_promotions", stats_.promotions);
  add("direct_demotions", stats_.demotions);
  add("direct_drops", stats_.drops);
}

}  // namespace atl::soft::direct
