// Numbers about a running VM: from its control group, from /proc, from its tap devices, and from the VM itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manage/domain/domain.h"

namespace atl::manage {

/// `current`: those that are plugged in, not the most that can be.
u64 vcpu_count(const Element& domain, bool current);
/// 0 if it does not run.
u64 cpu_time_ns(const Domain& domain);

struct ThreadTime {
  u64 cpu_ns = 0, wait_ns = 0;
  i32 processor = -1;
};
/// Of one thread of any process; zeroes if it is gone.
ThreadTime thread_time(int thread);

struct BlockStats {
  std::string alias;
  u64 read_requests = 0, read_bytes = 0, read_ns = 0, write_requests = 0, write_bytes = 0, write_ns = 0, flushes = 0, flush_ns = 0;
};
/// Of all disks of a running domain, asked at once; `patience_ns` for the VM.
Result<std::vector<BlockStats>> block_stats(const Domain& domain, u64 patience_ns);

struct NetStats {
  u64 rx_bytes = 0, rx_packets = 0, rx_errors = 0, rx_dropped = 0, tx_bytes = 0, tx_packets = 0, tx_errors = 0, tx_dropped = 0;
};
/// Of a tap device, as the guest sees it: what the host sends is what it receives. An error if there is no such device.
Result<NetStats> net_stats(const std::string& device);

/// Resident memory in KiB; nothing if it does not run.
std::optional<u64> resident_kib(const Domain& domain);

/// Size of a disk's image, from the file and from its header.
struct ImageSize {
  u64 capacity = 0, allocation = 0, physical = 0;
};
Result<ImageSize> image_size(const Domain& domain, const Element& disk, u64 patience_ns);
// What libvirt's functions say of a disk that is not there: each has its own words.
inline constexpr std::string_view kInvalidPath = "invalid path {} not assigned to domain";
inline constexpr std::string_view kNotInDomain = "disk '{}' not found in domain";
inline constexpr std::string_view kNotInConfig = "disk '{}' was not found in the domain config";
/// The disk with this target or source path; InvalidArg with these words if there is none.
Result<const Element*> find_disk(const Element& domain, const std::string& path, std::string_view words = kInvalidPath);

}  // namespace atl::manage
