#include "devices/legacy/tpm_tis.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/endian.h"
#include "devices/legacy/vm_generation.h"

namespace atl::devices {
namespace {

/// Keeps the command until the test answers it.
struct FakeTpm final : TpmBackend {
  void execute(std::vector<u8> command, std::function<void(std::vector<u8>)> done) override {
    last = std::move(command);
    answer = std::move(done);
  }
  Status restart() override {
    ++restarts;
    return {};
  }
  std::vector<u8> last;
  std::function<void(std::vector<u8>)> answer;
  int restarts = 0;
};

constexpr u64 kAccess = 0, kStatus = 0x18, kFifo = 0x24;

class TpmTisTest : public testing::Test {
 protected:
  u8 access(u64 locality) { return static_cast<u8>(tis_.bus_read(locality << 12, 1)); }
  void set_access(u64 locality, u8 value) { tis_.bus_write(locality << 12, value, 1); }
  u32 status() { return static_cast<u32>(tis_.bus_read(kStatus, 4)); }
  void set_status(u8 value) { tis_.bus_write(kStatus, value, 1); }
  void send(std::vector<u8> command) {
    set_access(0, 2);
    set_status(0x40);
    for (u8 byte : command) tis_.bus_write(kFifo, byte, 1);
  }
  static std::vector<u8> command(u32 says, size_t has) {
    std::vector<u8> out(std::max<size_t>(has, 6));
    out[0] = 0x80;
    store_be(&out[2], says);
    out.resize(has);
    return out;
  }

  FakeTpm* tpm_ = new FakeTpm();
  TpmTis tis_{std::unique_ptr<TpmBackend>(tpm_)};
};

TEST_F(TpmTisTest, ACommandRunsAndItsResponseIsReadByteByByte) {
  send(command(12, 12));
  EXPECT_FALSE(status() & 8);  // it has all that it expects
  set_status(0x20);
  ASSERT_EQ(tpm_->last.size(), 12u);
  EXPECT_FALSE(status() & 0x10);
  tpm_->answer({0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 7});
  EXPECT_TRUE(status() & 0x10);
  EXPECT_EQ(status() >> 8 & 0xffff, 10u);
  EXPECT_EQ(tis_.bus_read(kFifo, 4), 0x00000180u);
  for (int i = 0; i < 5; ++i) tis_.bus_read(kFifo, 1);
  EXPECT_EQ(tis_.bus_read(kFifo, 1), 7u);
  EXPECT_FALSE(status() & 0x10);
  set_status(2);  // once more
  EXPECT_EQ(tis_.bus_read(kFifo, 1), 0x80u);
}

TEST_F(TpmTisTest, AnIncompleteCommandDoesNotStart) {
  send(command(12, 11));
  EXPECT_TRUE(status() & 8);
  set_status(0x20);
  EXPECT_TRUE(tpm_->last.empty());
}

TEST_F(TpmTisTest, WhoDoesNotHaveTheLocalityReadsOnes) {
  EXPECT_EQ(status(), 0xffffffffu);
  EXPECT_EQ(access(0), 0x81);
  set_access(0, 2);
  EXPECT_EQ(access(0), 0xa1);
}

TEST_F(TpmTisTest, ARequestWaitsUntilTheLocalityIsFree) {
  set_access(0, 2);
  set_access(2, 2);
  EXPECT_EQ(access(0), 0xa5);
  EXPECT_EQ(access(2), 0x83);
  set_access(0, 0x20);
  EXPECT_EQ(access(2), 0xa1);
}

TEST_F(TpmTisTest, AHigherLocalityTakesOver) {
  set_access(1, 2);
  set_access(0, 8);  // a lower one cannot
  EXPECT_EQ(access(1), 0xa1);
  set_access(3, 8);
  EXPECT_EQ(access(3), 0xa1);
  EXPECT_EQ(access(1), 0x91);
}

TEST_F(TpmTisTest, AFailureOfTheBackEndIsAResponse) {
  send(command(10, 10));
  set_status(0x20);
  tpm_->answer({});
  EXPECT_EQ(status() >> 8 & 0xffff, 10u);
}

TEST_F(TpmTisTest, AResetForgetsTheCommandUnderWay) {
  send(command(10, 10));
  set_status(0x20);
  tis_.reset();
  EXPECT_EQ(tpm_->restarts, 1);
  tpm_->answer({0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0});
  set_access(0, 2);
  EXPECT_FALSE(status() & 0x10);
}

TEST_F(TpmTisTest, ItsStateComesBack) {
  send(command(12, 5));
  Archive saved;
  tis_.visit(saved);
  const auto state = saved.take();
  tis_.reset();
  Archive loaded{std::span<const u8>(state)};
  tis_.visit(loaded);
  EXPECT_TRUE(loaded.status());
  EXPECT_TRUE(status() & 8);
}

TEST(VmGenerationTest, LiesInMemoryAsAGuid) {
  VmGeneration id(*VmGeneration::parse("324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"));
  EXPECT_EQ(id.text(), "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87");
  const auto region = id.memory_region();
  ASSERT_TRUE(region);
  EXPECT_EQ(std::vector<u8>(region->ram->data(), region->ram->data() + 4), (std::vector<u8>{0xaf, 0x6e, 0x4e, 0x32}));
  EXPECT_EQ(region->ram->data()[8], 0xbf);
  EXPECT_FALSE(VmGeneration::parse("324e6eaf-d1d1-4bf6-bf41"));
  EXPECT_NE(*VmGeneration::parse("auto"), *VmGeneration::parse("auto"));
}

}  // namespace
}  // namespace atl::devices
