// Sets of processors on the wire: one bit each, lowest first.
#pragma once

#include <vector>

#include "manage/rpc/xdr.h"

namespace atl::manage {

inline std::vector<bool> cpus_of_map(const Opaque& map) {
  std::vector<bool> cpus(map.bytes.size() * 8);
  for (size_t cpu = 0; cpu < cpus.size(); ++cpu) cpus[cpu] = map.bytes[cpu / 8] >> cpu % 8 & 1;
  return cpus;
}

inline std::vector<u8> map_of_cpus(const std::vector<bool>& cpus, size_t bytes) {
  std::vector<u8> map(bytes);
  for (size_t cpu = 0; cpu < cpus.size() && cpu / 8 < bytes; ++cpu)
    if (cpus[cpu]) map[cpu / 8] = static_cast<u8>(map[cpu / 8] | 1u << cpu % 8);
  return map;
}

}  // namespace atl::manage
