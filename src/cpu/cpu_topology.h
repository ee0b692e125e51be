// CPUID's description of packages, cores, threads and caches (SDM vol. 3, 9.9.3; AMD APM vol. 3, E.4.15).
//
// APIC ids are the vCPU indexes, so a level's width is the smallest power of two that holds its members; with more than
// one socket the counts of cores and threads should be powers of two, else guests see sockets cut differently.
#pragma once

#include "cpu/cpu_features.h"
#include "cpu/cpuid.h"

namespace atl::cpu {

/// Adds or amends the leaves that depend on the vCPU's place: 1, 4, 0xb, 0x80000001 (cmp-legacy), 5, 6, 8, 0x1d, 0x1e.
void add_topology(CpuidTable& table, const FeatureSet& features, const Topology& topology, u32 apic_id, bool amd,
                  u32 level, u32 xlevel);

}  // namespace atl::cpu
