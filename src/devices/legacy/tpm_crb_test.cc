#include "devices/legacy/tpm_crb.h"

#include <gtest/gtest.h>

#include "base/endian.h"

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

class TpmCrbTest : public testing::Test {
 protected:
  void write(u64 at, u32 value) { crb_.bus_write(at, value, 4); }
  u32 read(u64 at) { return static_cast<u32>(crb_.bus_read(at, 4)); }
  void send(u32 size) {
    write(0x08, 1);
    write(0x40, 1);
    u8 header[12] = {0x80, 0x01, 0, 0, 0, 0, 0, 0, 1, 0x44, 0, 0};
    store_be(header + 2, size);
    for (u64 i = 0; i < 12; ++i) crb_.bus_write(0x80 + i, header[i], 1);
    write(0x4c, 1);
  }

  FakeTpm* tpm_ = new FakeTpm();
  TpmCrb crb_{std::unique_ptr<TpmBackend>(tpm_)};
};

TEST_F(TpmCrbTest, TellsWhatItIsAndWhereItsBufferIs) {
  EXPECT_EQ(read(0x30) & 0xf, 1u);
  EXPECT_EQ(read(0x5c), 0xfed40080u);
  EXPECT_EQ(read(0x58), 0xf80u);
  EXPECT_EQ(read(0x44), 2u);
}

TEST_F(TpmCrbTest, ACommandRunsAndItsResponseIsRead) {
  send(12);
  EXPECT_EQ(read(0x4c), 1u);
  ASSERT_EQ(tpm_->last.size(), 12u);
  EXPECT_EQ(tpm_->last[9], 0x44);
  tpm_->answer({0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0});
  EXPECT_EQ(read(0x4c), 0u);
  EXPECT_EQ(read(0x80), 0x0180u);
}

TEST_F(TpmCrbTest, WithoutLocalityNothingHappens) {
  write(0x4c, 1);
  EXPECT_TRUE(tpm_->last.empty());
}

TEST_F(TpmCrbTest, ALengthPastTheBufferIsFatalToTheInterfaceOnly) {
  send(0x10000);
  EXPECT_TRUE(tpm_->last.empty());
  EXPECT_EQ(read(0x44) & 1, 1u);
}

TEST_F(TpmCrbTest, AResponseThatIsMissingIsFatal) {
  send(12);
  tpm_->answer({});
  EXPECT_EQ(read(0x44) & 1, 1u);
}

TEST_F(TpmCrbTest, AResetRestartsTheTpmAndDropsALateResponse) {
  send(12);
  crb_.reset();
  EXPECT_EQ(tpm_->restarts, 1);
  tpm_->answer({0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0});
  EXPECT_EQ(read(0x80), 0u);
}

}  // namespace
}  // namespace atl::devices
