// Host code for a region.
//
// A block is emitted once for each state that control comes in with (State): where the guest's flags are at that moment, and
// whether vectors are live. The version that takes nothing for granted can be entered from outside.
//
// Accesses near each other share one check (window.h). Where that fails, because the window crosses a page's end or the page
// needs care, control goes on in a plain version of the rest of the block, in which each access is checked by itself.
//
// Flags. An address check destroys the host's flags. What they were must stay recoverable: from Core::cc, or by a Recipe, a
// comparison or addition whose operands are still in their registers and that can be done again, out of line where the runtime
// wants the flags, or in line for an instruction that reads them.
#pragma once

#include <optional>

#include "cpu/soft/translate/assembler.h"
#include "cpu/soft/translate/region.h"
#include "cpu/soft/translate/window.h"

namespace atl::soft::translate {

/// Condition codes as Jcc has them.
inline constexpr u8 kAboveOrEqual = 3, kEqual = 4, kNotEqual = 5, kAbove = 7;

/// How the current flags can be computed again from guest registers.
struct Recipe {
  enum class Kind : u8 { None, Compare, Test, Add, Subtract, Negate };
  Kind kind = Kind::None;
  u8 size = 0;         // bytes
  u8 a = kNone;        // guest register; for Add, Subtract and Negate it holds the result
  u8 b = kNone;        // guest register; kNone: imm
  i32 imm = 0;

  bool operator==(const Recipe&) const = default;
  explicit operator bool() const { return kind != Kind::None; }
  bool uses(u16 registers) const { return registers >> a & 1 || (b != kNone && registers >> b & 1); }
};

/// The recipe for the flags that `insn` leaves, if there is one.
Recipe recipe_of(const Insn& insn);

/// What is known at a point of the code. At least one of host, memory and recipe gives the flags, if anybody cares for them.
struct State {
  bool host = false;       // the host's flags are the guest's
  bool memory = true;      // Core::cc is right
  u8 vectors = kNoVectors; // which vectors are live, at least
  Recipe recipe{};

  bool operator==(const State&) const = default;
  /// Whether code made for `assumed` may run in this state.
  bool provides(const State& assumed) const {
    return (host || !assumed.host) && (memory || !assumed.memory) && vectors >= assumed.vectors &&
           (!assumed.recipe || recipe == assumed.recipe);
  }
};

class Emitter {
 public:
  Emitter(const Request& request, const SourceRegion& region, HostFeatures host);
  Draft run();

 private:
  struct Version {
    u16 block = 0;
    u16 first = 0;           // instruction of the block
    bool plain = false;      // without windows
    State state;
    Label label = 0;
    bool emitted = false;
    std::optional<HostOffset> far;   // Entry::far

    /// Versions that take nothing for granted are entries: of each block the first such.
    bool is_entry() const { return !plain && state == State{}; }
  };
  static constexpr size_t kNoVersion = ~size_t{0};

  /// Code that is put behind everything else.
  struct Aside {
    enum class Kind : u8 { Miss, Plain, Trap, LoadVectors, Interpret, Single, Indirect, Branch, Leave } kind = Kind::Miss;
    Label label = 0;          // its start
    State state;
    const Insn* insn = nullptr;
    HostOffset retry = 0;     // Miss: where the check starts; Trap: the instruction
    Label back = 0;           // LoadVectors: where the instruction goes on
    Label resume = 0;         // Miss, Trap, LoadVectors, Interpret: behind the instruction
    bool resumes = false, write = false;
    bool poll = false;        // Branch: backwards, and not polled yet
    u16 op = 0;               // Trap, Interpret: index into Draft::ops
    u16 block = 0, index = 0; // Plain: where the rest begins
    i32 target = 0;           // Branch, Leave: from the page's start
  };

  // emitter.cc: blocks, versions, what is put aside
  void emit_versions();
  void emit_block(size_t version);
  void emit_insn(const Insn& insn, u16 live_after);
  size_t find_version(u16 block, const State& state);
  size_t new_version(const Version& version);
  bool join_plain(u16 block);
  size_t plain_version(u16 block, u16 first, const State& state);
  void find_live(const Block& block);
  bool observes(const Insn& insn, unsigned index) const;
  State wanted_state(u16 block, State state) const;
  Label aside(Aside what);
  void emit_aside(const Aside& what);
  void emit_miss(const Aside& what);
  void emit_trap(const Aside& what);
  void emit_load_vectors(const Aside& what);
  void emit_single(const Insn& insn);
  void begin_entry(Version& version);
  void emit_entries();
  void add_site(const Site& site, Label resume, bool resumes);
  void finish();
  void call_thunk(Thunk thunk);
  void jump_thunk(Thunk thunk);

  // emit_flags.cc
  void snapshot();                       // the host's flags to Core::cc
  void ensure_host();
  void ensure_memory();
  void before_clobber();                 // the host's flags are about to be lost
  void settle_recipe(const Insn& insn, u16 live_after, bool clobbers);
  void emit_recipe(const Recipe& recipe);
  void emit_compare(const Recipe& recipe);
  void emit_test(const Recipe& recipe);
  void emit_undone(const Recipe& recipe);
  void note_flags(const Insn& insn);

  // emit_memory.cc
  void emit_address(const MemoryOperand& m);                                   // linear address to scratch 0
  HostMemory address_parts(const MemoryOperand& m);
  HostMemory reach(const MemoryOperand& m, bool write, const Access& access);  // uses scratch 0
  HostMemory reach_stack(u8 reg, i32 disp, bool write);                        // a word at [reg + disp]
  void look_up(const MemoryOperand& m, i64 size, bool write, const Aside& miss);
  void check(i64 size, bool write, const Aside& miss);                         // of the linear address in scratch 0
  Aside miss_aside(bool write, HostOffset retry) const;
  void open_window(const MemoryOperand& m, const Access& access);
  const InsnAccesses& accesses() const;
  bool clobbers(const Access& access) const;                                   // whether it needs a check

  // emit_copy.cc
  void emit_copy(const Insn& insn, u16 live_after);
  void take_scratch() { in_scratch_ = kNoWindow; }  // scratch 0 gets another use
  void ensure_vectors(u8 level);
  void emit_lea(const Insn& insn);
  void emit_operation(const Insn& insn);
  void mark_trap(const Insn& insn);
  Place rm_place(const Insn& insn);
  u8 bring(const Insn& insn, const Field& field, u8 scratch);
  void put_back(const Insn& insn, const Field& field, u8 host);

  // emit_stack.cc
  void emit_push(const Insn& insn, u16 live_after);
  void emit_pop(const Insn& insn, u16 live_after);
  void emit_leave(const Insn& insn, u16 live_after);
  void emit_push_return(const Insn& insn);
  void move_stack(i32 bytes);

  // emit_branch.cc
  void emit_jcc(const Insn& insn);
  void emit_loop(const Insn& insn);
  void emit_count_zero(const Insn& insn);
  void emit_call(const Insn& insn);
  void emit_indirect(const Insn& insn);
  void emit_ret(const Insn& insn);
  void emit_call_out(const Insn& insn);
  void fall_through(const Block& block);
  void transfer(i32 target, bool backward);     // to an offset in the page or outside
  void jump_aside(const Insn& insn);
  void jump_inline(i32 target, bool backward);
  void enter_block(u16 block);
  void leave_direct(i32 target);                // to another page
  void link(u16 target);
  void poll(i32 target);
  void poll_early(const Insn& insn);
  void target_rip(i32 target);                  // linear address of an offset to scratch 0
  void look_up_jump(Mode mode);                 // scratch 0: linear address
  void look_up_jump(Mode mode, Label elsewhere);
  void leave_indirect();
  void emit_elsewhere(const Aside& what);
  bool branch_directly(const Insn& insn);

  // emit_system.cc
  void set_flag(u64 flag, bool on);
  void interpret_if(u8 cond, bool resumes);
  void emit_interpret(const Aside& what);
  void emit_cli();
  void emit_sti(const Insn& insn);
  void emit_access_flag(const Insn& insn);
  void emit_swapgs();
  void emit_push_flags(const Insn& insn);
  void flags_image();                           // RFLAGS as PUSHF has it to scratch 1; scratch 0 is lost

  // emit_fast_call.cc
  void emit_system_call(const Insn& insn);
  void emit_system_return();
  void set_flags_image();
  void set_segment(unsigned segment, u16 attributes);
  void enter_privilege(u8 cpl, TlbSet set);

  // emit_state.cc
  void emit_read_segment(const Insn& insn);
  void emit_base(const Insn& insn);
  void emit_read_tsc(const Insn& insn);
  void emit_bit_string(const Insn& insn, u16 live_after);

  // emit_straddle.cc
  void guard_tail(const Insn& insn);
  void compare_bytes(u16 offset, size_t count, Label differ);

  unsigned word() const { return long_code_ ? 8 : 4; }   // size of addresses and of stack slots
  static bool in_memory(u8 guest) { return kHostOf[guest] == kInMemory; }
  static HostMemory core(i32 disp) { return {.disp = disp}; }
  static Place guest_place(u8 guest);
  void load_guest(u8 host, u8 guest);
  void store_guest(u8 guest, u8 host);
  u8 guest_in(u8 guest, u8 scratch);            // its host register, or `scratch` loaded with it

  const Request& request_;
  const SourceRegion& region_;
  HostFeatures host_;
  bool long_code_;
  u8 tlb_set_;
  Assembler a_;
  Draft draft_;
  State s_;
  size_t version_ = kNoVersion;      // that is being emitted
  unsigned index_ = 0;               // in the block
  const Insn* insn_ = nullptr;
  Label resume_ = 0;                 // behind the instruction that is being emitted
  bool resumes_here_ = false;        // somebody may jump to it
  std::vector<Version> versions_;
  std::vector<std::vector<size_t>> versions_of_, plain_versions_of_;   // by block
  std::array<u16, kMaxInsns + 1> live_;         // flags, before each instruction of the block
  std::vector<std::optional<Windows>> windows_; // by block
  u8 in_scratch_ = kNoWindow;                   // the window whose host address scratch 0 holds
  HostMemory operand_;                          // where the instruction's memory operand is
  std::vector<size_t> pending_;
  size_t next_version_ = kNoVersion;            // to be emitted right behind this one
  bool poll_due_ = false;                       // the block ends with a branch backwards
  bool stale_ = false;                          // nobody needs the flags any more: s_ says that they are in memory, and they are not
  bool inline_ = false;                         // in the middle of a block: no version can come right behind
  std::vector<Aside> asides_;
  std::vector<std::pair<size_t, Label>> resumes_;  // indexes of sites that go on at a label
};

}  // namespace atl::soft::translate
