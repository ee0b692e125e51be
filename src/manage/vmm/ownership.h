// Files of a VM belong to its user while it runs, so that it can open its own and no other's (libvirt's dynamic ownership).
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "manage/error.h"

namespace atl::manage {

/// One file with the owner it had.
struct OwnedFile {
  std::string path;
  uid_t user = 0;
  gid_t group = 0;
};

class FileOwnership {
 public:
  FileOwnership(uid_t user, gid_t group) : user_(user), group_(group) {}

  /// Gives the file to the VM's user. A file that is only read stays as it is if anybody may read it, and one that another VM has
  /// is refused. Nothing happens when VMs run as the daemon's own user.
  Status give(const std::string& path, bool writable);
  /// Gives all files back, or one of them.
  void take_back();
  void take_back(const std::string& path);

  const std::vector<OwnedFile>& files() const { return files_; }
  /// After a restart of the daemon.
  void remember(OwnedFile file) { files_.push_back(std::move(file)); }

 private:
  uid_t user_;
  gid_t group_;
  std::vector<OwnedFile> files_;
};

/// Users of VMs have numbers from here on, one each.
inline constexpr uid_t kFirstVmUser = 1'610'612'736;  // 0x60000000: far from people's, and from containers'
inline constexpr uid_t kVmUsers = 65'536;
inline bool is_vm_user(uid_t user) { return user >= kFirstVmUser && user < kFirstVmUser + kVmUsers; }

struct BackingFile {
  std::string path, format;
};
/// The files below a disk's image that it is based on, from the headers of qcow2 files; formats are as recorded, never guessed.
Result<std::vector<BackingFile>> backing_files(const std::string& path, std::string_view format);

}  // namespace atl::manage
