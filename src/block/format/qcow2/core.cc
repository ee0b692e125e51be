#include "block/format/qcow2/core.h"

#include <algorithm>

#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kMaxDefaultCache = 12 * kMiB, kDefaultRefcountCache = 2 * kMiB;
constexpr u64 kDefaultSlice = 4 * kKiB;

u64 slice_bytes(const Header& header, const Options& options) {
  return options.l2_slice_bytes ? options.l2_slice_bytes : std::min(header.geometry.cluster_bytes(), kDefaultSlice);
}

/// As much as maps the whole disk, within reason.
u64 l2_cache_bytes(const Header& header, const Options& options) {
  if (options.l2_cache_bytes) return options.l2_cache_bytes;
  return std::min(header.geometry.l1_entries(header.size_bytes) << header.geometry.cluster_bits, kMaxDefaultCache);
}

}  // namespace

Core::Core(Loop& loop_of_node, NodePtr file_node, NodePtr data_node, Header parsed, Options given)
    : loop(loop_of_node),
      file(std::move(file_node)),
      data(data_node ? std::move(data_node) : file),
      debug(file->debug_points()),
      header(std::move(parsed)),
      options(std::move(given)),
      refcounts(*file, header, epochs, options.refcount_cache_bytes ? options.refcount_cache_bytes : kDefaultRefcountCache,
                options.discards),
      l2(*file, slice_bytes(header, options), header.geometry.cluster_bytes(), l2_cache_bytes(header, options),
         {"l2_load", "l2_update"}),
      name(file->info().filename) {}

Core::~Core() = default;

Task<Status> Core::load() {
  std::vector<u8> bytes(8 * u64{header.l1_entries});
  Status status = co_await read_padded(*file, header.l1_offset, std::span<u8>(bytes));
  CO_TRY(std::move(status));
  l1.resize(header.l1_entries);
  for (size_t i = 0; i < l1.size(); ++i) l1[i] = load_be<u64>(&bytes[8 * i]);
  broken = header.incompatible & kCorrupt;
  co_return Status{};
}

Result<WorkerPool*> Core::workers() {
  if (!pool) pool = TRY(WorkerPool::start("qcow2"));
  return pool.get();
}

}  // namespace atl::block::qcow2
