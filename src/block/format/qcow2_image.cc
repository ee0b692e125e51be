// What can be done with a qcow2 image beyond reading and writing: each request goes to the part that does it.
#include <fmt/format.h>

#include "block/format/qcow2_bitmaps.h"
#include "block/format/qcow2_io.h"
#include "block/format/qcow2_node.h"
#include "block/format/qcow2_resize.h"

namespace atl::block::qcow2 {

Json ImageNode::specific_info() const {
  const Header& header = core_.header;
  Json info = {{"compat", header.version == 2 ? "0.10" : "1.1"},
               {"compression-type", header.compression == kZstd ? "zstd" : "zlib"},
               {"refcount-bits", 1u << header.geometry.refcount_order}};
  if (header.version >= 3) {
    info["lazy-refcounts"] = (header.compatible & kLazyRefcounts) != 0;
    info["corrupt"] = corrupt();
    info["extended-l2"] = header.geometry.extended_l2;
  }
  if (header.has_data_file()) {
    info["data-file"] = header.data_file;
    info["data-file-raw"] = header.has_raw_data_file();
  }
  if (header.encryption == kAes) info["encrypt"] = {{"format", "aes"}};
  return info;
}

Task<Status> ImageNode::resize(u64 size_bytes, Preallocation how) {
  CO_TRY(check_changeable());
  co_return co_await resize_disk(core_, align_up(size_bytes, kSectorBytes), how);
}

Task<Status> ImageNode::make_empty() {
  CO_TRY(check_changeable());
  co_return co_await empty_disk(core_);
}

Task<Status> ImageNode::change_backing(std::string file, std::string format) {
  CO_TRY(check_changeable());
  Header changed = core_.header;
  changed.backing_file = std::move(file);
  changed.backing_format = std::move(format);
  if (changed.has_raw_data_file() && !changed.backing_file.empty())
    co_return Error(ErrorKind::Invalid, "An image with a raw data file can have no backing file", EINVAL);
  Status status = co_await write_header(*core_.file, changed);
  if (status) core_.header = std::move(changed);
  co_return status;
}
}  // namespace atl::block::qcow2
