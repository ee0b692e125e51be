#include "cpu/soft/translate/region.h"

#include <algorithm>
#include <bitset>

namespace atl::soft::translate {
namespace {

constexpr u16 kNoInsn = 0xffff;

/// The end of a pair in Draft::ops.
const Op* stop_after(Core& core, const Op* end) {
  core.rip = core.block_rip + end->offset;
  return nullptr;
}

bool in_page(i32 offset) { return offset >= 0 && offset < static_cast<i32>(kPageSize); }

class Explorer {
 public:
  Explorer(const Request& request, const CodeKind& kind, SourceRegion& region) : request_(request), kind_(kind), region_(region) {
    insn_at_.fill(kNoInsn);
    region_.block_of_.fill(kNoBlock);
  }

  Status run() {
    add_leader(request_.entry);
    enterable_.set(request_.entry);
    for (size_t i = 0; i < pending_.size(); ++i) follow(pending_[i]);
    u16 first = insn_at_[request_.entry];
    if (first == kNoInsn) return Error(ErrorKind::Unsupported, "the instruction leaves its page");
    form_blocks();
    return {};
  }

 private:
  /// Whether code at `offset` has been run, as far as anybody knows.
  bool likely(u16 offset) const { return !request_.seen || request_.seen->test(offset); }
  bool room() const { return region_.insns.size() < kMaxInsns && starts_.size() < kMaxBlocks; }

  void add_leader(u16 offset) {
    if (leaders_.test(offset) || !room()) return;
    start_block(offset);
    pending_.push_back(offset);
  }

  void start_block(u16 offset) {
    if (!leaders_.test(offset)) starts_.push_back(offset);
    leaders_.set(offset);
  }

  /// Decodes from `offset` to the next branch or to where somebody was already.
  void follow(u16 offset) {
    while (offset < kPageSize && insn_at_[offset] == kNoInsn) {
      if (region_.insns.size() >= kMaxInsns || !decode(offset)) return;
      const Insn& insn = region_.insns.back();
      note_branch(insn);
      if (insn.terminal()) return;
      u16 next = insn.end();
      if (insn.side_exit() && next < kPageSize && likely(next)) {
        offset = next;
        continue;
      }
      if (insn.conditional() || insn.kind == Kind::CallOut) {
        if (next < kPageSize && (insn.kind == Kind::CallOut || likely(next))) add_leader(next);
        return;
      }
      offset = next;
    }
    if (offset < kPageSize) start_block(offset);
  }

  void note_branch(const Insn& insn) {
    if (insn.kind == Kind::Call && in_page(insn.target) && likely(static_cast<u16>(insn.target))) {
      add_leader(static_cast<u16>(insn.target));
      enterable_.set(static_cast<u16>(insn.target));
    }
    bool returns = insn.kind == Kind::Call || insn.kind == Kind::CallIndirect || insn.kind == Kind::SystemCall;
    if (returns && insn.end() < kPageSize && likely(insn.end())) {
      add_leader(insn.end());
      enterable_.set(insn.end());
    }
    if (!insn.branches() || !in_page(insn.target)) return;
    auto target = static_cast<u16>(insn.target);
    if (likely(target)) add_leader(target);
    if (target <= insn.offset) enterable_.set(target);
  }

  bool decode(u16 offset) {
    Insn insn;
    bool ours = kind_.insns.decode(request_.page.subspan(offset), offset, insn);
    if ((!ours || insn.needs_op()) && !decode_op(offset, insn, ours)) return false;
    insn_at_[offset] = static_cast<u16>(region_.insns.size());
    region_.vectors = std::max(region_.vectors, insn.vectors());
    region_.insns.push_back(insn);
    return true;
  }

  /// For the interpreter. `as_well`: in rare cases; else it runs there always.
  bool decode_op(u16 offset, Insn& insn, bool as_well) {
    Op op;
    DecodePlace place{.block_gpa = request_.gpa, .offset = offset};
    Decoded outcome = kind_.ops.decode(request_.page.subspan(offset), kind_.mode, place, op);
    if (outcome == Decoded::Truncated) return false;
    if (!as_well) {
      insn = {};
      insn.offset = offset;
      insn.length = op.length;
      insn.ends = outcome == Decoded::Ends;
    }
    insn.op = static_cast<u16>(region_.ops.size());
    Op end;
    end.run = stop_after;
    end.offset = static_cast<u16>(offset + op.length);
    region_.ops.push_back(op);
    region_.ops.push_back(end);
    return true;
  }

  void form_blocks() {
    std::ranges::sort(starts_);
    for (u16 offset : starts_)
      if (insn_at_[offset] != kNoInsn) form_block(offset);
    for (Block& block : region_.blocks) connect(block);
  }

  void form_block(u16 start) {
    Block block;
    block.start = start;
    block.first = static_cast<u16>(region_.order.size());
    block.enterable = enterable_.test(start);
    u16 offset = start;
    for (;;) {
      const Insn& insn = region_.insns[insn_at_[offset]];
      region_.order.push_back(insn_at_[offset]);
      offset = insn.end();
      bool ends = insn.terminal() || (insn.conditional() && !insn.side_exit());
      if (ends || offset >= kPageSize || leaders_.test(offset) || insn_at_[offset] == kNoInsn) break;
    }
    block.end = offset;
    block.count = static_cast<u16>(region_.order.size() - block.first);
    region_.block_of_[start] = static_cast<u16>(region_.blocks.size());
    region_.blocks.push_back(block);
  }

  void connect(Block& block) {
    const Insn& last = region_.insn(block, block.count - 1u);
    if (!last.terminal()) {
      block.next = block.end < kPageSize ? region_.block_of_[block.end] : kNoBlock;
      block.falls_out = block.next == kNoBlock;
    }
    if (last.branches() && in_page(last.target)) block.taken = region_.block_of_[static_cast<u16>(last.target)];
  }

  const Request& request_;
  const CodeKind& kind_;
  SourceRegion& region_;
  std::array<u16, kPageSize> insn_at_;
  std::bitset<kPageSize> leaders_, enterable_;
  std::vector<u16> starts_, pending_;   // `leaders_` in a list; those not followed yet
};

struct Liveness {
  u16 observed = 0, read = 0;
};

/// Where a side exit leads.
Liveness at_exit(const SourceRegion& region, const Insn& insn) {
  const u16 block = in_page(insn.target) ? region.block_at(static_cast<u16>(insn.target)) : kNoBlock;
  if (block == kNoBlock) return {kArithmetic, kArithmetic};
  return {region.blocks[block].live_in, region.blocks[block].read_in};
}

u16 read_before(const Insn& insn, u16 live) { return static_cast<u16>((live & ~insn.flags_killed) | insn.flags_read); }

/// At the block's end. A jump backwards may leave for the runtime, which looks at all flags, as may what leads outside.
Liveness live_out(const SourceRegion& region, const Block& block) {
  const Insn& last = region.insn(block, block.count - 1u);
  Liveness out;
  auto join = [&](u16 successor) {
    out.observed |= region.blocks[successor].live_in;
    out.read |= region.blocks[successor].read_in;
  };
  bool leaves = block.falls_out || last.terminal() || last.branches();
  bool forward = last.branches() && block.taken != kNoBlock && last.target > last.offset;
  if (forward && !block.falls_out) leaves = false;
  if (leaves) out.observed = kArithmetic;
  if (block.falls_out || (last.terminal() && block.taken == kNoBlock)) out.read = kArithmetic;
  if (last.conditional() && block.taken == kNoBlock) out.read = kArithmetic;
  if (block.next != kNoBlock) join(block.next);
  if (block.taken != kNoBlock) join(block.taken);
  return out;
}

}  // namespace

u16 live_before(const Insn& insn, u16 live) {
  return insn.observes() ? kArithmetic : static_cast<u16>((live & ~insn.flags_killed) | insn.flags_read);
}

u16 live_at_exit(const SourceRegion& region, const Insn& insn) { return insn.side_exit() ? at_exit(region, insn).observed : u16{0}; }

Result<SourceRegion> explore(const Request& request, const CodeKind& kind) {
  SourceRegion region;
  TRY(Explorer(request, kind, region).run());
  return region;
}

void find_live_flags(SourceRegion& region) {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t b = region.blocks.size(); b-- > 0;) {
      Block& block = region.blocks[b];
      Liveness live = live_out(region, block);
      block.live_out = live.observed;
      for (unsigned i = block.count; i-- > 0;) {
        const Insn& insn = region.insn(block, i);
        if (insn.side_exit()) {
          const Liveness exit = at_exit(region, insn);
          live.observed |= exit.observed;
          live.read |= exit.read;
        }
        live.observed = live_before(insn, live.observed);
        live.read = read_before(insn, live.read);
      }
      changed |= live.observed != block.live_in || live.read != block.read_in;
      block.live_in = live.observed;
      block.read_in = live.read;
    }
  }
}

}  // namespace atl::soft::translate
