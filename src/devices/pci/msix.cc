#include "devices/pci/msix.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"
#include "devices/pci/spec.h"

namespace atl::devices {

using namespace pci;

namespace {

constexpr u32 kSmallTable = 0x800;  // with up to 128 vectors, table and pending bits share one page

}  // namespace

Result<std::unique_ptr<Msix>> Msix::create(cpu::Vm& vm, unsigned vectors) {
  if (vectors == 0 || vectors > kMaxMsixVectors)
    return Error(ErrorKind::Invalid, fmt::format("{} MSI-X vectors: must be 1 to {}", vectors, kMaxMsixVectors));
  std::unique_ptr<Msix> msix(new Msix(vectors));
  for (Vector& vector : msix->vectors_) vector.route = TRY(vm.create_msi_route().context("create an interrupt route"));
  return msix;
}

u32 Msix::pba_offset() const {
  return static_cast<u32>(std::max<u64>(kSmallTable, align_up(vectors_.size() * kMsixEntryBytes, kSmallTable)));
}

u64 Msix::bar_bytes() const {
  u64 pba_bytes = align_up(vectors_.size(), 64) / 8;
  return std::max<u64>(kPageSize, std::bit_ceil(pba_offset() + pba_bytes));
}

void Msix::fire(unsigned number) {
  if (number >= vectors_.size()) return;
  Vector& vector = vectors_[number];
  if (!vector.open.load(std::memory_order_acquire)) {
    Lock lock(mutex_);
    if (!vector.open.load(std::memory_order_relaxed)) {
      vector.pending = enabled();
      return;
    }
  }
  vector.route->fire();
}

void Msix::set_control(bool enabled, bool function_masked) {
  Lock lock(mutex_);
  enabled_.store(enabled, std::memory_order_release);
  function_masked_ = function_masked;
  for (Vector& vector : vectors_) refresh(vector);
}

/// Brings a vector's route in line with the masks, and sends what was pending.
void Msix::refresh(Vector& vector) {
  bool open = enabled() && !function_masked_ && !(vector.control & kMsixVectorMasked);
  if (open) vector.route->set_message({vector.address, vector.data});
  vector.open.store(open, std::memory_order_release);
  if (open && std::exchange(vector.pending, false)) vector.route->fire();
}

void Msix::reset() {
  Lock lock(mutex_);
  enabled_.store(false, std::memory_order_release);
  function_masked_ = false;
  for (Vector& vector : vectors_) {
    vector.open.store(false, std::memory_order_release);
    vector.address = 0;
    vector.data = 0;
    vector.control = kMsixVectorMasked;
    vector.pending = false;
  }
}

void Msix::visit(Archive& archive) {
  Lock lock(mutex_);
  u32 number = 0;
  for (Vector& vector : vectors_) {
    archive.field(++number, "address", vector.address);
    archive.field(++number, "data", vector.data);
    archive.field(++number, "control", vector.control);
    archive.field(++number, "pending", vector.pending);
    vector.control &= kMsixVectorMasked;
    if (archive.loading()) refresh(vector);
  }
}

u32 Msix::read_dword(u64 offset) {
  if (offset >= pba_offset()) {
    u32 bits = 0;
    u64 first = (offset - pba_offset()) * 8;
    for (u64 i = first; i < std::min<u64>(first + 32, vectors_.size()); ++i) bits |= u32{vectors_[i].pending} << (i - first);
    return bits;
  }
  if (offset / kMsixEntryBytes >= vectors_.size()) return 0;
  const Vector& vector = vectors_[offset / kMsixEntryBytes];
  switch (offset % kMsixEntryBytes) {
    case 0: return static_cast<u32>(vector.address);
    case 4: return static_cast<u32>(vector.address >> 32);
    case 8: return vector.data;
    default: return vector.control;
  }
}

void Msix::write_dword(u64 offset, u32 value, u32 mask) {
  if (offset / kMsixEntryBytes >= vectors_.size() || offset >= pba_offset()) return;
  Vector& vector = vectors_[offset / kMsixEntryBytes];
  auto merge = [&](u32 old) { return (old & ~mask) | (value & mask); };
  u32 low = static_cast<u32>(vector.address), high = static_cast<u32>(vector.address >> 32);
  switch (offset % kMsixEntryBytes) {
    case 0: vector.address = u64{high} << 32 | (merge(low) & ~3u); break;
    case 4: vector.address = u64{merge(high)} << 32 | low; break;
    case 8: vector.data = merge(vector.data); break;
    default: vector.control = merge(vector.control) & kMsixVectorMasked; break;
  }
  refresh(vector);
}

u64 Msix::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  u64 base = align_down(offset, 4);
  u64 both = read_dword(base);
  if (offset + width > base + 4) both |= u64{read_dword(base + 4)} << 32;
  return both >> (8 * (offset - base)) & byte_mask(width);
}

void Msix::bus_write(u64 offset, u64 value, unsigned width) {
  Lock lock(mutex_);
  u64 base = align_down(offset, 4);
  unsigned shift = static_cast<unsigned>(8 * (offset - base));
  u64 mask = byte_mask(width) << shift;
  value <<= shift;
  write_dword(base, static_cast<u32>(value), static_cast<u32>(mask));
  if (mask >> 32) write_dword(base + 4, static_cast<u32>(value >> 32), static_cast<u32>(mask >> 32));
}

}  // namespace atl::devices
