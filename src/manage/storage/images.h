// What storage volumes need of the block layer: looking at, making, copying and growing image files.
//
// Each function runs its own event loop on the calling thread and may take long. A format is always given, never
// guessed here.
#pragma once

#include <optional>
#include <string>

#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

struct ImageFacts {
  u64 capacity_bytes = 0;
  u64 cluster_bytes = 0;
  bool encrypted = false;
  bool is_old_qcow2 = false;  // version 2, "0.10"
  bool lazy_refcounts = false;
  std::string backing_file, backing_format;  // as the image records them; "" for none
};

struct ImageRequest {
  std::string path, format;
  u64 capacity_bytes = 0;
  std::string preallocation = "off";  // off, metadata, falloc, full
  std::string backing_path, backing_format;
  std::string compat;     // qcow2: "0.10", "1.1"; "" for the default
  u64 cluster_bytes = 0;  // 0: the default
  bool lazy_refcounts = false, nocow = false;
  std::optional<std::string> passphrase;  // LUKS
};

/// The format of a file that no record names: by its first bytes. Only for files that no guest of ours has written yet.
Result<std::string> guess_format(const std::string& path);
/// Reads the header alone; the backing file stays closed, and no lock is taken.
Result<ImageFacts> inspect_image(const std::string& path, const std::string& format);
Status create_image(const ImageRequest& request);
/// A raw file of which the first `allocation_bytes` have their blocks.
Status create_raw_file(const std::string& path, u64 capacity_bytes, u64 allocation_bytes);
Status resize_image(const std::string& path, const std::string& format, u64 capacity_bytes, bool allocate);
/// Makes `to`, which exists, share all blocks of `from`; an error where the file system cannot.
Status share_blocks(const std::string& from, const std::string& to);
/// All that the source reads as, with its backing files, into an image that exists.
Status copy_image(const std::string& from, const std::string& from_format, const std::string& to,
                  const std::string& to_format);

/// A snapshot inside of an image that nobody else has open. NotFound if there is none of that name.
enum class SnapshotAction : u8 { Create, Apply, Delete };
Status snapshot_image(const std::string& path, const std::string& format, SnapshotAction action, const std::string& name);
/// What an overlay holds goes into its backing file, which grows if it must; the overlay stays as it is.
Status merge_into_backing(const std::string& path, const std::string& format);
/// The overlay names another backing file, whose content it takes for the same.
Status record_backing(const std::string& path, const std::string& format, const std::string& backing, const std::string& backing_format);

}  // namespace atl::manage
