#include "cpu/soft/translate/emitter.h"

#include <algorithm>
#include <utility>

#include "cpu/soft/translate/core_layout.h"

namespace atl::soft::translate {
namespace {

/// States of one block beyond these are brought to the one that takes nothing for granted.
constexpr size_t kMaxVersions = 4;
/// With so much code there are no more versions.
constexpr HostOffset kLargeCode = 48 * 1024;

}  // namespace

Emitter::Emitter(const Request& request, const SourceRegion& region, HostFeatures host)
    : request_(request), region_(region), host_(host),
      long_code_(static_cast<CodeSize>(request.mode & 3) == CodeSize::k64),
      tlb_set_(request.mode >> kModeSetShift & 3), versions_of_(region.blocks.size()), plain_versions_of_(region.blocks.size()), windows_(region.blocks.size()) {}

Draft Emitter::run() {
  for (u16 b = 0; b < region_.blocks.size(); ++b)
    if (region_.blocks[b].enterable) new_version({.block = b});
  next_version_ = versions_of_[region_.block_at(request_.entry)].front();
  size_t done = 0;
  while (next_version_ != kNoVersion || !pending_.empty() || done < asides_.size()) {
    emit_versions();
    // Emitting may add to either list, and control may fall from what stands aside into a version.
    for (; done < asides_.size(); ++done) {
      emit_aside(Aside(asides_[done]));
      if (next_version_ != kNoVersion) emit_versions();
    }
  }
  emit_entries();
  finish();
  return std::move(draft_);
}

void Emitter::emit_versions() {
  while (next_version_ != kNoVersion || !pending_.empty()) {
    const bool falls_in = next_version_ != kNoVersion;
    if (!falls_in) {
      next_version_ = pending_.back();
      pending_.pop_back();
    }
    size_t version = std::exchange(next_version_, kNoVersion);
    if (versions_[version].emitted) continue;
    if (!falls_in || a_.here() == 0) begin_entry(versions_[version]);
    emit_block(version);
  }
}

// -- versions ----------------------------------------------------------------------------------------------------------------

/// `state` without what the block has no use for.
State Emitter::wanted_state(u16 block, State state) const {
  const Block& b = region_.blocks[block];
  state.vectors = std::min(state.vectors, region_.vectors);
  if (b.live_in == 0) return {.vectors = state.vectors};
  if (b.read_in) return state;
  if (state.memory) state.host = false, state.recipe = {};
  if (state.recipe) state.host = false;
  return state;
}

size_t Emitter::new_version(const Version& version) {
  versions_.push_back(version);
  versions_.back().label = a_.new_label();
  pending_.push_back(versions_.size() - 1);
  (version.plain ? plain_versions_of_ : versions_of_)[version.block].push_back(versions_.size() - 1);
  return versions_.size() - 1;
}

size_t Emitter::plain_version(u16 block, u16 first, const State& state) {
  for (size_t v : plain_versions_of_[block])
    if (versions_[v].first == first && versions_[v].state == state) return v;
  return new_version({.block = block, .first = first, .plain = true, .state = state});
}

/// kNoVersion: the state must become the plain one first.
size_t Emitter::find_version(u16 block, const State& state) {
  State wanted = wanted_state(block, state);
  const auto& known = versions_of_[block];
  size_t best = kNoVersion;
  for (size_t v : known) {
    if (versions_[v].state == wanted) return v;
    if (wanted.provides(versions_[v].state)) best = v;
  }
  if (best != kNoVersion) return best;
  bool plain = wanted == State{};
  bool crowded = known.size() >= kMaxVersions || a_.here() > kLargeCode;
  return crowded && !plain ? kNoVersion : new_version({.block = block, .state = wanted});
}

/// Whether the runtime may look at the flags before the instruction: not for accesses in a window that was checked before.
bool Emitter::observes(const Insn& insn, unsigned index) const {
  if (versions_[version_].plain || insn.traps || !insn.observes()) return insn.observes();
  const bool on_stack = insn.kind == Kind::Push || insn.kind == Kind::PushFlags || insn.kind == Kind::Pop || insn.kind == Kind::Leave;
  if (insn.kind != Kind::Copy && !on_stack) return true;
  const Windows& w = *windows_[versions_[version_].block];
  auto fails = [&](const Access& access, bool used) {
    return used && (access.window == kNoWindow || w.windows[access.window].first == index);
  };
  const InsnAccesses& a = w.accesses[index];
  return fails(a.operand, insn.mem.present) || fails(a.stack, on_stack);
}

void Emitter::find_live(const Block& block) {
  live_[block.count] = block.live_out;
  for (unsigned i = block.count; i-- > 0;) {
    const Insn& insn = region_.insn(block, i);
    const auto after = static_cast<u16>(live_[i + 1] | live_at_exit(region_, insn));
    live_[i] = observes(insn, i) ? kArithmetic : static_cast<u16>((after & ~insn.flags_killed) | insn.flags_read);
  }
}

void Emitter::emit_block(size_t version) {
  version_ = version;
  const u16 number = versions_[version].block;
  const Block& block = region_.blocks[number];
  versions_[version].emitted = true;
  s_ = versions_[version].state;
  a_.bind(versions_[version].label);
  if (!windows_[number]) windows_[number] = find_windows(region_, block, long_code_);
  in_scratch_ = kNoWindow;
  find_live(block);
  poll_due_ = region_.insn(block, block.count - 1u).loops();
  stale_ = block.live_in == 0 && versions_[version].first == 0;
  for (index_ = versions_[version].first; index_ < block.count; ++index_) {
    if (versions_[version].plain && index_ > versions_[version].first && join_plain(number)) return;
    emit_insn(region_.insn(block, index_), live_[index_ + 1]);
  }
  if (!region_.insn(block, block.count - 1u).terminal()) fall_through(block);
}

/// In a plain version: goes on in another one that begins here, if there is one for the state. Its first instruction has a check, so
/// that the host's flags are lost in any case.
bool Emitter::join_plain(u16 block) {
  const auto begins_here = [&](size_t v) { return versions_[v].first == index_; };
  if (std::ranges::none_of(plain_versions_of_[block], begins_here)) return false;
  before_clobber();
  for (size_t v : plain_versions_of_[block]) {
    if (!begins_here(v) || !s_.provides(versions_[v].state)) continue;
    if (versions_[v].emitted) a_.jump(versions_[v].label);
    else next_version_ = v;
    return true;
  }
  return false;
}

void Emitter::emit_insn(const Insn& insn, u16 live_after) {
  insn_ = &insn;
  resume_ = a_.new_label();
  resumes_here_ = false;
  if (poll_due_) poll_early(insn);
  if (insn.straddles()) guard_tail(insn);
  switch (insn.kind) {
    case Kind::CallOut: emit_call_out(insn); break;
    case Kind::Copy:
    case Kind::Vector: emit_copy(insn, live_after); break;
    case Kind::Nop: break;
    case Kind::Lea: settle_recipe(insn, live_after, false); emit_lea(insn); break;
    case Kind::Push: emit_push(insn, live_after); break;
    case Kind::Pop: emit_pop(insn, live_after); break;
    case Kind::Leave: emit_leave(insn, live_after); break;
    case Kind::Jmp: transfer(insn.target, insn.target <= insn.offset); break;
    case Kind::Jcc: emit_jcc(insn); break;
    case Kind::Loop: settle_recipe(insn, live_after, false); emit_loop(insn); break;
    case Kind::CountZero: emit_count_zero(insn); break;
    case Kind::Call: emit_call(insn); break;
    case Kind::Ret: emit_ret(insn); break;
    case Kind::JmpIndirect:
    case Kind::CallIndirect: emit_indirect(insn); break;
    case Kind::Cli: emit_cli(); break;
    case Kind::Sti: emit_sti(insn); break;
    case Kind::AccessFlag: emit_access_flag(insn); break;
    case Kind::SwapGs: emit_swapgs(); break;
    case Kind::PushFlags: emit_push_flags(insn); break;
    case Kind::SystemCall: emit_system_call(insn); break;
    case Kind::SystemReturn: emit_system_return(); break;
    case Kind::ReadSegment: settle_recipe(insn, live_after, false); emit_read_segment(insn); break;
    case Kind::ReadTsc: settle_recipe(insn, live_after, true); emit_read_tsc(insn); break;
    case Kind::ReadBase:
    case Kind::WriteBase: settle_recipe(insn, live_after, true); emit_base(insn); break;
    case Kind::BitString: settle_recipe(insn, live_after, true); emit_bit_string(insn, live_after); break;
  }
  if (!a_.bound(resume_)) a_.bind(resume_);
  if (resumes_here_) take_scratch();
}

// -- what stands aside ---------------------------------------------------------------------------------------------------------

Label Emitter::aside(Aside what) {
  what.label = a_.new_label();
  what.poll = poll_due_;
  resumes_here_ |= what.resumes;
  asides_.push_back(what);
  return what.label;
}

void Emitter::emit_aside(const Aside& what) {
  a_.bind(what.label);
  s_ = what.state;
  insn_ = what.insn;
  switch (what.kind) {
    case Aside::Kind::Miss: return emit_miss(what);
    case Aside::Kind::Plain: return a_.jump(versions_[plain_version(what.block, what.index, s_)].label);
    case Aside::Kind::Trap: return emit_trap(what);
    case Aside::Kind::LoadVectors: return emit_load_vectors(what);
    case Aside::Kind::Interpret: return emit_interpret(what);
    case Aside::Kind::Single: return emit_single(*what.insn);
    case Aside::Kind::Indirect: return emit_elsewhere(what);
    case Aside::Kind::Branch: poll_due_ = what.poll; return transfer(what.target, what.target <= insn_->offset);
    case Aside::Kind::Leave:
      ensure_memory();
      target_rip(what.target);
      return jump_thunk(Thunk::Lookup);
  }
}

/// The XOR of the check is undone by another.
void Emitter::emit_miss(const Aside& what) {
  a_.alu(AluOp::Xor, 8, kScratch0, Place::of(HostMemory{kHostRsp, kScratch1, 0, layout::tlb_tag(tlb_set_, what.write)}));
  if (!s_.memory) ensure_host();
  bool host_flags = !s_.memory;
  call_thunk(what.write ? Thunk::MissWrite : Thunk::MissRead);
  add_site({.at = a_.here(), .retry = what.retry, .offset = insn_->offset, .host_flags = host_flags, .vectors = s_.vectors},
           what.resume, what.resumes);
}

void Emitter::emit_trap(const Aside& what) {
  add_site({.at = what.retry, .retry = a_.here(), .offset = insn_->offset, .vectors = s_.vectors, .traps = true}, 0, false);
  ensure_memory();
  call_thunk(Thunk::CallOut);
  add_site({.at = a_.here(), .offset = insn_->offset, .op = what.op, .vectors = s_.vectors}, what.resume, true);
}

void Emitter::emit_load_vectors(const Aside& what) {
  if (!s_.memory) ensure_host();
  bool host_flags = !s_.memory;
  call_thunk(s_.vectors == kWideVectors ? Thunk::LoadWide : Thunk::LoadVectors);
  add_site({.at = a_.here(), .offset = insn_->offset, .host_flags = host_flags, .vectors = s_.vectors}, what.resume, true);
  a_.jump(what.back);
}

/// The interpreter decodes and runs the instruction, and goes on where RIP then points.
void Emitter::emit_single(const Insn& insn) {
  ensure_memory();
  call_thunk(Thunk::Single);
  add_site({.at = a_.here(), .offset = insn.offset, .vectors = s_.vectors}, 0, false);
}

void Emitter::add_site(const Site& site, Label resume, bool resumes) {
  draft_.sites.push_back(site);
  if (resumes) resumes_.emplace_back(draft_.sites.size() - 1, resume);
}

void Emitter::call_thunk(Thunk thunk) { draft_.fixups.push_back({a_.call_field(), thunk}); }
void Emitter::jump_thunk(Thunk thunk) { draft_.fixups.push_back({a_.jump_field(), thunk}); }

/// Where control from outside comes in, right before the version's code, into which it falls.
void Emitter::begin_entry(Version& version) {
  if (!version.is_entry()) return;
  version.far = a_.here();
  a_.alu_imm(AluOp::And, 8, Place::of(kScratch0), -static_cast<i32>(kPageSize));
  a_.store(8, core(layout::kPageRip), kScratch0);
}

/// Of versions into which something else falls.
void Emitter::emit_entries() {
  for (Version& v : versions_) {
    if (!v.is_entry()) continue;
    if (!v.far) {
      begin_entry(v);
      a_.jump(v.label);
    }
    draft_.entries.push_back({region_.blocks[v.block].start, *v.far, a_.position(v.label)});
  }
  std::ranges::sort(draft_.entries, {}, &Entry::offset);
}

void Emitter::finish() {
  for (auto [site, label] : resumes_) draft_.sites[site].resume = a_.position(label);
  std::ranges::sort(draft_.sites, {}, &Site::at);
  draft_.code = a_.finish();
  draft_.guest_instructions = static_cast<u32>(region_.insns.size());
}

// -- guest registers -----------------------------------------------------------------------------------------------------------

Place Emitter::guest_place(u8 guest) {
  return in_memory(guest) ? Place::of(core(layout::gpr(guest))) : Place::of(kHostOf[guest]);
}

void Emitter::load_guest(u8 host, u8 guest) {
  if (in_memory(guest)) a_.load(8, host, core(layout::gpr(guest)));
  else if (kHostOf[guest] != host) a_.move(8, host, kHostOf[guest]);
}

void Emitter::store_guest(u8 guest, u8 host) {
  if (in_memory(guest)) a_.store(8, core(layout::gpr(guest)), host);
  else if (kHostOf[guest] != host) a_.move(8, kHostOf[guest], host);
}

u8 Emitter::guest_in(u8 guest, u8 scratch) {
  if (!in_memory(guest)) return kHostOf[guest];
  load_guest(scratch, guest);
  return scratch;
}

}  // namespace atl::soft::translate
