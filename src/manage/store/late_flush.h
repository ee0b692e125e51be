// Writes of a state folder that are flushed and renamed by a thread of its own, so that no call waits for a disk.
//
// The temporary file's name says what it becomes, in which order, and a sum of its content:
// ".NAME.ORDER-SUM.new~". It is complete before the call returns, so that a killed daemon loses nothing: the next one
// finds it (StateFolder::open). After a power cut the sum tells a file whose content did not reach the disk.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/sync.h"
#include "base/thread.h"
#include "manage/error.h"

namespace atl::manage {

/// How the names of temporary files end; they begin with a dot. Clients may not choose such names.
inline constexpr std::string_view kTemporary = ".new~";

class LateFlush {
 public:
  static Result<std::unique_ptr<LateFlush>> start(std::string folder);
  /// Everything that was written is in place then.
  ~LateFlush();

  /// `name`: of the file, with its suffix. Replaces it a moment later.
  Status write(const std::string& name, std::string_view content, unsigned mode);
  /// Forgets writes of a file that are not in place yet: it is to be removed.
  void cancel(const std::string& name);
  /// Flushes a folder's entries soon.
  void flush_folder(const std::string& path);
  /// Waits until nothing is left to do.
  void settle();

  /// The name that a temporary file is to have, if its content is what its name says.
  static std::optional<std::string> complete_name(const std::string& folder, const std::string& entry);

 private:
  struct Write {
    std::string name, temporary;
  };
  explicit LateFlush(std::string folder) : folder_(std::move(folder)) {}
  void serve();
  void flush(const std::vector<Write>& batch) const;
  void put_in_place(const Write& write) REQUIRES(mutex_);
  void report(const Status& status) const;

  const std::string folder_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Write> writes_ GUARDED_BY(mutex_);   // the front ones are being flushed
  std::set<std::string> folders_ GUARDED_BY(mutex_);
  u32 order_ GUARDED_BY(mutex_) = 0;
  bool busy_ GUARDED_BY(mutex_) = false;
  bool ending_ GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace atl::manage
