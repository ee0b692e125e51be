#include "net/vnet_header.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/endian.h"
#include "net/backend.h"

namespace atl::net {
namespace {

/// The sum as RFC 1071 spells it out.
u16 slow_sum(std::span<const u8> data) {
  u32 sum = 0;
  for (size_t i = 0; i < data.size(); i += 2) sum += u32{data[i]} | (i + 1 < data.size() ? u32{data[i + 1]} << 8 : 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u16>(sum);
}

TEST(InternetSum, EqualsTheSlowSumAtEveryLength) {
  std::vector<u8> data(100);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<u8>(i * 37 + 200);
  for (size_t size = 0; size <= data.size(); ++size) {
    auto part = std::span<const u8>(data).first(size);
    EXPECT_EQ(internet_sum(part) % 0xffff, slow_sum(part) % 0xffff) << size;
  }
}

TEST(InternetSum, CarriesWrapAround) {
  std::vector<u8> data(65536, 0xff);
  EXPECT_EQ(internet_sum(data), 0xffff);
}

class FinishChecksum : public testing::Test {
 protected:
  std::vector<u8> packet_ = std::vector<u8>(kVnetHeaderBytes + 60, 0x11);
  FinishChecksum() {
    std::fill_n(packet_.begin(), kVnetHeaderBytes, u8{0});
    packet_[0] = kVnetNeedsChecksum;
    store_le<u16>(&packet_[6], 34);
    store_le<u16>(&packet_[8], 16);
  }
};

TEST_F(FinishChecksum, MakesTheSumOverThePartAllOnes) {
  ASSERT_TRUE(finish_checksum(packet_));
  auto part = std::span<const u8>(packet_).subspan(kVnetHeaderBytes + 34);
  // What was in the field (0x1111) was part of the sum: the pseudo-header.
  u16 stored = load_le<u16>(&packet_[kVnetHeaderBytes + 50]);
  std::vector<u8> before(part.begin(), part.end());
  before[16] = before[17] = 0x11;
  EXPECT_EQ(static_cast<u16>(~slow_sum(before)), stored);
}

TEST_F(FinishChecksum, LeavesAFrameAloneThatDoesNotAsk) {
  packet_[0] = 0;
  auto before = packet_;
  EXPECT_TRUE(finish_checksum(packet_));
  EXPECT_EQ(packet_, before);
}

TEST_F(FinishChecksum, OffsetsPastTheFrameAreRefused) {
  store_le<u16>(&packet_[6], 59);
  EXPECT_FALSE(finish_checksum(packet_));
  store_le<u16>(&packet_[6], 0xffff);
  EXPECT_FALSE(finish_checksum(packet_));
  store_le<u16>(&packet_[6], 0);
  store_le<u16>(&packet_[8], 59);
  EXPECT_FALSE(finish_checksum(packet_));
  EXPECT_FALSE(finish_checksum(std::span(packet_).first(5)));
}

}  // namespace
}  // namespace atl::net
