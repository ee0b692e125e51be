#include "base/statistics.h"

#include <linux/kvm.h>
#include <unistd.h>

#include <cstring>

#include <fmt/format.h>

#include "base/endian.h"

namespace atl {
namespace {

constexpr size_t kContentMax = 256 * kKiB;
constexpr u32 kMaxDescriptors = 4096;

Error bad(std::string_view what) { return Error(ErrorKind::Invalid, fmt::format("KVM statistics: {}", what)); }

/// What the flags of a descriptor say; a kind that is not known yet is an error.
Result<Statistic> form_of(const kvm_stats_desc& desc, std::string name) {
  Statistic out{.name = std::move(name), .values = {}};
  const u32 kind = (desc.flags & KVM_STATS_TYPE_MASK) >> KVM_STATS_TYPE_SHIFT;
  const u32 unit = (desc.flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT;
  if (kind > static_cast<u32>(Statistic::Kind::LogHistogram)) return bad(out.name + " is of an unknown kind");
  out.kind = static_cast<Statistic::Kind>(kind);
  out.unit = unit > static_cast<u32>(Statistic::Unit::Boolean) ? Statistic::Unit::None : static_cast<Statistic::Unit>(unit);
  out.base = (desc.flags & KVM_STATS_BASE_MASK) == KVM_STATS_BASE_POW2 ? 2 : 10;
  out.exponent = desc.exponent;
  if (out.kind == Statistic::Kind::LinearHistogram) out.bucket_size = desc.bucket_size;
  return out;
}

Result<kvm_stats_header> header_of(std::span<const u8> content) {
  kvm_stats_header header;
  if (content.size() < sizeof header) return bad("no header");
  std::memcpy(&header, content.data(), sizeof header);
  const u64 stride = sizeof(kvm_stats_desc) + u64{header.name_size};
  if (header.name_size == 0 || header.name_size > kKiB || header.num_desc > kMaxDescriptors ||
      header.desc_offset + header.num_desc * stride > content.size())
    return bad("descriptors past the end");
  return header;
}

}  // namespace

Result<std::vector<Statistic>> decode_kvm_statistics(std::span<const u8> content) {
  const kvm_stats_header header = TRY(header_of(content));
  std::vector<Statistic> list;
  for (u32 i = 0; i < header.num_desc; ++i) {
    const u8* at = content.data() + header.desc_offset + i * (sizeof(kvm_stats_desc) + header.name_size);
    kvm_stats_desc desc;
    std::memcpy(&desc, at, sizeof desc);
    const char* text = reinterpret_cast<const char*>(at + sizeof desc);
    auto statistic = form_of(desc, std::string(text, ::strnlen(text, header.name_size)));
    if (!statistic) continue;
    const u64 begin = u64{header.data_offset} + desc.offset;
    if (begin + u64{desc.size} * 8 > content.size()) return bad("data of " + statistic->name + " past the end");
    for (u16 n = 0; n < desc.size; ++n) statistic->values.push_back(load_le<u64>(content.data() + begin + u64{n} * 8));
    list.push_back(*std::move(statistic));
  }
  return list;
}

std::vector<Statistic> read_kvm_statistics(const Fd& fd) {
  if (!fd) return {};
  std::vector<u8> content(kContentMax);
  const ssize_t n = ::pread(fd.get(), content.data(), content.size(), 0);
  if (n <= 0) return {};
  auto list = decode_kvm_statistics({content.data(), static_cast<size_t>(n)});
  return list ? *std::move(list) : std::vector<Statistic>();
}

}  // namespace atl
