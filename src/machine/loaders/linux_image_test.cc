#include "machine/loaders/linux_image.h"

#include <gmock/gmock.h>

#include "machine/loaders/loader_fixture.h"

namespace atl::machine {
namespace {

using testing::HasSubstr;

class LinuxImageTest : public LoaderTest {
 protected:
  /// Boot sector, one setup sector, and 4096 bytes of "kernel".
  static std::vector<u8> image(bool entry64 = true) {
    std::vector<u8> out(1024 + 4096);
    out[0x1f1] = 1;
    store_le<u32>(&out[0x1f4], 4096 / 16);
    store_le<u16>(&out[0x1fe], 0xaa55);
    out[0x201] = 0x66;
    store_le<u32>(&out[0x202], 0x53726448);
    store_le<u16>(&out[0x206], 0x020f);
    out[0x211] = 1;
    store_le<u32>(&out[0x22c], 0x7fffffff);
    store_le<u16>(&out[0x236], entry64 ? 1 : 0);
    store_le<u32>(&out[0x238], 2047);
    store_le<u64>(&out[0x258], 0x1000000);
    store_le<u32>(&out[0x260], 0x100000);
    out[1024] = 0xeb;
    return out;
  }
};

TEST_F(LinuxImageTest, NewKernelStartsInLongModeWithZeroPage) {
  const BootEntry entry = MUST(load({.kernel = file(image()), .append = "console=ttyS0"}));  // a good image
  EXPECT_EQ(entry.mode, BootEntry::Mode::Long64);
  EXPECT_EQ(entry.ip, 0x100200u);
  EXPECT_EQ(entry.rsi, kBootInfo);
  EXPECT_EQ(peek<u8>(0x100000), 0xeb);
  EXPECT_STREQ(reinterpret_cast<const char*>(ram->data() + kBootCommandLine), "console=ttyS0");
  EXPECT_EQ(peek<u32>(kBootInfo + 0x228), kBootCommandLine);
  EXPECT_EQ(peek<u64>(kBootInfo + 0x70), 0xe0000u);
  EXPECT_EQ(peek<u8>(kBootInfo + 0x1e8), 4);
  EXPECT_EQ(peek<u64>(kBootInfo + 0x2d0 + 3 * 20), 0x100000u);
  EXPECT_EQ(peek<u64>(kBootInfo + 0x2d0 + 3 * 20 + 8), kRam - kMiB);
}

TEST_F(LinuxImageTest, OldKernelStartsInProtectedMode) {
  const BootEntry entry = MUST(load({.kernel = file(image(false))}));  // a good image
  EXPECT_EQ(entry.mode, BootEntry::Mode::Protected32);
  EXPECT_EQ(entry.ip, 0x100000u);
}

TEST_F(LinuxImageTest, FileShorterThanItsHeaderSaysIsRefused) {
  std::vector<u8> cut = image();
  cut.resize(cut.size() - 16);
  auto entry = load({.kernel = file(cut)});
  ASSERT_FALSE(entry.has_value());
  EXPECT_THAT(entry.error().text(), HasSubstr("truncated"));
}

TEST_F(LinuxImageTest, InitrdLiesAtTheTopOfRam) {
  const std::vector<u8> initrd(5000, 0x77);
  ASSERT_TRUE(load({.kernel = file(image()), .initrd = file(initrd)}).has_value());
  EXPECT_EQ(peek<u32>(kBootInfo + 0x218), kRam - 8192);
  EXPECT_EQ(peek<u32>(kBootInfo + 0x21c), 5000u);
  EXPECT_EQ(peek<u8>(kRam - 8192 + 4999), 0x77);
}

TEST_F(LinuxImageTest, InitrdThatDoesNotFitIsNamed) {
  const std::string initrd = file(std::vector<u8>(48 * kMiB, 1));
  EXPECT_THAT(failure({.kernel = file(image()), .initrd = initrd}), testing::AllOf(HasSubstr(initrd), HasSubstr("do not fit")));
}

TEST_F(LinuxImageTest, TruncatedImagesAreRefusedByName) {
  std::vector<u8> whole = image();
  for (size_t size : {size_t{1}, size_t{0x1ff}, size_t{0x206}, size_t{0x22f}, size_t{1024}}) {
    const std::string path = file({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    EXPECT_THAT(failure({.kernel = path}), HasSubstr(path)) << size;
  }
}

TEST_F(LinuxImageTest, KernelThatNeedsMoreRamIsStartedAllTheSame) {
  std::vector<u8> hungry = image();
  store_le<u32>(&hungry[0x260], 0x10000000);
  const std::vector<u8> initrd(5000, 0x77);
  ASSERT_TRUE(load({.kernel = file(hungry), .initrd = file(initrd)}).has_value());
  EXPECT_EQ(peek<u32>(kBootInfo + 0x218), kRam - 8192);
  store_le<u64>(&hungry[0x258], ~u64{0});
  EXPECT_THAT(failure({.kernel = file(hungry)}), HasSubstr("overflow"));
}

TEST_F(LinuxImageTest, CommandLineLongerThanTheKernelTakesIsRefused) {
  EXPECT_THAT(failure({.kernel = file(image()), .append = std::string(2048, 'x')}), HasSubstr("at most 2047"));
}

TEST_F(LinuxImageTest, ZImageIsRefused) {
  std::vector<u8> low = image();
  low[0x211] = 0;
  EXPECT_THAT(failure({.kernel = file(low)}), HasSubstr("zImage"));
}

TEST_F(LinuxImageTest, MissingEmptyAndOtherFilesAreRefused) {
  EXPECT_THAT(failure({.kernel = "/nonexistent/vmlinuz"}), HasSubstr("kernel /nonexistent/vmlinuz: No such file"));
  EXPECT_THAT(failure({.kernel = file({})}), HasSubstr("empty"));
  EXPECT_THAT(failure({.kernel = "/tmp"}), HasSubstr("not a regular file"));
  EXPECT_THAT(failure({.kernel = file(std::vector<u8>(4096, 0x90))}), HasSubstr("not a kernel"));
  EXPECT_THAT(failure({.kernel = file(image()), .initrd = "/nonexistent/initrd"}), HasSubstr("initrd /nonexistent/initrd"));
}

}  // namespace
}  // namespace atl::machine
