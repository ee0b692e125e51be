// What there is to tell about an image: `info`, and QMP's ImageInfo.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/driver.h"

namespace atl::block {

struct ImageFacts {
  std::string filename, format;
  u64 virtual_bytes = 0;
  std::optional<u64> actual_bytes;
  u64 cluster_bytes = 0;
  bool encrypted = false, dirty = false;
  std::string backing, backing_format;
  std::optional<std::string> full_backing;
  std::vector<SnapshotInfo> snapshots;
  Json specific;
};

Task<Result<ImageFacts>> collect_facts(const Graph& graph, Node& node);
/// ImageInfo of QEMU's block-core.json.
Json image_json(const ImageFacts& facts);
Json snapshot_json(const SnapshotInfo& snapshot);

/// Bytes that the image's files take on the host's disks; nothing where no file is behind it.
std::optional<u64> allocated_file_bytes(const Node& node);
/// What `backing` means when an image of the name `image` records it: relative names are relative to the image's folder.
/// Nothing if the image's name has no folder to be relative to.
std::optional<std::string> full_backing_name(const std::string& image, const std::string& backing);

}  // namespace atl::block
