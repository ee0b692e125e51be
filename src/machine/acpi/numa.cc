#include "machine/acpi/numa.h"

#include <algorithm>
#include <numeric>

#include "base/endian.h"

namespace atl::machine {
namespace {

constexpr size_t kHeaderBytes = 36, kLength = 4, kRevision = 8, kChecksum = 9, kOemId = 10;
constexpr u8 kLocal = 10, kRemote = 20;

std::vector<u8> start_table(std::string_view signature, u8 revision) {
  std::vector<u8> table(kHeaderBytes);
  std::ranges::copy(signature, table.begin());
  table[kRevision] = revision;
  std::ranges::copy(std::string_view("ATOLL ATOLLVM "), &table[kOemId]);
  return table;
}

void finish(std::vector<u8>& table) {
  store_le(&table[kLength], static_cast<u32>(table.size()));
  table[kChecksum] = static_cast<u8>(-std::accumulate(table.begin(), table.end(), 0));
}

/// Processor Local APIC Affinity, 5.2.16.1.
void put_processor(std::vector<u8>& table, u32 node, u32 apic_id) {
  constexpr size_t kBytes = 16;
  const size_t at = table.size();
  table.resize(at + kBytes);
  table[at + 1] = kBytes;
  table[at + 2] = static_cast<u8>(node);
  table[at + 3] = static_cast<u8>(apic_id);
  table[at + 4] = 1;  // enabled
  for (unsigned i = 0; i < 3; ++i) table[at + 9 + i] = static_cast<u8>(node >> (8 * (i + 1)));
}

/// Memory Affinity, 5.2.16.2.
void put_memory(std::vector<u8>& table, u32 node, u64 base, u64 size) {
  constexpr u8 kType = 1, kBytes = 40;
  if (size == 0) return;
  const size_t at = table.size();
  table.resize(at + kBytes);
  table[at] = kType;
  table[at + 1] = kBytes;
  store_le(&table[at + 2], node);
  store_le(&table[at + 8], base);
  store_le(&table[at + 16], size);
  table[at + 28] = 1;  // enabled
}

std::vector<u8> affinity_table(const std::vector<NumaNode>& nodes, const RamLayout& ram) {
  std::vector<u8> table = start_table("SRAT", 3);
  table.resize(kHeaderBytes + 12);
  table[kHeaderBytes] = 1;
  u64 first = 0;  // in the guest's memory, without the hole below 4 GiB
  for (u32 node = 0; node < nodes.size(); ++node) {
    for (u32 cpu : nodes[node].cpus) put_processor(table, node, cpu);
    const u64 end = first + nodes[node].bytes, low = std::min(end, ram.low_bytes);
    if (first < low) put_memory(table, node, first, low - first);
    const u64 high = std::max(first, ram.low_bytes);
    if (high < end) put_memory(table, node, kHighRamBase + high - ram.low_bytes, end - high);
    first = end;
  }
  finish(table);
  return table;
}

std::vector<u8> locality_table(const std::vector<NumaNode>& nodes) {
  std::vector<u8> table = start_table("SLIT", 1);
  table.resize(kHeaderBytes + 8);
  store_le(&table[kHeaderBytes], u64{nodes.size()});
  for (size_t from = 0; from < nodes.size(); ++from)
    for (size_t to = 0; to < nodes.size(); ++to)
      table.push_back(to < nodes[from].distances.size() ? nodes[from].distances[to] : from == to ? kLocal : kRemote);
  finish(table);
  return table;
}

}  // namespace

std::vector<std::vector<u8>> numa_tables(const std::vector<NumaNode>& nodes, const RamLayout& ram) {
  if (nodes.empty()) return {};
  return {affinity_table(nodes, ram), locality_table(nodes)};
}

}  // namespace atl::machine
