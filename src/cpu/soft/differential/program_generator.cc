#include "cpu/soft/differential/program_generator.h"

#include <algorithm>
#include <bit>
#include <initializer_list>

#include "base/endian.h"
#include "cpu/soft/differential/values.h"
#include "cpu/soft/native/image.h"

namespace atl::soft::differential {
namespace {

constexpr u8 kInt3 = 0xcc;
constexpr u64 kMostForward = 12;  // items that a branch leaps over

Roles some_roles(Random& random, unsigned registers) {
  Roles roles{.pointers = 1 << cpu::kRsp};
  auto add = [&](u16& mask) {
    auto bit = static_cast<u16>(1u << random.below(registers));
    if (!((roles.pointers | roles.indexes) & bit)) mask |= bit;
  };
  for (unsigned i = 0; i < registers / 3; ++i) add(roles.pointers);
  if (random.percent(50)) roles.pointers |= 1 << cpu::kRsi | 1 << cpu::kRdi;
  if (random.percent(50)) roles.indexes |= 1 << cpu::kRcx & ~roles.pointers;
  add(roles.indexes);
  do roles.counter = static_cast<u8>(random.below(registers));
  while ((roles.pointers | roles.indexes) >> roles.counter & 1);
  return roles;
}

/// With two free registers at least.
Roles random_roles(Random& random, Mode mode) {
  unsigned registers = mode == Mode::Long ? 16 : 8;
  for (;;) {
    Roles roles = some_roles(random, registers);
    unsigned taken = static_cast<unsigned>(std::popcount(static_cast<u16>(roles.pointers | roles.indexes))) + 1;
    if (taken + 2 <= registers) return roles;
  }
}

/// Mostly well inside the window, often at the end of its first page, now and then where an access faults.
u64 random_pointer(Random& random) {
  constexpr u64 kMiddle = kWindow + kPage, kReadOnly = kWindow + kWritableBytes;
  u64 kind = random.below(100);
  if (kind < 20) return kMiddle - random.below(96);
  if (kind < 21) return kReadOnly - random.below(48);
  if (kind < 22) return kWindow + random.below(512) - 128;
  if (kind < 23) return random.next();
  u64 inside = kWindow + 768 + random.below(kWritableBytes - 1536);
  return kind < 75 ? inside & ~u64{31} : inside;
}

void fill_roles(Random& random, const Roles& roles, Mode mode, Registers& r) {
  fill_registers(random, r);
  for (unsigned i = 0; i < 16; ++i) {
    if (roles.pointers >> i & 1) r.gpr[i] = random_pointer(random);
    if (roles.indexes >> i & 1) r.gpr[i] = random.below(32);
  }
  r.gpr[roles.counter] = random.below(4);
  r.gpr[cpu::kRsp] = kWindow + 2048 + (random.below(4096) & ~(random.percent(90) ? u64{7} : 0));
  // Unmasked floating-point exceptions end a program early: not too often.
  if (random.percent(85)) {
    store_le<u16>(&r.xsave[image::kFcw], 0x37f);
    store_le<u16>(&r.xsave[image::kFsw], load_le<u16>(&r.xsave[image::kFsw]) & 0x7f00);
    store_le<u32>(&r.xsave[image::kMxcsr], load_le<u32>(&r.xsave[image::kMxcsr]) | image::kMxcsrMasks);
  }
  if (mode == Mode::Compatibility)
    for (u64& value : r.gpr) value = static_cast<u32>(value);
}

/// Builds one program item by item.
class Builder {
 public:
  Builder(Random& random, const Vocabulary& vocabulary, Mode mode)
      : random_(random), vocabulary_(vocabulary), roles_(random_roles(random, mode)), long_(mode == Mode::Long) {
    program_.mode = mode;
    program_.cold = random.percent(20);
  }

  Program build() {
    auto length = static_cast<int>(8 + random_.below(56));
    main_length_ = length;
    while (count() < length) add_any();
    add_raw({kInt3});
    add_functions();
    add_raw({kInt3});
    fill_roles(random_, roles_, program_.mode, program_.before);
    place();
    return std::move(program_);
  }

 private:
  int count() const { return static_cast<int>(program_.items.size()); }
  void add_raw(std::initializer_list<u8> bytes) { program_.items.push_back({.bytes = bytes, .fixups = {}}); }
  void add_plain() { program_.items.push_back(vocabulary_.pick(random_, program_.mode, roles_)); }

  /// A later item of the main part; its end at most.
  int forward_target(u64 most = kMostForward) {
    int next = count() + 1;
    return std::max(next, std::min(main_length_, next + static_cast<int>(random_.below(most))));
  }

  u8 free_register() {
    for (;;) {
      auto reg = static_cast<u8>(random_.below(long_ ? 16 : 8));
      if (roles_.is_free(reg)) return reg;
    }
  }

  void add_any() {
    u64 kind = random_.below(100);
    if (kind < 72) return add_plain();
    if (kind < 83) return add_conditional();
    if (kind < 85) return add_jump();
    if (kind < 88) return add_loop();
    if (kind < 91) return add_call();
    if (kind < 93) return add_indirect_jump();
    if (kind < 94) return add_push_return();
    if (kind < 95) return add_patch();
    if (kind < 97) return add_division();
    if (kind < 98) return add_pop_flags();
    add_load_mxcsr();
  }

  // -- branches ----------------------------------------------------------------------------------------------------------

  void add_branch(std::vector<u8> opcode, bool is_short, int target) {
    auto at = static_cast<u8>(opcode.size());
    u8 size = is_short ? 1 : 4;
    opcode.resize(opcode.size() + size);
    auto end = static_cast<u8>(opcode.size());
    program_.items.push_back({.bytes = std::move(opcode), .fixups = {{.at = at, .size = size, .relative = true, .end = end, .target = target}}});
  }

  void add_conditional() {
    auto condition = static_cast<u8>(random_.below(16));
    bool is_short = random_.percent(60);
    // LOOPNE, LOOPE, LOOP, JRCXZ
    bool counts = random_.percent(12) && (roles_.is_free(cpu::kRcx) || roles_.indexes >> cpu::kRcx & 1);
    if (counts) return add_branch({static_cast<u8>(0xe0 | (condition & 3))}, true, forward_target(3));
    if (is_short) return add_branch({static_cast<u8>(0x70 | condition)}, true, forward_target());
    add_branch({0x0f, static_cast<u8>(0x80 | condition)}, false, forward_target());
  }

  void add_jump() { add_branch({0xe9}, false, forward_target()); }

  /// mov counter, n; body; sub counter, 1; jg body. Loops do not nest: they share the counter.
  void add_loop() {
    u64 most = random_.percent(60) ? 12 : random_.percent(70) ? 120 : 20000;
    add_move(roles_.counter, static_cast<u32>(1 + random_.below(most)));
    int head = count();
    auto body = static_cast<int>(1 + random_.below(6));
    for (int i = 0; i < body; ++i) random_.percent(8) ? add_patch() : random_.percent(85) ? add_plain() : add_conditional();
    auto low = static_cast<u8>(roles_.counter & 7);
    if (long_) add_raw({static_cast<u8>(0x48 | roles_.counter >> 3), 0x83, static_cast<u8>(0xe8 | low), 1});
    else add_raw({0x83, static_cast<u8>(0xe8 | low), 1});
    join_last_two_after([&] { add_branch({0x0f, 0x8f}, false, head); });
    main_length_ = std::max(main_length_, count());
  }

  /// What `add` adds becomes part of the item before it: nothing may come between them.
  template <class Add>
  void join_last_two_after(Add add) {
    add();
    Item tail = std::move(program_.items.back());
    program_.items.pop_back();
    Item& head = program_.items.back();
    auto shift = static_cast<u8>(head.bytes.size());
    head.bytes.insert(head.bytes.end(), tail.bytes.begin(), tail.bytes.end());
    for (Fixup f : tail.fixups) {
      f.at = static_cast<u8>(f.at + shift), f.end = static_cast<u8>(f.end + shift);
      head.fixups.push_back(f);
    }
  }

  void add_move(u8 reg, u32 value) {
    std::vector<u8> bytes;
    if (reg >= 8) bytes.push_back(0x41);
    bytes.push_back(static_cast<u8>(0xb8 | (reg & 7)));
    for (unsigned i = 0; i < 4; ++i) bytes.push_back(static_cast<u8>(value >> 8 * i));
    program_.items.push_back({.bytes = std::move(bytes), .fixups = {}});
  }

  /// mov reg, target; then `tail`, which uses reg.
  void add_through_register(u8 reg, int target, u8 modrm) {
    add_move(reg, 0);
    Item& item = program_.items.back();
    item.fixups.push_back({.at = static_cast<u8>(item.bytes.size() - 4), .target = target});
    if (reg >= 8) item.bytes.push_back(0x41);
    item.bytes.insert(item.bytes.end(), {0xff, static_cast<u8>(modrm | (reg & 7))});
  }

  void add_indirect_jump() { add_through_register(free_register(), forward_target(), 0xe0); }

  void add_push_return() {
    program_.items.push_back({.bytes = {0x68, 0, 0, 0, 0, 0xc3}, .fixups = {{.at = 1, .target = forward_target()}}});
  }

  // -- calls -----------------------------------------------------------------------------------------------------------------

  /// To one of three functions, which are placed at the end: their items are patched in by add_functions().
  void add_call() {
    int function = static_cast<int>(random_.below(kFunctions));
    calls_.emplace_back(count(), function);
    if (random_.percent(70)) add_branch({0xe8}, false, 0);
    else add_through_register(free_register(), 0, 0xd0);
  }

  /// Bodies leave memory and RSP alone, so that they return to where they were called.
  void add_functions() {
    int starts[kFunctions];
    for (int& start : starts) {
      start = count();
      auto body = static_cast<int>(1 + random_.below(5));
      for (int i = 0; i < body; ++i) program_.items.push_back(vocabulary_.pick(random_, program_.mode, roles_, false));
      random_.percent(80) ? add_raw({0xc3}) : add_raw({0xc2, 8, 0});
    }
    for (auto [item, function] : calls_) program_.items[static_cast<size_t>(item)].fixups[0].target = starts[function];
  }

  // -- others -------------------------------------------------------------------------------------------------------------------

  /// mov reg, imm32 somewhere near, and a store of another immediate into it: before it in time, or after.
  void add_patch() {
    program_.self_modifying = true;
    u8 reg = free_register();
    int patched = count() + (random_.percent(50) ? 0 : 1 + static_cast<int>(random_.below(4)));
    bool stored_first = patched != count();
    if (!stored_first) add_move(reg, static_cast<u32>(random_integer(random_)));
    Item store{.bytes = {0xc7, 0x05, 0, 0, 0, 0}, .fixups = {}};
    for (unsigned i = 0; i < 4; ++i) store.bytes.push_back(random_.byte());
    u64 field = reg >= 8 ? 2 : 1;
    store.fixups.push_back({.at = 2, .relative = long_, .end = 10, .target = patched, .addend = field});
    program_.items.push_back(std::move(store));
    if (!stored_first) return;
    while (count() < patched) add_plain();
    add_move(reg, static_cast<u32>(random_integer(random_)));
    main_length_ = std::max(main_length_, count());
  }

  /// xor edx, edx; or reg, 1; div reg
  void add_division() {
    if (!roles_.is_free(cpu::kRdx) || !roles_.is_free(cpu::kRax)) return add_plain();
    u8 reg = free_register();
    if (reg == cpu::kRdx) return add_plain();
    auto low = static_cast<u8>(reg & 7), rex = static_cast<u8>((random_.percent(50) ? 0x48 : 0x40) | reg >> 3);
    auto operation = static_cast<u8>((random_.percent(50) ? 0xf0 : 0xf8) | low);
    if (long_) add_raw({0x31, 0xd2, rex, 0x83, static_cast<u8>(0xc8 | low), 1, rex, 0xf7, operation});
    else add_raw({0x31, 0xd2, 0x83, static_cast<u8>(0xc8 | low), 1, 0xf7, operation});
  }

  /// push imm32; popf: arithmetic flags, DF and ID.
  void add_pop_flags() {
    auto flags = static_cast<u32>(random_.next() & (cpu::kArithmeticFlags | cpu::kDF | cpu::kID)) | 2 | cpu::kIF;
    if (random_.percent(60)) flags &= ~static_cast<u32>(cpu::kDF);
    program_.items.push_back({.bytes = {0x68, static_cast<u8>(flags), static_cast<u8>(flags >> 8), static_cast<u8>(flags >> 16), 0, 0x9d},
                              .fixups = {}});
  }

  /// push imm32; ldmxcsr [rsp]; pop reg
  void add_load_mxcsr() {
    u8 reg = free_register();
    auto value = static_cast<u32>((random_.next() & image::kMxcsrValid) | (random_.percent(90) ? image::kMxcsrMasks : 0));
    Item item{.bytes = {0x68, static_cast<u8>(value), static_cast<u8>(value >> 8), 0, 0, 0x0f, 0xae, 0x14, 0x24}, .fixups = {}};
    if (reg >= 8) item.bytes.push_back(0x41);
    item.bytes.push_back(static_cast<u8>(0x58 | (reg & 7)));
    program_.items.push_back(std::move(item));
  }

  /// Anywhere on the pages of code, often across their border; targets past the end become the end.
  void place() {
    for (Item& item : program_.items)
      for (Fixup& f : item.fixups) f.target = std::min(f.target, count() - 1);
    u64 size = program_.size_bytes();
    u64 last = kCodeBytes - size - 16;
    u64 at = random_.percent(30) && size < kPage ? kPage - random_.below(size) : random_.below(last);
    program_.before.rip = kCodePage + at;
  }

  static constexpr int kFunctions = 3;

  Random& random_;
  const Vocabulary& vocabulary_;
  Roles roles_;
  bool long_;
  Program program_;
  int main_length_ = 0;
  std::vector<std::pair<int, int>> calls_;  // item, function
};

}  // namespace

ProgramGenerator::ProgramGenerator(u64 seed) : seed_(seed), instructions_(""), vocabulary_(instructions_) {
  Random random(seed);
  fill_random(random, pattern_);
}

Program ProgramGenerator::make(u64 index, std::array<u8, kWindowBytes>& memory) {
  u64 wanted = index / kProgramsPerVocabulary;
  if (wanted != vocabulary_index_) {
    Random random(seed_ ^ 0x70726f6772616d73, wanted);
    vocabulary_.renew(random);
    vocabulary_index_ = wanted;
  }
  Random random(seed_, index);
  memory = pattern_;
  Mode mode = random.percent(75) ? Mode::Long : Mode::Compatibility;
  return Builder(random, vocabulary_, mode).build();
}

}  // namespace atl::soft::differential
