#include "machine/loaders/smbios.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "machine/loaders/loader_fixture.h"

namespace atl::machine {
namespace {

class SmbiosTest : public LoaderTest {};

TEST_F(SmbiosTest, AnchorSumsToZeroAndPointsAtTheTables) {
  const SmbiosBlob blob = MUST(build_smbios({.product = "p", .version = "v"}));
  ASSERT_TRUE(install_smbios(blob, *space.guest_memory(), 0xf0000).has_value());
  const u8* anchor = ram->data() + 0xf0000;
  EXPECT_EQ(static_cast<u8>(std::accumulate(anchor, anchor + 31, 0)), 0);
  EXPECT_EQ(static_cast<u8>(std::accumulate(anchor + 16, anchor + 31, 0)), 0);
  EXPECT_EQ(peek<u32>(0xf0000 + 24), 0xf0020u);
  EXPECT_EQ(peek<u16>(0xf0000 + 22), blob.tables.size());
  EXPECT_EQ(blob.tables[0], 0);
}

TEST(Smbios, UuidStandsInMixedByteOrder) {
  const SmbiosBlob blob = MUST(build_smbios({.product = "p", .version = "v", .uuid = "00112233-4455-6677-8899-aabbccddeeff"}));
  const u8 header[] = {1, 27, 0, 1};
  const auto found = std::search(blob.tables.begin(), blob.tables.end(), std::begin(header), std::end(header));
  const auto system = static_cast<size_t>(found - blob.tables.begin());
  ASSERT_LT(system + 24, blob.tables.size());
  const std::vector<u8> wanted = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
  EXPECT_EQ(std::vector<u8>(&blob.tables[system + 8], &blob.tables[system + 24]), wanted);
}

bool contains(const SmbiosBlob& blob, std::string_view text) {
  return std::search(blob.tables.begin(), blob.tables.end(), text.begin(), text.end()) != blob.tables.end();
}

TEST(Smbios, FieldsOfTheUserReplaceDefaults) {
  const SmbiosBlob blob = MUST(build_smbios({.product = "p", .version = "v", .entries = {{.type = 1, .fields = {{"serial", "ds=nocloud"}}},
                                                                                        {.type = 11, .fields = {{"value", "one"}, {"value", "two"}}}}}));
  EXPECT_TRUE(contains(blob, "ds=nocloud"));
  EXPECT_TRUE(contains(blob, std::string_view("one\0two\0", 8)));
}

TEST(Smbios, AFileWithoutStructuresIsRefusedByName) {
  const auto blob = build_smbios({.product = "p", .version = "v", .entries = {{.file = "/proc/self/nothing"}}});
  ASSERT_FALSE(blob);
  EXPECT_NE(blob.error().text().find("/proc/self/nothing"), std::string::npos);
}

TEST(Smbios, MemoryIsListedInModulesOf16GiB) {
  const SmbiosBlob blob = MUST(build_smbios({.product = "p", .version = "v", .ram_bytes = 20 * kGiB}));
  EXPECT_TRUE(contains(blob, "DIMM 1"));
  EXPECT_FALSE(contains(blob, "DIMM 2"));
}

TEST(Smbios, MalformedUuidsAreNoUuids) {
  EXPECT_FALSE(parse_uuid("").has_value());
  EXPECT_FALSE(parse_uuid("00112233-4455-6677-8899-aabbccddeef").has_value());
  EXPECT_FALSE(parse_uuid("0011223g-4455-6677-8899-aabbccddeeff").has_value());
  EXPECT_FALSE(parse_uuid("00112233445566778899aabbccddeeff").has_value());
}

}  // namespace
}  // namespace atl::machine
