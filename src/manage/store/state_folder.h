// A folder of small files that survive a kill or a power cut at any moment: each file is either as before or as after.
//
// A write goes to a temporary file, which is flushed and renamed; then the folder is flushed. Flush::Now does all of that before the
// call returns. Flush::Later (store/late_flush.h) returns when the temporary file is complete in the page cache, which outlives a killed
// daemon, and flushes and renames a moment later: a power cut in between leaves the file as before. Flush::Never is for what a reboot
// makes worthless. What writes that were cut off left behind is finished, if it is complete, or removed when the folder is opened.
// Objects that start with the daemon have a symbolic link in "autostart".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manage/error.h"

namespace atl::manage {

class LateFlush;

/// When a change is on the disk.
enum class Flush : u8 { Now, Later, Never };

class StateFolder {
 public:
  /// Makes the folder (and those above it) where it is missing. `suffix` (".xml") ends the names of its files.
  static Result<StateFolder> open(std::string path, std::string suffix = ".xml", unsigned folder_mode = 0700,
                                  Flush flush = Flush::Now);
  ~StateFolder();
  StateFolder(StateFolder&&) noexcept;

  /// `name` without suffix; names come from xml::check_name.
  Status write(const std::string& name, std::string_view content, unsigned mode = 0600) const;
  Result<std::string> read(const std::string& name) const;
  bool contains(const std::string& name) const;
  /// Also its autostart link. Fine if there is no such file.
  Status remove(const std::string& name) const;
  /// Moves the file and its autostart link.
  Status rename(const std::string& from, const std::string& to) const;
  /// Without suffix, sorted.
  Result<std::vector<std::string>> names() const;

  Status set_autostart(const std::string& name, bool on) const;
  bool autostart(const std::string& name) const;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name + suffix_; }

 private:
  StateFolder(std::string path, std::string suffix, Flush flush);
  std::string link(const std::string& name) const { return path_ + "/autostart/" + name + suffix_; }
  Status sync(const std::string& path) const;
  void settle() const;

  std::string path_, suffix_;
  Flush flush_;
  std::unique_ptr<LateFlush> late_;  // with Flush::Later
};

/// Writes one file so that it is never half there. The error names the path.
Status write_atomically(const std::string& path, std::string_view content, unsigned mode = 0600, Flush flush = Flush::Now);
/// Writes a file in place; `flush`: and to the disk.
Status write_whole(const std::string& path, std::string_view content, unsigned mode, bool flush);
/// mkdir -p; folders that are made get `mode`.
Status make_folders(const std::string& path, unsigned mode = 0755);
Status flush_file(const std::string& path);
/// Flushes a folder's entries.
Status sync_folder(const std::string& path);

}  // namespace atl::manage
