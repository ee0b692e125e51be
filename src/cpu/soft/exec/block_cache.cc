#include "cpu/soft/exec/block_cache.h"

#include <algorithm>
#include <cstring>

#include "cpu/soft/exec/pick.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/translate/tier.h"

namespace atl::soft {

namespace {

constexpr unsigned kMaxInstruction = 15;

/// What an empty jump table entry points to: no address equals its gpa.
CodeBlock no_block;

/// Version word for code that is never cached; always up to date.
const std::atomic<u32> uncached_word{0};

u64 linear_rip(const Core& core) {
  return core.code_size == CodeSize::k64 ? core.rip : static_cast<u32>(core.seg[kCs].base + core.rip);
}

DecodeMode decode_mode(ModeKey key) {
  return {.code = static_cast<CodeSize>(key & 3), .flat_data = (key & 4) != 0, .flat_stack = (key & 8) != 0};
}

/// Whether `op` is this comparison of registers or with an immediate.
template <Alu K>
bool compares(const Op& op, Shape shape) {
  return op.run == pick_alu<K>({.shape = shape, .size = op.opsize});
}

/// Lets `first` do the work of the Jcc behind it too, if the two have a handler together. 64-bit code.
void fuse(Op& first, const Op& jump) {
  if (jump.run == run_system_then_end || jump.opsize != 8 || first.opsize == 2) return;
  for (Shape shape : {Shape::RegReg, Shape::RegImm}) {
    bool test = compares<Alu::Test>(first, shape);
    if (!test && !compares<Alu::Cmp>(first, shape)) continue;
    first.run = pick_compare_and_jump({.test = test,
                                       .immediate = shape == Shape::RegImm,
                                       .size = first.opsize,
                                       .condition_code = jump.cond,
                                       .same_page = jump.extra != 0});
    return;
  }
}

/// Whether every other core has dropped the write tags that it had before `epoch`, and this one, too.
bool acknowledged(const Core& core, u64 epoch) {
  for (const Core* other : core.vm->cores) {
    if (other && other->code_epoch_seen.load(std::memory_order_acquire) < epoch) return false;
  }
  return core.code_epoch_seen.load(std::memory_order_relaxed) >= epoch;
}

}  // namespace

ModeKey mode_key(const Core& core) {
  auto key = static_cast<ModeKey>(core.code_size);
  if (core.code_size == CodeSize::k64) return key | 4 | kModeChain;
  const Segment& cs = core.seg[kCs];
  if (core.flat_data) key |= core.seg[kSs].db() ? 12 : 4;
  if (core.code_size == CodeSize::k32 && cs.base == 0 && cs.limit == 0xffffffff) key |= kModeChain;
  return key;
}

/// Where the next instruction's bytes are.
struct BlockCache::Source {
  u64 linear = 0;
  GuestAddr gpa = 0;
  const u8* host = nullptr;            // nullptr: not RAM
  unsigned available = 0;              // bytes up to the page's end or CS's limit
  bool limited = false;                // by CS's limit
  GuestAddr second_gpa = 0;            // of the next page, once located
  std::array<u8, kMaxInstruction> joined;  // bytes of an instruction that straddles, or of one outside RAM
};

BlockCache::BlockCache(Core& core) : core_(core), decoder_(*core.cpuid) {
  buckets_ = std::make_unique<CodeBlock*[]>(kBuckets);
  arena_ = std::make_unique_for_overwrite<u8[]>(kArenaBytes);
  clear();
}

BlockCache::~BlockCache() = default;

void BlockCache::clear() {
  std::fill_n(buckets_.get(), kBuckets, nullptr);
  jumps_.fill(&no_block);
  used_ = 0;
  ++generation_;
}

bool BlockCache::locate(Source& source) {
  if (core_.code_size == CodeSize::k64) {
    if (!is_canonical(core_.rip)) return core_.raise(kGP, 0);
  } else {
    core_.rip = static_cast<u32>(core_.rip);
    if (core_.rip > core_.seg[kCs].limit) return core_.raise(kGP, 0);
  }
  source.linear = linear_rip(core_);
  FetchPage page;
  if (!fetch_page(core_, source.linear, page)) return false;
  u64 offset = source.linear & 0xfff;
  source.gpa = page.gpa | offset;
  source.host = page.host ? page.host + offset : nullptr;
  source.available = static_cast<unsigned>(kPageSize - offset);
  if (core_.code_size != CodeSize::k64) {
    u64 left = u64{core_.seg[kCs].limit} - core_.rip + 1;
    source.limited = left < source.available;
    if (source.limited) source.available = static_cast<unsigned>(left);
  }
  return true;
}

/// Joins the rest of this page with the start of the next one.
bool BlockCache::locate_second_page(Source& source) {
  if (source.limited) return core_.raise(kGP, 0);
  u64 second = source.linear + source.available;
  if (core_.code_size != CodeSize::k64) second = static_cast<u32>(second);
  FetchPage page;
  if (!fetch_page(core_, second, page)) return false;
  source.second_gpa = page.gpa;
  unsigned first = std::min(source.available, kMaxInstruction), rest = kMaxInstruction - first;
  if (source.host) std::memcpy(source.joined.data(), source.host, first);
  if (page.host) {
    if (core_.vm->code.covers(page.gpa)) mark(page.gpa);
    std::memcpy(source.joined.data() + first, page.host, rest);
  } else {
    fetch_slow(core_, page.gpa, source.joined.data() + first, rest);
  }
  return true;
}

CodeBlock* BlockCache::find() {
  Source source;
  if (!locate(source)) return nullptr;
  ModeKey mode = core_.block_mode = mode_key(core_);
  bool cached = source.host && core_.vm->code.covers(source.gpa);
  if (!cached) return decode(source, 1, false);
  CodeBlock* block = jump_candidate(source.gpa);
  if (block->gpa == source.gpa && block->mode == mode && block->fresh()) return block;
  block = lookup(source.gpa, mode);
  if (!block || !usable(*block, source)) block = decode(source, kMaxOps, true);
  if (block && block->linkable()) jumps_[jump_index(block->gpa)] = block;
  return block;
}

CodeBlock* BlockCache::find_single() {
  Source source;
  if (!locate(source)) return nullptr;
  core_.block_mode = mode_key(core_);
  return decode(source, 1, false);
}

/// Stale blocks on the way leave the bucket.
CodeBlock* BlockCache::lookup(GuestAddr gpa, ModeKey mode) {
  CodeBlock** link = &buckets_[bucket_of(gpa, mode)];
  while (CodeBlock* block = *link) {
    if (!block->fresh()) {
      *link = block->next;
    } else if (block->gpa == gpa && block->mode == mode) {
      return block;
    } else {
      link = &block->next;
    }
  }
  return nullptr;
}

bool BlockCache::usable(CodeBlock& block, Source& source) {
  if (block.second_word) {
    if (block.second_word->load(std::memory_order_relaxed) != block.second_version) return false;
    u64 second = source.linear + source.available;
    FetchPage page;
    if (!fetch_page(core_, second, page)) {
      core_.fault_pending = false;  // decoding meets it again and reports it
      return false;
    }
    if (page.gpa != block.second_page) return false;
  }
  if (block.epoch == 0) return true;
  // Read before the bytes are compared: what was written before the last acknowledgement is then in them.
  bool settled = acknowledged(core_, block.epoch);
  bool same = block.second_word ? locate_second_page(source) && std::memcmp(source.joined.data(), block.bytes, block.length) == 0
                                : std::memcmp(source.host, block.bytes, block.length) == 0;
  if (same && settled) block.epoch = 0;
  return same;
}

u64 BlockCache::mark(GuestAddr gpa) {
  SoftVm& vm = *core_.vm;
  if (!vm.code.mark(gpa)) return vm.code_epoch.load(std::memory_order_seq_cst);
  drop_write_tags(core_, gpa & ~(kPageSize - 1));
  u64 before = vm.code_epoch.fetch_add(1, std::memory_order_seq_cst);
  if (!core_.code_epoch_seen.compare_exchange_strong(before, before + 1)) request_attention(core_, kAttendTlb);
  for (Core* other : vm.cores) {
    if (other && other != &core_) request_attention(*other, kAttendTlb);
  }
  return vm.code_epoch.load(std::memory_order_seq_cst);
}

void BlockCache::decode_ops(Source& source, unsigned max_ops, CodeBlock& block) {
  DecodeMode mode = decode_mode(block.mode);
  const u8* bytes = block.second_word || !source.host ? source.joined.data() : source.host;
  unsigned available = block.second_word || !source.host ? kMaxInstruction : source.available;
  unsigned count = 0, at = 0;
  Decoded outcome = Decoded::Continues;
  while (count < max_ops && outcome == Decoded::Continues && at < available) {
    if (count > 0 && may_hold_execution_point(core_, (block.gpa + at) & (kPageSize - 1))) break;
    DecodePlace place{.block_gpa = block.gpa, .offset = static_cast<u16>(at)};
    outcome = decoder_.decode({bytes + at, available - at}, mode, place, ops_[count]);
    if (outcome == Decoded::Truncated) break;
    at += ops_[count++].length;
  }
  if (outcome == Decoded::EndsOpen && count > 1 && mode.code == CodeSize::k64) fuse(ops_[count - 2], ops_[count - 1]);
  Op& end = ops_[count];
  end = {};
  end.offset = static_cast<u16>(at);
  end.run = pick_end({.code = mode.code}, ((block.gpa + at) ^ block.gpa) < kPageSize);
  block.length = static_cast<u16>(at);
  block.op_count = static_cast<u16>(count);
}

void BlockCache::remember_pages(const Source& source, CodeBlock& block) {
  const CodePages& code = core_.vm->code;
  block.page_word = &code.word(source.gpa);
  block.version = code.version(source.gpa);
  if (!source.second_gpa) return;
  bool covered = code.covers(source.second_gpa);
  block.second_page = source.second_gpa;
  block.second_word = covered ? &code.word(source.second_gpa) : &uncached_word;
  block.second_version = block.second_word->load(std::memory_order_relaxed);
}

/// Decodes at `source`; keeps the block in the cache, or leaves it in single_ and ops_ until the next time.
CodeBlock* BlockCache::decode(Source& source, unsigned max_ops, bool keep) {
  ++core_.stats.blocks_decoded;
  CodeBlock block;
  block.gpa = source.gpa;
  block.mode = core_.block_mode;
  block.page_word = &uncached_word;
  block.watched = may_hold_execution_point(core_, source.gpa & (kPageSize - 1));
  if (keep) {
    block.epoch = mark(source.gpa);
    remember_pages(source, block);
  }
  if (!source.host) {
    unsigned size = std::min(source.available, kMaxInstruction);
    fetch_slow(core_, source.gpa, source.joined.data(), size);
    source.available = size;
  }
  decode_ops(source, max_ops, block);
  if (block.op_count == 0) {
    if (!locate_second_page(source)) return nullptr;
    block.second_word = &uncached_word;
    if (keep) remember_pages(source, block);
    decode_ops(source, 1, block);
  }
  if (!keep) {
    single_ = block;
    single_.epoch = 1;  // not linkable
    single_.ops = ops_.data();
    return &single_;
  }
  if (acknowledged(core_, block.epoch)) block.epoch = 0;
  return store(block, source);
}

/// Copies `block`, its ops and, while provisional, its bytes into the arena and enters it.
CodeBlock* BlockCache::store(const CodeBlock& block, const Source& source) {
  constexpr u64 kAlign = alignof(CodeBlock);
  const bool counted = core_.translation && block.mode & kModeChain;
  u64 ops_bytes = (block.op_count + 1 + counted) * sizeof(Op);
  u64 copy_bytes = block.epoch ? (block.length + kAlign - 1) / kAlign * kAlign : 0;
  u64 size = sizeof(CodeBlock) + ops_bytes + copy_bytes;
  if (used_ + size > kArenaBytes) clear();
  u8* at = arena_.get() + used_;
  used_ += size;
  auto* stored = new (at) CodeBlock(block);
  stored->ops = reinterpret_cast<Op*>(at + sizeof(CodeBlock));
  if (counted) stored->ops[0] = translate::counting_op(core_, block.gpa);
  std::uninitialized_copy_n(ops_.data(), block.op_count + 1, stored->ops + counted);
  if (block.epoch) {
    stored->bytes = at + sizeof(CodeBlock) + ops_bytes;
    std::memcpy(stored->bytes, block.second_word ? source.joined.data() : source.host, block.length);
  }
  CodeBlock*& head = buckets_[bucket_of(block.gpa, block.mode)];
  stored->next = head;
  head = stored;
  return stored;
}

}  // namespace atl::soft
