// VMDK images as a map of extents, for the driver and for creation.
#pragma once

#include "block/format/formats.h"
#include "block/format/vmdk_descriptor.h"
#include "block/format/vmdk_sparse.h"

namespace atl::block::vmdk {

struct Extent {
  ExtentLine::Kind kind = ExtentLine::Sparse;
  NodePtr file;  // none for Zero
  std::string filename;
  u64 start = 0, bytes = 0;  // on the disk
  u64 file_offset = 0;       // Flat
  SparseHeader header;       // Sparse
  std::unique_ptr<TwoLevelTable> tables;

  u64 end() const { return start + bytes; }
};

/// Where the descriptor's text is.
struct DescriptorPlace {
  u64 offset = 0, bytes = 0;
};

/// The descriptor of a VMDK file: all of it, or what the sparse header tells.
Task<Result<DescriptorPlace>> find_descriptor(Node& file);
Task<Result<std::string>> read_descriptor(Node& file, DescriptorPlace place);

NodePtr make_vmdk_node(NodePtr file, std::vector<Extent> extents, Descriptor descriptor, DescriptorPlace place,
                       MappedOptions options);

}  // namespace atl::block::vmdk
