#include <cpuid.h>

#include <algorithm>

#include "cpu/cpu_features.h"
#include "cpu/cpuid.h"

namespace atl::cpu {
namespace {

auto key(const CpuidEntry& e) { return std::pair(e.leaf, e.subleaf); }

bool answers(const CpuidEntry& e, u32 leaf, u32 subleaf) {
  return e.leaf == leaf && (!e.has_subleaf || e.subleaf == subleaf);
}

/// Leaves whose subleaves matter, and how many of them are worth asking for.
u32 subleaves_of(u32 leaf) {
  switch (leaf) {
    case 4: case 0x8000001d: return 8;
    case 7: return 3;
    case 0xb: return 3;
    case 0xd: return 32;
    default: return 0;
  }
}

void append_leaf(std::vector<CpuidEntry>& out, u32 leaf) {
  u32 count = subleaves_of(leaf);
  for (u32 sub = 0; sub < std::max(count, 1u); ++sub) {
    CpuidEntry e{.leaf = leaf, .subleaf = sub, .has_subleaf = count != 0};
    __cpuid_count(leaf, sub, e.eax, e.ebx, e.ecx, e.edx);
    out.push_back(e);
  }
}

}  // namespace

CpuidTable::CpuidTable(std::vector<CpuidEntry> entries) : entries_(std::move(entries)) {
  std::ranges::sort(entries_, {}, key);
}

const CpuidEntry* CpuidTable::find(u32 leaf, u32 subleaf) const {
  auto at = std::ranges::lower_bound(entries_, leaf, {}, &CpuidEntry::leaf);
  for (; at != entries_.end() && at->leaf == leaf; ++at)
    if (answers(*at, leaf, subleaf)) return &*at;
  return nullptr;
}

void CpuidTable::set(const CpuidEntry& entry) {
  auto at = std::ranges::lower_bound(entries_, key(entry), {}, key);
  if (at != entries_.end() && key(*at) == key(entry)) *at = entry;
  else entries_.insert(at, entry);
}

CpuidEntry CpuidTable::query(u32 leaf, u32 subleaf) const {
  // The hypervisor range answers for itself: a leaf that is not there gives zeroes or, above its maximum, the basic one.
  const CpuidEntry* base = find(leaf >= 0x40000000 ? leaf & 0xffff0000 : 0, 0);
  bool in_range = base && leaf <= base->eax;
  if (in_range) {
    const CpuidEntry* found = find(leaf, subleaf);
    return found ? *found : CpuidEntry{.leaf = leaf, .subleaf = subleaf};
  }
  const CpuidEntry* basic = find(0, 0);
  if (!basic || basic->eax == leaf) return {.leaf = leaf, .subleaf = subleaf};
  const CpuidEntry* last = find(basic->eax, subleaf);
  return last ? *last : CpuidEntry{.leaf = leaf, .subleaf = subleaf};
}

bool CpuidTable::has(std::string_view feature) const {
  const Feature* known = find_feature(feature);
  if (!known) return false;
  const WordPlace& place = place_of(known->word);
  const CpuidEntry* entry = find(place.leaf, place.subleaf);
  return entry && (entry->*place.reg >> known->bit & 1);
}

CpuidTable host_cpuid() {
  std::vector<CpuidEntry> entries;
  for (u32 base : {0u, 0x80000000u}) {
    u32 last = std::min(__get_cpuid_max(base, nullptr), base + 0x40);
    for (u32 leaf = base; leaf <= last; ++leaf) append_leaf(entries, leaf);
  }
  return CpuidTable(std::move(entries));
}

}  // namespace atl::cpu
