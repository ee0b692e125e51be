#include "machine/loaders/multiboot.h"

#include <gmock/gmock.h>

#include "machine/loaders/loader_fixture.h"

namespace atl::machine {
namespace {

using testing::HasSubstr;

class MultibootTest : public LoaderTest {
 protected:
  static std::vector<u8> image(u32 flags = 0x10000) {
    std::vector<u8> out(0x200, 0x90);
    const u32 fields[] = {0x1badb002, flags, 0u - 0x1badb002 - flags, 0x200010, 0x200000, 0x200100, 0x200400, 0x200040};
    std::memcpy(&out[0x10], fields, sizeof fields);
    return out;
  }
};

TEST_F(MultibootTest, AddressFieldsPlaceTheImageAndItsBss) {
  std::fill(ram->data() + 0x200000, ram->data() + 0x201000, u8{0xee});
  const BootEntry entry = MUST(load({.kernel = file(image()), .append = "arg"}));  // a good image
  EXPECT_EQ(entry.mode, BootEntry::Mode::Protected32);
  EXPECT_EQ(entry.ip, 0x200040u);
  EXPECT_EQ(entry.eax, 0x2badb002u);
  EXPECT_EQ(peek<u8>(0x200040), 0x90);
  EXPECT_EQ(peek<u8>(0x200100), 0);
  EXPECT_EQ(peek<u8>(0x200400), 0xee);
  EXPECT_EQ(peek<u32>(entry.ebx + 8), (kRam - kMiB) / kKiB);
}

TEST_F(MultibootTest, ModulesFollowTheImageWithTheirCommandLines) {
  const std::string first = file({1, 2, 3}), second = file({4});
  const BootEntry entry = MUST(load({.kernel = file(image()), .initrd = first + " one," + second}));  // a good image
  EXPECT_EQ(peek<u32>(entry.ebx + 20), 2u);
  const u32 list = peek<u32>(entry.ebx + 24);
  EXPECT_EQ(peek<u32>(list), 0x201000u);
  EXPECT_EQ(peek<u32>(list + 4), 0x201003u);
  EXPECT_STREQ(reinterpret_cast<const char*>(ram->data() + peek<u32>(list + 8)), (first + " one").c_str());
  EXPECT_EQ(peek<u8>(peek<u32>(list + 16)), 4);
}

TEST_F(MultibootTest, MissingModuleIsNamed) {
  EXPECT_THAT(failure({.kernel = file(image()), .initrd = "/nonexistent/module x"}), HasSubstr("/nonexistent/module"));
}

TEST_F(MultibootTest, UnknownRequirementsAreRefused) {
  EXPECT_THAT(failure({.kernel = file(image(0x10008))}), HasSubstr("unknown features"));
}

TEST_F(MultibootTest, HostileAddressesAreRefused) {
  std::vector<u8> bad = image();
  store_le<u32>(&bad[0x10 + 16], 0x300000);  // load address above the header
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("bad addresses"));
  bad = image();
  store_le<u32>(&bad[0x10 + 24], 0xfffffff0);  // bss end outside RAM
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("bss"));
  bad = image();
  store_le<u32>(&bad[0x10 + 20], 0x100000);  // load end before load address
  EXPECT_THAT(failure({.kernel = file(bad)}), HasSubstr("ends before"));
}

TEST(MultibootHeader, WrongChecksumIsNoHeader) {
  std::vector<u8> head(64);
  store_le<u32>(&head[0], 0x1badb002);
  EXPECT_FALSE(MultibootHeader::find(head).has_value());
}

}  // namespace
}  // namespace atl::machine
