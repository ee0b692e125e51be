// Making an empty qcow2 image: header, refcount table, first refcount block, L1 table, in this order.
#include <algorithm>

#include "base/math.h"
#include "block/format/qcow2_alloc.h"

namespace atl::block {

using namespace qcow2;

namespace {

constexpr u64 kFirstClusters = 3;  // header, refcount table, refcount block

Status check(const Qcow2CreateOptions& options) {
  auto refuse = [](const char* what) { return Error(ErrorKind::Invalid, std::string("qcow2: ") + what); };
  if (options.version != 2 && options.version != 3) return refuse("version must be 2 or 3");
  if (options.cluster_bits < kMinClusterBits || options.cluster_bits > kMaxClusterBits)
    return refuse("cluster size must be a power of two between 512 and 2M");
  if (options.refcount_order > 6 || (options.version == 2 && options.refcount_order != 4))
    return refuse("refcount width must be a power of two up to 64 bits, and 16 in version 2");
  if (options.size_bytes % kSectorBytes) return refuse("size must be a multiple of 512");
  Geometry g{options.cluster_bits, options.refcount_order};
  if (g.l1_entries(options.size_bytes) > kMaxL1Bytes / 8) return refuse("size is too large for this cluster size");
  return {};
}

/// Counts the first clusters, by themselves: the block for them is one of them.
Task<Status> write_first_refcounts(Node& file, const Geometry& g) {
  std::vector<u8> table(g.cluster_bytes()), block(g.cluster_bytes());
  store_be(&table[0], 2 * g.cluster_bytes());
  for (u64 i = 0; i < kFirstClusters; ++i) {
    u64 bit = i << g.refcount_order;
    if (g.refcount_order < 3)
      block[bit / 8] = static_cast<u8>(block[bit / 8] | 1u << (bit % 8));
    else
      block[(bit + (u64{1} << g.refcount_order)) / 8 - 1] = 1;  // the last byte of a big-endian number
  }
  Status status = co_await write_growing(file, g.cluster_bytes(), std::span<const u8>(table));
  CO_TRY(std::move(status));
  co_return co_await write_growing(file, 2 * g.cluster_bytes(), std::span<const u8>(block));
}

Task<Status> write_l1(Node& file, Qcow2Header& header) {
  Qcow2Allocator allocator(file, header);
  Status status = co_await allocator.load();
  CO_TRY(std::move(status));
  u64 clusters = std::max<u64>(1, header.geometry.clusters(8 * u64{header.l1_entries}));
  Result<Qcow2Allocator::Clusters> place = co_await allocator.allocate(clusters, clusters);
  header.l1_offset = CO_TRY(std::move(place)).offset;
  std::vector<u8> zeroes(clusters << header.geometry.cluster_bits);
  status = co_await write_growing(file, header.l1_offset, std::span<const u8>(zeroes));
  CO_TRY(std::move(status));
  status = co_await allocator.write_back();
  CO_TRY(std::move(status));
  status = co_await file.flush();
  CO_TRY(std::move(status));
  status = co_await allocator.release_pending();  // of a refcount table that had to move
  CO_TRY(std::move(status));
  co_return co_await allocator.write_back();
}

}  // namespace

Task<Status> create_qcow2(Node& file, Qcow2CreateOptions options) {
  CO_TRY(check(options));
  Qcow2Header header;
  header.version = options.version;
  header.geometry = {options.cluster_bits, options.refcount_order};
  header.size_bytes = options.size_bytes;
  header.backing_file = options.backing_file;
  header.backing_format = options.backing_format;
  header.l1_entries = static_cast<u32>(header.geometry.l1_entries(options.size_bytes));
  header.refcount_table_offset = header.geometry.cluster_bytes();
  header.refcount_table_clusters = 1;
  CO_TRY(build_qcow2_header(header));  // refuses names that do not fit before anything is written
  Status status = co_await file.resize(0, Preallocation::Off);
  CO_TRY(std::move(status));
  status = co_await write_first_refcounts(file, header.geometry);
  CO_TRY(std::move(status));
  status = co_await write_l1(file, header);
  CO_TRY(std::move(status));
  std::vector<u8> bytes = CO_TRY(build_qcow2_header(header));
  status = co_await write_growing(file, 0, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await file.flush();
}

}  // namespace atl::block
