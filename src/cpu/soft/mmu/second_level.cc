#include "cpu/soft/mmu/second_level.h"

namespace atl::soft {
namespace {

// Below the address in Entry::value.
constexpr u64 kUser = 1, kWritable = 2, kExecutable = 4, kDirty = 8, kGlobal = 16;
constexpr unsigned kPageShiftAt = 5;  // 6 bits
constexpr u64 kBelow = kPageSize - 1;

constexpr u64 mask(unsigned shift) { return (u64{1} << shift) - 1; }

u64 encode(GuestAddr piece, const PageMapping& page) {
  return piece | (page.user ? kUser : 0) | (page.writable ? kWritable : 0) | (page.executable ? kExecutable : 0) |
         (page.dirty ? kDirty : 0) | (page.global ? kGlobal : 0) | u64{page.page_shift} << kPageShiftAt;
}

PageMapping decode(u64 value, u64 linear) {
  const u8 shift = value >> kPageShiftAt & 0x3f;
  const GuestAddr piece = value & ~kBelow;
  return {.gpa = piece | (linear & mask(shift > 12 ? 21 : 12)),
          .page_shift = shift,
          .user = (value & kUser) != 0,
          .writable = (value & kWritable) != 0,
          .executable = (value & kExecutable) != 0,
          .dirty = (value & kDirty) != 0,
          .global = (value & kGlobal) != 0};
}

u64 start_of_piece(u64 linear) { return linear & ~mask(21); }

}  // namespace

SecondLevel::Set& SecondLevel::set_of(u64 linear, u32 epoch, bool large) {
  const u64 number = linear >> (large ? kLargeShift : 12);
  const u64 hash = number ^ number >> 10 ^ u64{epoch} * 0x9d;
  return large ? large_[hash % kLargeSets] : small_[hash % kSmallSets];
}

const SecondLevel::Entry* SecondLevel::find_entry(u64 linear, u32 epoch) const {
  if (epoch == 0) return nullptr;
  const u64 wanted = key(linear, epoch), wanted_large = key(start_of_piece(linear), epoch);
  for (const Entry& entry : set_of(linear, epoch, false).ways)
    if (entry.key == wanted) return &entry;
  for (const Entry& entry : set_of(linear, epoch, true).ways)
    if (entry.key == wanted_large) return &entry;
  return nullptr;
}

bool SecondLevel::find(u16 space, u64 linear, PageMapping& out) const {
  // Kernels, up there, have global pages.
  const u32 local = epochs_[space];
  const bool high = linear >> 63;
  const Entry* entry = find_entry(linear, high ? global_epoch_ : local);
  if (!entry) entry = find_entry(linear, high ? local : global_epoch_);
  if (!entry) return false;
  out = decode(entry->value, linear);
  return true;
}

void SecondLevel::put(Set& set, const Entry& entry) {
  Entry* place = &set.ways[victim_++ % kWays];
  for (Entry& way : set.ways)
    if (way.key == entry.key) place = &way;
  *place = entry;
}

void SecondLevel::insert(u16 space, u64 linear, const PageMapping& page) {
  u32& epoch = page.global ? global_epoch_ : epochs_[space];
  if (epoch == 0) {
    const u32 fresh = fresh_epoch();  // may clear all epochs
    epoch = fresh;
  }
  const bool large = page.page_shift > 12;
  has_gib_pages_ |= page.page_shift > kLargeShift;
  const u64 offset = mask(large ? kLargeShift : 12);
  put(set_of(linear, epoch, large), {key(linear & ~offset, epoch), encode(page.gpa & ~offset, page)});
}

/// Numbers run out after many millions of flushes; then everything goes and they start again.
u32 SecondLevel::fresh_epoch() {
  if (last_epoch_ == mask(kEpochBits)) {
    flush_all();
    small_ = {};
    large_ = {};
    last_epoch_ = 0;
  }
  return ++last_epoch_;
}

void SecondLevel::flush_spaces() { epochs_.fill(0); }

void SecondLevel::flush_all() {
  flush_spaces();
  global_epoch_ = 0;
  has_gib_pages_ = false;
}

void SecondLevel::drop(u64 linear, u32 epoch) {
  if (epoch == 0) return;
  const u64 small = key(linear, epoch), large = key(start_of_piece(linear), epoch);
  for (Entry& entry : set_of(linear, epoch, false).ways)
    if (entry.key == small) entry.key = 0;
  for (Entry& entry : set_of(linear, epoch, true).ways)
    if (entry.key == large) entry.key = 0;
  if (has_gib_pages_) drop_gib_page(linear, epoch);
}

/// Other pieces of a page larger than 2 MiB.
void SecondLevel::drop_gib_page(u64 linear, u32 epoch) {
  for (Set& set : large_)
    for (Entry& entry : set.ways) {
      const u64 piece = static_cast<u64>(static_cast<i64>(entry.key >> kEpochBits << kEpochBits) >> (kEpochBits - 12));
      const unsigned shift = entry.value >> kPageShiftAt & 0x3f;
      if ((entry.key & mask(kEpochBits)) == epoch && (piece ^ linear) >> shift == 0) entry.key = 0;
    }
}

void SecondLevel::flush_page(u16 space, u64 linear, bool global) {
  drop(linear, epochs_[space]);
  if (global) drop(linear, global_epoch_);
}

}  // namespace atl::soft
