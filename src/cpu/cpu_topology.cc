#include "cpu/cpu_topology.h"

#include <algorithm>
#include <bit>

namespace atl::cpu {
namespace {

struct Cache {
  u8 type;  // 1 data, 2 instruction, 3 unified
  u8 level;
  u16 kib;
  u8 ways;
  bool shared;  // by the whole package
  u16 line = 64;
  u32 sets() const { return kib * 1024u / line / ways; }
};

// What guests size their copy and hash loops by: the figures of a common server core.
constexpr Cache kCaches[] = {
    {1, 1, 32, 8, false}, {2, 1, 32, 8, false}, {3, 2, 512, 8, false}, {3, 3, 16384, 16, true},
};

u32 width(u32 count) { return static_cast<u32>(std::bit_width(std::max(count, 1u) - 1)); }

CpuidEntry entry_or_empty(const CpuidTable& table, u32 leaf, u32 subleaf = 0, bool has_subleaf = false) {
  const CpuidEntry* found = table.find(leaf, subleaf);
  return found ? *found : CpuidEntry{.leaf = leaf, .subleaf = subleaf, .has_subleaf = has_subleaf};
}

u32 threads_sharing(const Cache& cache, const Topology& t) { return cache.shared ? t.cores * t.threads : t.threads; }

/// Leaf 4 and AMD's 8000001D have one format (the field for cores is reserved in the latter).
void add_caches(CpuidTable& table, u32 leaf, const Topology& t, bool amd) {
  u32 index = 0;
  for (const Cache& cache : kCaches) {
    u32 sharing = (1u << width(threads_sharing(cache, t))) - 1;
    u32 cores = amd ? 0 : (1u << width(t.cores)) - 1;
    table.set({.leaf = leaf, .subleaf = index++, .has_subleaf = true,
               .eax = cache.type | cache.level << 5 | 1u << 8 | (sharing & 0xfff) << 14 | (cores & 0x3f) << 26,
               .ebx = (cache.line - 1u) | (cache.ways - 1u) << 22,
               .ecx = cache.sets() - 1});
  }
  table.set({.leaf = leaf, .subleaf = index, .has_subleaf = true});
}

/// The older AMD form: KiB, ways and line size packed.
void add_amd_caches(CpuidTable& table) {
  constexpr u32 kL1 = 32u << 24 | 8 << 16 | 1 << 8 | 64;
  constexpr u32 kL2 = 512u << 16 | 6 << 12 | 1 << 8 | 64;           // associativity code 6: 8 ways
  constexpr u32 kL3 = (16384u / 512) << 18 | 8 << 12 | 1 << 8 | 64;  // code 8: 16 ways
  table.set({.leaf = 0x80000005, .ecx = kL1, .edx = kL1});
  table.set({.leaf = 0x80000006, .ecx = kL2, .edx = kL3});
}

void add_extended_topology(CpuidTable& table, const Topology& t, u32 apic_id) {
  u32 per_socket = t.cores * t.threads;
  table.set({.leaf = 0xb, .subleaf = 0, .has_subleaf = true, .eax = width(t.threads), .ebx = t.threads, .ecx = 0x100,
             .edx = apic_id});
  table.set({.leaf = 0xb, .subleaf = 1, .has_subleaf = true, .eax = width(per_socket), .ebx = per_socket, .ecx = 0x201,
             .edx = apic_id});
  table.set({.leaf = 0xb, .subleaf = 2, .has_subleaf = true, .ecx = 2, .edx = apic_id});
}

void add_leaf_1(CpuidTable& table, const Topology& t, u32 apic_id) {
  u32 per_socket = t.cores * t.threads;
  CpuidEntry one = entry_or_empty(table, 1);
  one.ebx = (one.ebx & 0xff00) | apic_id << 24;
  if (per_socket > 1) {
    one.ebx |= std::min(1u << width(per_socket), 255u) << 16;
    one.edx |= 1u << 28;  // HTT
  }
  table.set(one);
}

void add_amd_core_count(CpuidTable& table, const Topology& t) {
  u32 per_socket = t.cores * t.threads;
  if (per_socket <= 1) return;
  CpuidEntry features = entry_or_empty(table, 0x80000001);
  features.ecx |= 1u << 1;  // CmpLegacy
  table.set(features);
  CpuidEntry sizes = entry_or_empty(table, 0x80000008);
  sizes.ecx = (width(per_socket) & 15) << 12 | std::min(per_socket - 1, 255u);
  table.set(sizes);
}

}  // namespace

void add_topology(CpuidTable& table, const FeatureSet& features, const Topology& topology, u32 apic_id, bool amd,
                  u32 level, u32 xlevel) {
  add_leaf_1(table, topology, apic_id);
  if (level >= 4 && !amd) add_caches(table, 4, topology, false);
  if (level >= 0xb) add_extended_topology(table, topology, apic_id);
  if (!amd) return;
  if (xlevel >= 0x80000006) add_amd_caches(table);
  if (xlevel >= 0x80000008) add_amd_core_count(table, topology);
  if (xlevel < 0x8000001e || !features.has("topoext")) return;
  add_caches(table, 0x8000001d, topology, true);
  table.set({.leaf = 0x8000001e, .eax = apic_id, .ebx = (topology.threads - 1) << 8 | apic_id / topology.threads});
}

}  // namespace atl::cpu
