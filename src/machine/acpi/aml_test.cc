#include "machine/acpi/aml.h"

#include <gmock/gmock.h>

namespace atl::machine::aml {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

TEST(Aml, IntegersTakeTheShortestForm) {
  EXPECT_THAT(integer(0), ElementsAre(0x00));
  EXPECT_THAT(integer(1), ElementsAre(0x01));
  EXPECT_THAT(integer(0x42), ElementsAre(0x0a, 0x42));
  EXPECT_THAT(integer(0x1234), ElementsAre(0x0b, 0x34, 0x12));
  EXPECT_THAT(integer(0x12345678), ElementsAre(0x0c, 0x78, 0x56, 0x34, 0x12));
  EXPECT_THAT(integer(u64{1} << 32), ElementsAre(0x0e, 0, 0, 0, 0, 1, 0, 0, 0));
}

TEST(Aml, PathsPadAndCountSegments) {
  EXPECT_THAT(path("_CRS"), ElementsAre('_', 'C', 'R', 'S'));
  EXPECT_THAT(path("\\_SB"), ElementsAre('\\', '_', 'S', 'B', '_'));
  EXPECT_THAT(path("_SB.PCI0"), ElementsAre(0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0'));
  EXPECT_THAT(path("\\_SB.PCI0.ISA"),
              ElementsAre('\\', 0x2f, 3, '_', 'S', 'B', '_', 'P', 'C', 'I', '0', 'I', 'S', 'A', '_'));
}

TEST(Aml, EisaIdIsCompressed) { EXPECT_THAT(eisa_id("PNP0A03"), ElementsAre(0x0c, 0x41, 0xd0, 0x0a, 0x03)); }

TEST(Aml, ShortPackageLengthIsOneByte) {
  EXPECT_THAT(scope("_SB", {}), ElementsAre(0x10, 5, '_', 'S', 'B', '_'));
}

TEST(Aml, LongPackageLengthCountsItself) {
  Code body(100, 0);
  Code out = buffer(body);
  ASSERT_THAT(out, SizeIs(1 + 2 + 2 + 100));
  EXPECT_EQ(out[1], 0x40 | (104 & 0xf));
  EXPECT_EQ(out[2], 104 >> 4);
}

TEST(Aml, BoundaryOfOneByteLength) {
  EXPECT_THAT(otherwise({Code(62, 0)}), SizeIs(1 + 1 + 62));
  EXPECT_THAT(otherwise({Code(63, 0)}), SizeIs(1 + 2 + 63));
}

TEST(Aml, MethodCarriesArgumentCountAndSerialization) {
  EXPECT_THAT(method("_STA", 1, Serialized::Yes, {return_value(integer(15))}),
              ElementsAre(0x14, 9, '_', 'S', 'T', 'A', 9, 0xa4, 0x0a, 15));
}

TEST(Aml, ResourcesEndWithEndTag) {
  EXPECT_THAT(resources({irq(4)}), ElementsAre(0x11, 8, 0x0a, 5, 0x22, 0x10, 0x00, 0x79, 0x00));
}

TEST(Aml, MemoryRangeChoosesItsWidth) {
  EXPECT_EQ(memory_range(0xc0000000, 0xfebfffff)[0], 0x87);
  EXPECT_EQ(memory_range(u64{1} << 32, (u64{1} << 33) - 1)[0], 0x8a);
}

}  // namespace
}  // namespace atl::machine::aml
