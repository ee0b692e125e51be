// qcow2 images, versions 2 and 3, as QEMU's docs/interop/qcow2.txt describes them: read and written.
//
// Supported: all cluster sizes and refcount widths, lazy refcounts, backing files, external data files, extended L2
// entries, compressed clusters (deflate, zstd), LUKS encryption and reading of the old AES one, internal snapshots,
// persistent bitmaps, checks and repairs. Missing: bitmaps that are not of type "dirty tracking".
//
// The parts: spec.h (numbers), header, cache, refcounts, core (tables and their order of writes: lookup, update,
// sync), read, write, zero, compressed, cipher, bitmaps, snapshots, check, resize, amend, create, open, node.
#pragma once

#include <memory>
#include <string>

#include "block/driver.h"
#include "block/format/qcow2/core.h"

namespace atl::block {

extern const Driver kQcow2Driver;

/// How an image is made.
struct Qcow2CreateOptions {
  u64 size_bytes = 0;
  u32 version = 3;
  u32 cluster_bits = 16;
  u32 refcount_order = 4;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  u8 compression = qcow2::kZlib;
  Preallocation preallocation = Preallocation::Off;
  std::string backing_file, backing_format;
  std::string data_file;
  bool data_file_raw = false;
  std::optional<crypto::LuksCreateOptions> luks;
  std::optional<std::string> aes_password;   // the old encryption
};
/// Writes an empty image over `file`; `data_file` is the open external file, if there is one.
Task<Status> create_qcow2(Loop& loop, NodePtr file, NodePtr data_file, Qcow2CreateOptions options);

/// Opens the image in `file`. `backing` is what the header names, opened read-only; nullptr if it names none (or to read
/// holes as zeroes). `password` matters to encrypted images only.
Task<Result<NodePtr>> open_qcow2(Loop& loop, NodePtr file, NodePtr data_file, NodePtr backing, qcow2::Options options,
                                 std::string password);
Task<Result<qcow2::Header>> read_qcow2_header(Node& file);

}  // namespace atl::block
