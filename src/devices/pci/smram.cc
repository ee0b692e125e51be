#include "devices/pci/smram.h"

#include "base/log.h"

namespace atl::devices {
namespace {

constexpr u64 kWindowBase = 0xa0000, kWindowBytes = 0x20000;
constexpr int kPriority = 2;  // over the display adapter's window

std::shared_ptr<memory::RamBlock> ram_at_zero(const memory::AddressSpace& memory) {
  const auto map = memory.map();
  const auto* slot = map->find(0);
  return slot ? slot->region->ram : nullptr;
}

}  // namespace

Smram::Smram(memory::AddressSpace& memory, u64 low_bytes) : memory_(memory), low_bytes_(low_bytes), ram_(ram_at_zero(memory)) {}

Smram::~Smram() { unmap(); }

void Smram::apply(const Settings& settings) {
  if (settings == settings_ || !ram_) return;
  settings_ = settings;
  memory::AddressSpace::Batch batch(memory_);
  unmap();
  if (settings.open || settings.enabled) {
    map({.name = "smram", .base = kWindowBase, .size = kWindowBytes, .priority = kPriority, .ram = ram_, .ram_offset = kWindowBase,
         .audience = settings.open ? memory::Audience::Both : memory::Audience::SmmOnly});
  }
  if (settings.enabled && settings.tseg_bytes && settings.tseg_bytes < low_bytes_) {
    map({.name = "tseg-hidden", .base = low_bytes_ - settings.tseg_bytes, .size = settings.tseg_bytes, .priority = kPriority,
         .device = &hidden_, .audience = memory::Audience::NormalOnly});
  }
}

void Smram::map(memory::Region region) {
  auto id = memory_.add(std::move(region));
  if (id) regions_.push_back(*id);
  else log_warning("system management memory: {}", id.error().text());
}

void Smram::unmap() {
  for (memory::RegionId id : regions_) memory_.remove(id);
  regions_.clear();
}

}  // namespace atl::devices
