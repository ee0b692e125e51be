#include "devices/legacy/fw_cfg.h"

#include <gtest/gtest.h>

#include "base/endian.h"

namespace atl::devices {
namespace {

class FwCfgTest : public testing::Test {
 protected:
  void SetUp() override {
    ram = MUST(memory::RamBlock::create("ram", 64 * kKiB, {}));  // a small anonymous mapping
    memory::Region region;
    region.name = "ram";
    region.size = ram->size();
    region.ram = ram;
    MUST(space.add(region));  // an empty space has room
  }
  std::string read_item(u16 key, size_t count) {
    config.bus_write(0, key, 2);
    std::string out;
    while (count--) out.push_back(static_cast<char>(config.bus_read(1, 1)));
    return out;
  }
  u32 dma(u32 control, u32 length, u64 address) {
    u8* request = ram->data() + 0x100;
    store_be(request, control);
    store_be(request + 4, length);
    store_be(request + 8, address);
    config.bus_write(4, 0, 4);
    config.bus_write(8, std::byteswap(u32{0x100}), 4);
    return load_be<u32>(request);
  }

  memory::AddressSpace space{"memory", u64{1} << 32};
  std::shared_ptr<memory::RamBlock> ram;
  FwCfg config{space};
};

TEST_F(FwCfgTest, SignatureAndInterfacesAreThere) {
  EXPECT_EQ(read_item(FwCfg::kSignature, 4), "QEMU");
  EXPECT_EQ(read_item(FwCfg::kId, 1), "\x03");
  EXPECT_EQ(config.bus_read(4, 4), 0x554d4551u);
}

TEST_F(FwCfgTest, BytesPastTheEndAreZero) {
  config.add(FwCfg::kUuid, {1, 2});
  EXPECT_EQ(read_item(FwCfg::kUuid, 4), std::string("\1\2\0\0", 4));
}

TEST_F(FwCfgTest, DirectoryListsFilesByName) {
  config.add_file("etc/b", {1, 2, 3});
  config.add_file("bootorder", {4});
  std::string directory = read_item(FwCfg::kFileDirectory, 4 + 2 * 64);
  EXPECT_EQ(directory[3], 2);
  EXPECT_STREQ(directory.data() + 12, "bootorder");
  EXPECT_EQ(directory[7], 1);
  EXPECT_STREQ(directory.data() + 76, "etc/b");
}

TEST_F(FwCfgTest, DmaSelectsAndReads) {
  config.add_file("f", {9, 8, 7});
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 2, 4, 0x2000), 0u);
  EXPECT_EQ(load_le<u32>(ram->data() + 0x2000), 0x00070809u);
}

TEST_F(FwCfgTest, DmaSkipMovesOn) {
  config.add_file("f", {9, 8, 7});
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 4, 2, 0), 0u);
  EXPECT_EQ(dma(2, 1, 0x2000), 0u);
  EXPECT_EQ(ram->data()[0x2000], 7);
}

TEST_F(FwCfgTest, DmaOutsideRamAndWritesFail) {
  config.add_file("f", {9, 8, 7});
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 2, 3, 0xf0000000), 1u);
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 2, 0xffffffff, 0x2000), 1u);
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 16, 3, 0x2000), 1u);
}

TEST_F(FwCfgTest, RequestOutsideRamIsIgnored) {
  config.bus_write(4, 0xffffffff, 4);
  config.bus_write(8, 0xffffffff, 4);
  EXPECT_EQ(read_item(FwCfg::kSignature, 4), "QEMU");
}

TEST_F(FwCfgTest, ALiveFileIsAskedWhenSelectedAndToldWhatIsWritten) {
  u8 answer = 1;
  std::vector<u8> written;
  config.add_live_file("live", {.size_bytes = 2,
                                .read = [&] { return std::vector<u8>{answer, 2}; },
                                .written = [&](std::span<const u8> data) { written.assign(data.begin(), data.end()); }});
  answer = 7;
  EXPECT_EQ(read_item(FwCfg::kFirstFile, 2), "\x07\x02");
  ram->data()[0x2000] = 0x55;
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 16, 1, 0x2000), 0u);
  EXPECT_EQ(written, (std::vector<u8>{0x55, 2}));
  EXPECT_EQ(dma(u32{FwCfg::kFirstFile} << 16 | 8 | 16, 3, 0x2000), 1u) << "past the end";
  EXPECT_EQ(dma(16, 0xffffffff, 0x2000), 1u);
}

}  // namespace
}  // namespace atl::devices
