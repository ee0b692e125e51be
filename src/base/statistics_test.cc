#include "base/statistics.h"

#include <gtest/gtest.h>
#include <linux/kvm.h>

#include <cstring>

namespace atl {
namespace {

/// A statistics file with one counter "exits" of two values.
std::vector<u8> statistics_file() {
  constexpr u32 kNameBytes = 16;
  kvm_stats_header header{};
  header.name_size = kNameBytes;
  header.num_desc = 1;
  header.id_offset = sizeof header;
  header.desc_offset = header.id_offset + kNameBytes;
  header.data_offset = static_cast<u32>(header.desc_offset + sizeof(kvm_stats_desc) + kNameBytes);
  std::vector<u8> file(header.data_offset + 16);
  std::memcpy(file.data(), &header, sizeof header);
  kvm_stats_desc desc{};
  desc.flags = KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS;
  desc.exponent = -9;
  desc.size = 2;
  std::memcpy(file.data() + header.desc_offset, &desc, sizeof desc);
  std::memcpy(file.data() + header.desc_offset + sizeof desc, "exits", 5);
  file[header.data_offset] = 40;
  file[header.data_offset + 8] = 2;
  return file;
}

TEST(KvmStatistics, AreDecoded) {
  auto list = decode_kvm_statistics(statistics_file());
  ASSERT_TRUE(list);
  EXPECT_EQ(*list, (std::vector<Statistic>{{.name = "exits", .unit = Statistic::Unit::Seconds, .exponent = -9, .values = {40, 2}}}));
}

TEST(KvmStatistics, TruncatedFilesAreRefused) {
  std::vector<u8> file = statistics_file();
  for (size_t size = 0; size < file.size(); ++size) EXPECT_FALSE(decode_kvm_statistics(std::span(file).first(size))) << size;
}

}  // namespace
}  // namespace atl
