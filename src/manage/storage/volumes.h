// Volumes of a pool as they are on the host, and the record of their formats.
#pragma once

#include <sys/stat.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "manage/error.h"
#include "manage/storage/definition.h"
#include "manage/store/state_folder.h"

namespace atl::manage {

enum class VolumeType : i32 { File = 0, Block = 1, Dir = 2 };

struct Volume {
  std::string name, path;
  VolumeType type = VolumeType::File;
  std::string format = "raw";
  u64 capacity_bytes = 0, allocation_bytes = 0, physical_bytes = 0;
  u64 cluster_bytes = 0;
  bool is_encrypted = false;
  bool is_old_qcow2 = false, lazy_refcounts = false;
  std::optional<Uuid> secret;
  std::string backing_path, backing_format;
  struct stat status{};
};

std::string volume_xml(const Volume& volume);

/// Which format each file of a pool has. What a guest can write must not choose its format: a file's first bytes are
/// looked at when it is first seen, and from then on the record counts, as long as it is the same file (by inode).
class FormatRecord {
 public:
  /// `name`: the pool's.
  FormatRecord(const StateFolder& folder, std::string name) : folder_(folder), name_(std::move(name)) {}
  /// What an earlier daemon wrote; nothing if there is none or it makes no sense.
  void load();
  Status save() const;

  struct Entry {
    u64 inode = 0;
    std::string format;
    std::optional<Uuid> secret;
    bool operator==(const Entry&) const = default;
  };
  const Entry* find(const std::string& volume, u64 inode) const;
  void set(const std::string& volume, Entry entry) { entries_[volume] = std::move(entry); }
  void erase(const std::string& volume) { entries_.erase(volume); }
  /// Drops the entries of files that are gone.
  void keep(const std::vector<Volume>& volumes);
  void forget() const { (void)folder_.remove(name_); }
  bool operator==(const FormatRecord& other) const { return entries_ == other.entries_; }

 private:
  const StateFolder& folder_;
  std::string name_;
  std::map<std::string, Entry> entries_;
};

/// The volumes in a folder, sorted by name. New files are entered into the record. What a volume-create that was cut
/// off left behind is removed.
Result<std::vector<Volume>> scan_folder(const std::string& path, FormatRecord& record);
/// The logical volumes of a group.
Result<std::vector<Volume>> scan_volume_group(const std::string& group);
/// Sizes and headers of one file. Its record must be there.
Result<Volume> read_volume_file(const std::string& folder, const std::string& name, FormatRecord& record);
/// The name that a file has while it is made.
std::string unfinished_name(const std::string& volume);

}  // namespace atl::manage
