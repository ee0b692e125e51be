// What the guest is told of NUMA nodes: System Resource Affinity and System Locality tables (ACPI 6.4, 5.2.16 and 5.2.17).
#pragma once

#include <vector>

#include "base/types.h"
#include "machine/config.h"
#include "machine/loaders/e820.h"

namespace atl::machine {

/// Whole tables, SRAT and SLIT; none without nodes. Processors have their index as APIC id.
std::vector<std::vector<u8>> numa_tables(const std::vector<NumaNode>& nodes, const RamLayout& ram);

}  // namespace atl::machine
