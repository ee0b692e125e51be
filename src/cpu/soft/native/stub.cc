// The process's stubs: made once, shared by every vCPU.

#include "cpu/soft/native/stub.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cpu/soft/native/classify.h"
#include "cpu/soft/native/special.h"
#include "cpu/soft/native/stub_code.h"

namespace atl::soft {
namespace {

constexpr u64 kArenaBytes = 16 * kMiB;

/// What makes two stubs the same: the host instruction and everything that surrounds it.
std::string key_of(const NativeStub& stub, const Reencoding& in) {
  std::string key(in.bytes.begin(), in.bytes.end());
  key += static_cast<char>(in.gpr.value_or(0xff));
  u64 words[] = {reinterpret_cast<u64>(stub.run), u64{stub.memory_bytes} << 32 | u64{stub.fop} << 8 | u64{static_cast<u8>(stub.gate)},
                 u64{stub.element} << 56 | u64{stub.index_element} << 48 | u64{stub.length} << 40 | u64{stub.reg} << 32 |
                     u64{stub.mask} << 24 | u64{stub.index} << 16 | u64{stub.wide} << 8 | stub.alignment,
                 u64{stub.mask_bits} << 8 | static_cast<u8>(stub.masking)};
  return key.append(reinterpret_cast<const char*>(words), sizeof words);
}

StubCode make_code(const NativeStub& stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands,
                   const Reencoding& bytes, const CodeArena& arena) {
  RegisterUse use = register_use(in, operands);
  if (stub.gate == Gate::X87) return make_x87_code(bytes, use, arena);
  if (stub.gate == Gate::Wide) return make_wide_code(bytes, use, stub.uses_mxcsr, arena);
  return make_simd_code(bytes, use, in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX, stub.uses_mxcsr, arena);
}

/// Gives `stub` its code; false if the arena is full.
bool compile(NativeStub& stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands, const Reencoding& bytes,
             CodeArena& arena) {
  StubCode code = make_code(stub, in, operands, bytes, arena);
  const u8* at = arena.append(code.bytes);
  if (!at) return false;
  stub.code = reinterpret_cast<decltype(stub.code)>(reinterpret_cast<u64>(at));
  stub.fault_exit = at + code.fault_exit;
  return true;
}

class StubCache {
 public:
  StubCache() : arena_(CodeArena::create(kArenaBytes)), scratch_(CodeArena::create(kPageSize)) {}

  Status ready() const {
    if (!arena_) return arena_.error();
    if (!scratch_) return scratch_.error();
    return {};
  }

  const NativeStub* find(NativeStub stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands,
                         std::span<const u8> bytes) {
    Reencoding encoding;
    if (needs_code(stub)) encoding = reencode(in, operands, bytes);
    std::lock_guard lock(mutex_);
    if (!arena_ || !scratch_) return nullptr;
    auto [entry, added] = stubs_.try_emplace(key_of(stub, encoding));
    if (!added) return entry->second.get();
    if (needs_code(stub) && !compile(stub, in, operands, encoding, *arena_)) {
      stubs_.erase(entry);
      return &overflow_;
    }
    return (entry->second = std::make_unique<NativeStub>(stub)).get();
  }

  bool run_once(Core& core, const Op& op, NativeStub stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands,
                std::span<const u8> bytes) {
    if (!needs_code(stub)) return run_with(core, op, stub);
    std::lock_guard lock(mutex_);
    scratch_->clear();
    CHECK(compile(stub, in, operands, reencode(in, operands, bytes), *scratch_));  // a page holds any single stub
    return run_with(core, op, stub);
  }

 private:
  static bool run_with(Core& core, const Op& op, const NativeStub& stub) {
    Op mine = op;
    mine.stub = &stub;
    return stub.run(core, mine);
  }

  std::mutex mutex_;
  Result<CodeArena> arena_, scratch_;
  std::map<std::string, std::unique_ptr<NativeStub>> stubs_;
  const NativeStub overflow_{.run = run_overflow};
};

StubCache& cache() {
  static StubCache stubs;
  return stubs;
}

}  // namespace

Status prepare_stubs() { return cache().ready().context("prepare native SIMD code"); }

const NativeStub* find_stub(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                            std::span<const u8> bytes) {
  std::optional<NativeStub> stub = classify(instruction, operands);
  if (!stub) return nullptr;
  return cache().find(*stub, instruction, operands, bytes);
}

bool run_stub_once(Core& core, const Op& op, const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands,
                   std::span<const u8> bytes) {
  std::optional<NativeStub> stub = classify(instruction, operands);
  if (!stub) return core.raise(kUD);
  return cache().run_once(core, op, *stub, instruction, operands, bytes);
}

}  // namespace atl::soft
