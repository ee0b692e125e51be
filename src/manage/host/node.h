// The host's processors and memory, as /proc and /sys show them.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "base/types.h"
#include "manage/error.h"

namespace atl::manage::host {

struct NodeCpu {
  u32 id = 0;
  u32 socket = 0, die = 0, core = 0;
  std::vector<u32> siblings;   // threads of the same core, this one included
};

/// A NUMA node; hosts without NUMA have one.
struct NodeCell {
  u32 id = 0;
  u64 memory_kib = 0;
  std::vector<NodeCpu> cpus;
  std::vector<u32> distances;  // to each cell, in their order
};

/// What does not change while we run.
struct Node {
  std::string arch = "x86_64";
  u32 mhz = 0;
  u64 memory_kib = 0;
  u32 present_cpus = 0;        // also those that are offline
  std::vector<u32> online;
  std::vector<NodeCell> cells;
  u32 sockets = 1, cores = 1, threads = 1;  // sockets of one cell
  bool has_iommu = false;
  std::vector<u64> page_kib;   // sizes that this host has pages of

  u32 cpus() const { return static_cast<u32>(online.size()); }
};

/// `root`: what stands before /proc and /sys; "" but in tests.
Result<Node> read_node(const std::string& root);

/// The numbers of a list such as "0-3,8"; those from `limit` on are left out.
std::vector<u32> parse_cpu_list(std::string_view text, u32 limit = 4096);

/// A named counter of /proc/stat or meminfo.
struct Stat {
  std::string name;
  u64 value = 0;
  static constexpr auto kFields = std::tuple{&Stat::name, &Stat::value};
};
/// kernel, user, idle, iowait of one processor (-1: all), in nanoseconds.
Result<std::vector<Stat>> cpu_stats(i32 cpu);
/// total, free, buffers, cached in KiB of one cell (-1: all).
Result<std::vector<Stat>> memory_stats(i32 cell);
/// Free bytes of one cell (-1: all).
Result<u64> free_memory(i32 cell);
/// Free pages of a size in one cell (-1: all).
Result<u64> free_pages(u32 page_kib, i32 cell);

}  // namespace atl::manage::host
