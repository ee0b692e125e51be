#include "cpu/soft/translate/window.h"

#include <algorithm>
#include <optional>

#include "cpu/soft/translate/core_layout.h"

namespace atl::soft::translate {
namespace {

constexpr i64 kMaxSpan = 256, kMaxDisplacement = 1 << 20;

/// An unknown value plus a constant.
struct Value {
  u32 unknown = 0;
  i64 offset = 0;
};

/// Unknowns that an address is the sum of; with the same ones, addresses differ by a constant.
struct Root {
  u32 base = 0, index = 0;
  u8 scale = 0, segment = kNone;
  bool operator==(const Root&) const = default;
};

constexpr u32 kPage = 1;   // an unknown with a name: the page's linear address; 0 is zero itself

class Finder {
 public:
  Finder(const SourceRegion& region, const Block& block, bool long_code)
      : region_(region), block_(block), word_(long_code ? 8 : 4) {
    for (Value& value : registers_) value = fresh();
    found_.accesses.resize(block.count);
  }

  Windows run() {
    for (unsigned i = 0; i < block_.count; ++i) {
      const Insn& insn = region_.insn(block_, i);
      if (insn.side_exit()) ++stretch_;
      const bool changes_base = insn.kind == Kind::SwapGs || insn.kind == Kind::WriteBase;
      if (insn.kind == Kind::CallOut || changes_base) open_.clear();  // it may change the mapping or a base
      note_accesses(static_cast<u16>(i), insn);
      execute(insn);
    }
    keep_useful();
    return std::move(found_);
  }

 private:
  struct Open {
    Root root;
    u8 window;
    unsigned stretch;   // of its first access
  };

  Value fresh() { return {next_unknown_++, 0}; }

  // -- accesses -------------------------------------------------------------------------------------------------------------

  void note_accesses(u16 index, const Insn& insn) {
    InsnAccesses& accesses = found_.accesses[index];
    if (insn.mem.present && insn.kind != Kind::Lea && insn.kind != Kind::BitString && insn.mem.size != 0 && !insn.mem.narrow && near_zero(insn.mem.disp)) {
      Value at;
      Root root = root_of(insn.mem, at);
      accesses.operand = join(index, root, at.offset, insn.mem.size, insn.mem.write);
    }
    i64 word = word_;
    switch (insn.kind) {
      case Kind::Push: case Kind::PushFlags: case Kind::Call: case Kind::CallIndirect: accesses.stack = join_stack(index, kRsp, -word, true); break;
      case Kind::Pop: case Kind::Ret: accesses.stack = join_stack(index, kRsp, 0, false); break;
      case Kind::Leave: accesses.stack = join_stack(index, kRbp, 0, false); break;
      default: break;
    }
  }

  /// So that all sums fit a displacement.
  static bool near_zero(i64 value) { return value < 1 << 30 && value > -(1 << 30); }

  Root root_of(const MemoryOperand& m, Value& at) const {
    Root root{.segment = m.segment};
    at.offset = m.disp;
    if (m.rip) root.base = kPage;
    if (m.base != kNone) {
      root.base = registers_[m.base].unknown;
      at.offset += registers_[m.base].offset;
    }
    if (m.index != kNone) {
      root.index = registers_[m.index].unknown;
      root.scale = m.scale;
      at.offset += registers_[m.index].offset * (i64{1} << m.scale);
    }
    return root;
  }

  Access join_stack(u16 index, u8 reg, i64 disp, bool write) {
    return join(index, {.base = registers_[reg].unknown}, registers_[reg].offset + disp, word_, write);
  }

  Access join(u16 index, const Root& root, i64 offset, u8 size, bool write) {
    for (Open& open : open_) {
      if (open.root != root) continue;
      Window& w = found_.windows[open.window];
      // What is only read where control has come to may not be writable: a store behind an exit does not make the check ask for that.
      if (write && !w.write && open.stretch != stretch_) continue;
      i64 low = std::min(w.low, offset), high = std::max(w.high, offset + size);
      if (high - low > kMaxSpan) continue;
      w.low = low;
      w.high = high;
      w.write |= write;
      w.last = index;
      ++w.accesses;
      return {open.window, offset};
    }
    if (found_.windows.size() >= kNoWindow) return {};
    auto window = static_cast<u8>(found_.windows.size());
    found_.windows.push_back({.low = offset, .high = offset + size, .first = index, .last = index, .accesses = 1, .write = write});
    open_.push_back({root, window, stretch_});
    return {window, offset};
  }

  /// Windows with one access are none. The others share the slots: each has one up to its last access; who finds none goes without.
  void keep_useful() {
    std::vector<u8> renamed(found_.windows.size(), kNoWindow);
    std::vector<Window> kept;
    std::array<i32, layout::kWindowSlots> busy_until;
    busy_until.fill(-1);
    for (size_t i = 0; i < found_.windows.size(); ++i) {
      Window& w = found_.windows[i];
      auto slot = std::ranges::find_if(busy_until, [&](i32 last) { return last < w.first; });
      if (w.accesses < 2 || slot == busy_until.end()) continue;
      *slot = w.last;
      w.slot = static_cast<u8>(slot - busy_until.begin());
      renamed[i] = static_cast<u8>(kept.size());
      kept.push_back(w);
    }
    for (InsnAccesses& a : found_.accesses)
      for (Access* access : {&a.operand, &a.stack})
        if (access->window != kNoWindow) access->window = renamed[access->window];
    found_.windows = std::move(kept);
  }

  // -- what instructions do to registers --------------------------------------------------------------------------------------

  void execute(const Insn& insn) {
    Value stack = registers_[kRsp];
    std::optional<Value> result = known_result(insn);
    for (u8 r = 0; r < 16; ++r)
      if (insn.writes >> r & 1) registers_[r] = fresh();
    switch (insn.kind) {
      case Kind::Push: case Kind::PushFlags: registers_[kRsp] = moved(stack, -word_); break;
      case Kind::Pop:
        if (destination(insn) != kRsp) registers_[kRsp] = moved(stack, word_);
        break;
      default: break;
    }
    if (result) registers_[destination(insn)] = *result;
  }

  static u8 destination(const Insn& insn) {
    if (insn.kind == Kind::Leave) return kRsp;
    if (insn.kind == Kind::Lea) return insn.reg.reg;
    if (insn.code.used()) return insn.code.reg;
    if (insn.rm.used() && insn.rm.write) return insn.rm.reg;
    return insn.reg.reg;
  }

  static Value moved(Value value, i64 by) { return {value.unknown, value.offset + by}; }

  bool whole(const Field& field) const { return field.used() && field.size == word_; }

  /// What destination() holds afterwards, if that is a value seen before plus a constant.
  std::optional<Value> known_result(const Insn& insn) const {
    std::optional<Value> value;
    if (insn.kind == Kind::Leave) value = moved(registers_[kRbp], word_);
    else if (insn.kind == Kind::Lea) value = loaded_address(insn);
    else if (insn.kind == Kind::Copy && !insn.mem.present) value = copied(insn);
    if (value && (value->offset > kMaxDisplacement || value->offset < -kMaxDisplacement)) value.reset();
    return value;
  }

  std::optional<Value> loaded_address(const Insn& insn) const {
    const MemoryOperand& m = insn.mem;
    if (!whole(insn.reg) || m.base == kNone || m.index != kNone || m.narrow) return {};
    return moved(registers_[m.base], m.disp);
  }

  std::optional<Value> copied(const Insn& insn) const {
    u8 op = insn.enc.opcode;
    if (insn.enc.map != 0 || insn.enc.vex) return {};
    bool both = whole(insn.reg) && whole(insn.rm);
    if (op == 0x89 && both) return registers_[insn.reg.reg];
    if (op == 0x8b && both) return registers_[insn.rm.reg];
    if ((op == 0x81 || op == 0x83) && whole(insn.rm)) {
      i64 imm = insn.imm_size == 1 ? static_cast<i8>(insn.imm) : static_cast<i32>(insn.imm);
      if (insn.digit == 0) return moved(registers_[insn.rm.reg], imm);
      if (insn.digit == 5) return moved(registers_[insn.rm.reg], -imm);
    }
    if (op == 0xff && whole(insn.rm) && insn.digit < 2) return moved(registers_[insn.rm.reg], insn.digit ? -1 : 1);
    return {};
  }

  const SourceRegion& region_;
  const Block& block_;
  u8 word_;
  std::array<Value, 16> registers_;
  u32 next_unknown_ = kPage + 1;
  std::vector<Open> open_;
  unsigned stretch_ = 0;   // of instructions between exits
  Windows found_;
};

}  // namespace

Windows find_windows(const SourceRegion& region, const Block& block, bool long_code) {
  return Finder(region, block, long_code).run();
}

}  // namespace atl::soft::translate
