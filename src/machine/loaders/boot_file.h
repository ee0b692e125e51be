// A kernel, initrd or firmware file that is read straight into guest RAM. Every error names the file.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "memory/guest_memory.h"

namespace atl::machine {

class BootFile {
 public:
  /// `what` ("kernel", "initrd") and the path begin each error. Refuses what is not a regular file, or is empty.
  static Result<BootFile> open(std::string what, std::string path);

  const std::string& path() const { return path_; }
  u64 size() const { return size_; }
  /// Up to `limit` bytes from the start.
  Result<std::vector<u8>> head(u64 limit) const;
  Result<std::vector<u8>> bytes(u64 offset, u64 size) const;
  /// Reads [offset, offset + size) of the file to guest address `at`, without a copy in between.
  Status load(const memory::GuestMemory& memory, u64 offset, u64 size, GuestAddr at) const;
  /// An error about this file: "kernel /boot/x: why".
  Error error(std::string_view why) const;

 private:
  BootFile(std::string label, std::string path, Fd fd, u64 size)
      : label_(std::move(label)), path_(std::move(path)), fd_(std::make_shared<Fd>(std::move(fd))), size_(size) {}
  Status check_range(u64 offset, u64 size) const;

  std::string label_, path_;
  std::shared_ptr<const Fd> fd_;
  u64 size_ = 0;
};

}  // namespace atl::machine
