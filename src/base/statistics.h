// Counters as KVM describes its own (Documentation/virt/kvm/api.rst, "KVM_GET_STATS_FD"), and the decoding of them. What the
// software CPU counts takes the same form. Any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/types.h"

namespace atl {

struct Statistic {
  enum class Kind : u8 { Cumulative, Instant, Peak, LinearHistogram, LogHistogram };
  enum class Unit : u8 { None, Bytes, Seconds, Cycles, Boolean };

  std::string name;
  Kind kind = Kind::Cumulative;
  Unit unit = Unit::None;
  u8 base = 10;              // of the scale: 2 or 10
  i16 exponent = 0;
  u32 bucket_size = 0;       // LinearHistogram
  std::vector<u64> values;   // one, but for histograms

  bool operator==(const Statistic&) const = default;
};

/// Decodes the content of one statistics descriptor: header, id, descriptors, data. Malformed content is an error.
Result<std::vector<Statistic>> decode_kvm_statistics(std::span<const u8> content);
/// Reads and decodes a statistics descriptor; nothing from one that is not valid or tells nothing.
std::vector<Statistic> read_kvm_statistics(const Fd& fd);

}  // namespace atl
