// The header of a qcow2 image: what its bytes mean, and the bytes of a meaning.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/format/qcow2/spec.h"
#include "block/node.h"

namespace atl::block::qcow2 {

struct Extension {
  u32 type = 0;
  std::vector<u8> data;
};

struct BitmapsExtension {
  u32 count = 0;
  u64 directory_bytes = 0, directory_offset = 0;
};

struct CryptoPlace {
  u64 offset = 0, bytes = 0;
};

struct Header {
  u32 version = 3;
  Geometry geometry;
  u64 size_bytes = 0;
  std::string backing_file, backing_format;  // "" if none
  std::string data_file;
  u32 encryption = kPlain;
  u8 compression = kZlib;
  u64 l1_offset = 0;
  u32 l1_entries = 0;
  u64 refcount_table_offset = 0;
  u32 refcount_table_clusters = 0;
  u32 snapshots = 0;
  u64 snapshots_offset = 0;
  u64 incompatible = 0, compatible = 0, autoclear = 0;
  std::optional<BitmapsExtension> bitmaps;
  std::optional<CryptoPlace> crypto;
  std::vector<Extension> unknown_extensions;  // kept when the header is written anew
  std::vector<u8> unknown_fields;             // likewise: what follows the fields we know

  bool has_data_file() const { return incompatible & kDataFile; }
  bool has_raw_data_file() const { return has_data_file() && (autoclear & kRawDataFile); }
};

/// Meaning of the first cluster of an image (or what there is of it). Errors name the field. `for_check` lets pass what a
/// check can repair.
Result<Header> parse_header(std::span<const u8> bytes, bool for_check = false);
/// The bytes of a header, at most one cluster.
Result<std::vector<u8>> build_header(const Header& header);
Task<Result<Header>> read_header(Node& file, bool for_check = false);
/// Overwrites the first cluster.
Task<Status> write_header(Node& file, const Header& header);

}  // namespace atl::block::qcow2
