#include "machine/acpi/numa.h"

#include <gmock/gmock.h>

#include <numeric>

#include "base/endian.h"

namespace atl::machine {
namespace {

u8 sum(const std::vector<u8>& table) { return static_cast<u8>(std::accumulate(table.begin(), table.end(), 0)); }

TEST(Numa, NodesWithoutEndAreNotTold) { EXPECT_TRUE(numa_tables({}, {.low_bytes = kGiB}).empty()); }

TEST(Numa, MemoryIsCutAtTheHoleBelowFourGigabytes) {
  const std::vector<NumaNode> nodes = {{.bytes = 2 * kGiB, .cpus = {0, 1}}, {.bytes = 2 * kGiB, .cpus = {2}}};
  const auto tables = numa_tables(nodes, {.low_bytes = 3 * kGiB, .high_bytes = kGiB});
  ASSERT_EQ(tables.size(), 2u);
  const std::vector<u8>& srat = tables[0];
  EXPECT_EQ(sum(srat), 0);
  EXPECT_EQ(load_le<u32>(&srat[4]), srat.size());
  EXPECT_EQ(srat.size(), 48u + 3 * 16 + 3 * 40);
  const u8* second = &srat[48 + 2 * 16 + 40];  // node 1: its processor, then its memory in two pieces
  EXPECT_EQ(second[2], 1);
  EXPECT_EQ(second[3], 2);
  EXPECT_EQ(load_le<u64>(second + 16 + 8), 2 * kGiB);
  EXPECT_EQ(load_le<u64>(second + 16 + 16), kGiB);
  EXPECT_EQ(load_le<u64>(second + 56 + 8), kHighRamBase);
  EXPECT_EQ(load_le<u64>(second + 56 + 16), kGiB);
}

TEST(Numa, DistancesAreThoseGivenOrTheUsualOnes) {
  const auto tables = numa_tables({{.bytes = kMiB}, {.bytes = kMiB, .distances = {31, 10}}}, {.low_bytes = 2 * kMiB});
  const std::vector<u8>& slit = tables[1];
  EXPECT_EQ(sum(slit), 0);
  EXPECT_EQ(load_le<u64>(&slit[36]), 2u);
  EXPECT_THAT(std::vector<u8>(slit.begin() + 44, slit.end()), testing::ElementsAre(10, 20, 31, 10));
}

}  // namespace
}  // namespace atl::machine
