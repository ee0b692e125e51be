#include "memory/guest_memory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include <cstdlib>

namespace atl::memory {
namespace {

std::shared_ptr<RamBlock> ram(u64 size) { return MUST(RamBlock::create("ram", size, {})); }

/// RAM at [0, 8 KiB) and next to it, of another block, [8 KiB, 12 KiB); ROM at [64 KiB, 68 KiB).
struct GuestMemoryTest : testing::Test {
  GuestMemory memory{
      {{0, 8192, ram(8192), 0, false}, {8192, 4096, ram(4096), 0, false}, {65536, 4096, ram(4096), 0, true}}};
};

TEST_F(GuestMemoryTest, AccessMaySpanAdjacentBlocks) {
  u64 value = 0;
  EXPECT_TRUE(memory.write_object(8188, u64{0x1122334455667788}));
  EXPECT_TRUE(memory.read_object(8188, value));
  EXPECT_EQ(value, 0x1122334455667788u);
  EXPECT_EQ(memory.host(8188, 8, false), nullptr);
  EXPECT_NE(memory.host(8188, 4, true), nullptr);
}

TEST_F(GuestMemoryTest, AccessOutsideRamFailsAndChangesNothing) {
  std::vector<u8> data(8, 0xee);
  EXPECT_FALSE(memory.write(12284, data));
  u32 value = 1;
  EXPECT_TRUE(memory.read_object(12284, value));
  EXPECT_EQ(value, 0u);
  EXPECT_FALSE(memory.read(~u64{0} - 3, data));
  EXPECT_FALSE(memory.fill(4096, 0, ~u64{0}));
  EXPECT_EQ(memory.host(0, ~u64{0}, false), nullptr);
}

TEST_F(GuestMemoryTest, ReadingNothingNeedsNoPlaceForIt) {
  EXPECT_TRUE(memory.read(4096, {}));
  EXPECT_TRUE(memory.read(20'000, {}));
}

TEST_F(GuestMemoryTest, RomIsForLoadersOnly) {
  std::vector<u8> data(4, 1);
  EXPECT_FALSE(memory.write(65536, data));
  EXPECT_FALSE(memory.fill(65536, 1, 4));
  EXPECT_EQ(memory.host(65536, 4, true), nullptr);
  EXPECT_TRUE(memory.load(65536, data));
  EXPECT_TRUE(memory.read(65536, data));
}

TEST_F(GuestMemoryTest, LoadOutsideRamNamesTheAddress) {
  auto status = memory.load(0x20000, std::vector<u8>(16));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().text(), "16 bytes at guest address 0x20000 are not all RAM");
}

TEST_F(GuestMemoryTest, IovecsFollowTheBlocks) {
  std::vector<iovec> list;
  EXPECT_TRUE(memory.append_iovecs(4096, 8192, true, list));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].iov_len, 4096u);
  EXPECT_FALSE(memory.append_iovecs(4096, 8193, true, list));
  EXPECT_FALSE(memory.append_iovecs(65536, 1, true, list));
  EXPECT_EQ(list.size(), 2u);
}

TEST(RamBlock, MoreThanTheHostHasIsRefusedByName) {
  auto r = RamBlock::create("pc.ram", u64{1} << 52, {});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().kind(), ErrorKind::NoSpace);
  EXPECT_NE(r.error().text().find("'pc.ram' of 4294967296 MiB"), std::string::npos);
}

TEST(RamBlock, SizesThatCannotBeAreRefused) {
  EXPECT_FALSE(RamBlock::create("x", 0, {}));
  EXPECT_FALSE(RamBlock::create("x", ~u64{0}, {}));
  EXPECT_FALSE(RamBlock::create("x", ~u64{0} - kPageSize, {}));
}

TEST(RamBlock, SizeIsRoundedUpAndLargeBlocksAreAligned) {
  EXPECT_EQ(ram(1)->size(), kPageSize);
  EXPECT_EQ(reinterpret_cast<u64>(ram(4 * kMiB)->data()) % (2 * kMiB), 0u);
}

TEST(RamBlock, SharedMemoryHasADescriptorThatShowsItsBytes) {
  auto block = MUST(RamBlock::create("x", 8192, {.shared = true}));
  block->data()[5000] = 42;
  u8 byte = 0;
  ASSERT_TRUE(block->fd().valid());
  EXPECT_TRUE(read_exact_at(block->fd(), {&byte, 1}, 5000));
  EXPECT_EQ(byte, 42);
  EXPECT_FALSE(ram(4096)->fd().valid());
}

class RamBackings : public testing::TestWithParam<RamOptions> {};

TEST_P(RamBackings, DiscardedPagesReadAsZeroAndOthersStay) {
  auto block = MUST(RamBlock::create("x", 4 * kPageSize, GetParam()));
  std::fill(block->bytes().begin(), block->bytes().end(), u8{1});
  block->discard(kPageSize - 1, 2 * kPageSize);  // only page 1 lies wholly inside
  EXPECT_EQ(block->data()[kPageSize - 1], 1);
  EXPECT_EQ(block->data()[kPageSize], 0);
  EXPECT_EQ(block->data()[2 * kPageSize - 1], 0);
  EXPECT_EQ(block->data()[2 * kPageSize], 1);
  block->discard(3 * kPageSize, ~u64{0});
  EXPECT_EQ(block->data()[3 * kPageSize], 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, RamBackings,
    testing::Values(RamOptions{}, RamOptions{.shared = true}, RamOptions{.prealloc = true, .dump = false},
                    RamOptions{.backing = RamOptions::Backing::Memfd, .merge = false},
                    RamOptions{.backing = RamOptions::Backing::File, .shared = true, .path = "/tmp"}));

TEST(RamBlock, FileIsCreatedAndGrown) {
  char directory[] = "/tmp/atoll-ram-test-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  std::string path = std::string(directory) + "/ram";
  {
    auto block =
        MUST(RamBlock::create("x", 8192, {.backing = RamOptions::Backing::File, .shared = true, .path = path}));
    block->data()[0] = 9;
  }
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 8192);
  EXPECT_EQ(read_file(path, 8192)->front(), 9);
  ::unlink(path.c_str());
  ::rmdir(directory);
}

TEST(RamBlock, MissingDirectoryIsNamed) {
  auto r = RamBlock::create("x", 4096, {.backing = RamOptions::Backing::File, .path = "/nowhere/ram"});
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().text().find("/nowhere/ram: No such file"), std::string::npos);
}

TEST(RamBlock, PageSizeThatIsNoPowerOfTwoIsRefused) {
  EXPECT_FALSE(RamBlock::create("x", 4096, {.backing = RamOptions::Backing::HugePages, .huge_page_bytes = 3000}));
}

}  // namespace
}  // namespace atl::memory
