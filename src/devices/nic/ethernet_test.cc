#include "devices/nic/ethernet.h"

#include <gtest/gtest.h>

#include "base/endian.h"

namespace atl::devices::ethernet {
namespace {

/// Ethernet, IPv4 and TCP headers with `payload` bytes behind them and right checksums.
std::vector<u8> tcp_frame(size_t payload) {
  std::vector<u8> f(54 + payload);
  for (size_t i = 54; i < f.size(); ++i) f[i] = static_cast<u8>(i * 7);
  f[12] = 8;
  f[14] = 0x45;
  store_be<u16>(&f[16], static_cast<u16>(f.size() - 14));
  store_be<u16>(&f[18], 100);
  f[22] = 64;
  f[23] = kProtocolTcp;
  store_be<u32>(&f[26], 0x0a00020f);
  store_be<u32>(&f[30], 0x0a000202);
  store_be<u32>(&f[38], 0xfffffff0);  // sequence numbers wrap
  f[46] = 0x50;
  f[47] = 0x19;  // ACK, PSH, FIN
  complete_checksums(f, {.ip = true, .tcp = true});
  return f;
}

TEST(EthernetTest, CrcIsThatOf8023) {
  const std::string text = "123456789";
  EXPECT_EQ(crc({reinterpret_cast<const u8*>(text.data()), text.size()}), 0xcbf43926u);
}

TEST(EthernetTest, HashOfKnownMulticastAddress) {
  const u8 all_hosts[6] = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};
  EXPECT_EQ(multicast_hash(all_hosts), 31u);  // as Linux's ether_crc(ETH_ALEN, addr) >> 26 gives
}

TEST(EthernetTest, CompletedChecksumsAreGoodAndDamageIsSeen) {
  std::vector<u8> f = tcp_frame(33);
  ChecksumReport report = check(f);
  EXPECT_TRUE(report.ip && report.ip_good && report.tcp && report.transport_good);
  f[60] ^= 1;
  report = check(f);
  EXPECT_TRUE(report.ip_good);
  EXPECT_FALSE(report.transport_good);
}

TEST(EthernetTest, LargeSegmentBecomesGoodPieces) {
  const std::vector<u8> f = tcp_frame(2500);
  std::vector<std::vector<u8>> pieces;
  ASSERT_TRUE(segment(f, {.ip = 14, .tcp = 34, .header_bytes = 54, .mss = 1000},
                      [&](std::span<const u8> piece) { pieces.emplace_back(piece.begin(), piece.end()); }));
  ASSERT_EQ(pieces.size(), 3u);
  std::vector<u8> payload;
  for (size_t i = 0; i < 3; ++i) {
    const ChecksumReport report = check(pieces[i]);
    EXPECT_TRUE(report.ip_good && report.transport_good);
    EXPECT_EQ(load_be<u16>(&pieces[i][18]), 100 + i);
    EXPECT_EQ(load_be<u32>(&pieces[i][38]), 0xfffffff0u + static_cast<u32>(i) * 1000);
    EXPECT_EQ(pieces[i][47], i == 2 ? 0x19 : 0x10);
    payload.insert(payload.end(), pieces[i].begin() + 54, pieces[i].end());
  }
  EXPECT_EQ(payload, std::vector<u8>(f.begin() + 54, f.end()));
}

TEST(EthernetTest, SegmentWithHeadersOutsideIsRefused) {
  const std::vector<u8> f = tcp_frame(100);
  auto never = [](std::span<const u8>) { FAIL(); };
  EXPECT_FALSE(segment(f, {.ip = 14, .tcp = 34, .header_bytes = 54, .mss = 0}, never));
  EXPECT_FALSE(segment(f, {.ip = 14, .tcp = 20, .header_bytes = 54, .mss = 10}, never));
  EXPECT_FALSE(segment(f, {.ip = 14, .tcp = 34, .header_bytes = 500, .mss = 10}, never));
}

TEST(EthernetTest, ShortAndOddFramesAreLookedAtSafely) {
  std::vector<u8> f = tcp_frame(10);
  for (size_t size = 0; size < f.size(); ++size) {
    std::vector<u8> part(f.begin(), f.begin() + static_cast<std::ptrdiff_t>(size));
    (void)check(part);
    complete_checksums(part, {.ip = true, .tcp = true, .udp = true});
  }
  f[14] = 0x4f;
  (void)check(f);
}

}  // namespace
}  // namespace atl::devices::ethernet
