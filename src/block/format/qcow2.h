// qcow2 images: versions 2 and 3, read and written.
//
// Supported: every cluster size, every refcount width, backing files, zero clusters, discard, internal snapshots left
// intact (copy on write). Refused by name: compressed clusters, encryption, external data files, extended L2 entries,
// writing to images marked dirty or corrupt. Missing: resize, bitmaps (dropped by the first write, as the format
// demands).
//
// Metadata is written back at flush, in an order that leaves at worst leaked clusters behind after a crash: flush
// before the node goes, or what was written since is lost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block/format/qcow2_spec.h"
#include "block/node.h"

namespace atl::block {

struct Qcow2Header {
  u32 version = 3;
  qcow2::Geometry geometry;
  u64 size_bytes = 0;
  std::string backing_file, backing_format;  // "" if none
  u64 l1_offset = 0;
  u32 l1_entries = 0;
  u64 refcount_table_offset = 0;
  u32 refcount_table_clusters = 0;
  u32 snapshots = 0;
  u64 incompatible = 0, compatible = 0, autoclear = 0;
};

/// Meaning of the first cluster of an image (or what there is of it). Errors name the field.
Result<Qcow2Header> parse_qcow2_header(std::span<const u8> bytes);
/// The bytes of a header, at most one cluster.
Result<std::vector<u8>> build_qcow2_header(const Qcow2Header& header);
/// Reads and parses; for whoever opens the backing file.
Task<Result<Qcow2Header>> read_qcow2_header(Node& file);

struct Qcow2Options {
  std::string node_name;  // generated if empty
  bool readonly = false;
};
/// `backing` is what the header names, opened read-only; nullptr if it names none (or to read holes as zeroes).
Task<Result<std::unique_ptr<Node>>> open_qcow2_node(NodePtr file, NodePtr backing,
                                                    Qcow2Options options);

struct Qcow2CreateOptions {
  u64 size_bytes = 0;
  u32 version = 3;
  u32 cluster_bits = 16;
  u32 refcount_order = 4;
  std::string backing_file, backing_format;
};
/// Writes an empty image over `file`.
Task<Status> create_qcow2(Node& file, Qcow2CreateOptions options);

}  // namespace atl::block
