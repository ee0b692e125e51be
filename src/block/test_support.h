// For tests of nodes and of their users: running tasks to their end, temporary files, and a node that fails on request.
#pragma once

#include <fcntl.h>
#include <stdlib.h>

#include <deque>
#include <string>

#include "block/iovecs.h"
#include "block/node.h"

namespace atl::block {

/// Runs the loop until the task is done.
template <class T>
T finish(Loop& loop, Task<T> task) {
  std::optional<T> result;
  start(std::move(task), [&](T value) { result.emplace(std::move(value)); });
  while (!result) loop.run_once(1'000'000'000);
  return std::move(*result);
}

/// A file that goes with the test.
class TempFile {
 public:
  /// `directory` matters to tests of direct I/O, which a tmpfs may not have.
  explicit TempFile(u64 size_bytes = 0, const std::string& directory = "/tmp")
      : path_(directory + "/atoll-test-XXXXXX") {
    fd_ = Fd(::mkostemp(path_.data(), O_CLOEXEC));
    CHECK(fd_.valid() && ::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::string& path() const { return path_; }
  const Fd& fd() const { return fd_; }
  std::string text(u64 offset, size_t size) const {
    std::string bytes(size, '\0');
    ssize_t n = ::pread(fd_.get(), bytes.data(), size, static_cast<off_t>(offset));
    bytes.resize(n < 0 ? 0 : static_cast<size_t>(n));
    return bytes;
  }
  void put(u64 offset, std::string_view bytes) {
    CHECK(::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes.size()));
  }

 private:
  std::string path_;
  Fd fd_;
};

/// A disk in memory, of at most `limit` bytes.
class MemoryNode final : public Node {
 public:
  explicit MemoryNode(std::string content = {}, u64 limit = 64 * kMiB) : bytes(std::move(content)), limit_(limit) {}

  std::string bytes;

  NodeInfo info() const override {
    NodeInfo info;
    info.driver = "memory";
    info.filename = "memory";
    info.size_bytes = bytes.size();
    return info;
  }
  u64 size_bytes() const override { return bytes.size(); }
  Task<Status> resize(u64 size, Preallocation) override {
    if (size > limit_) co_return os_error("memory", ENOSPC);
    bytes.resize(size);
    co_return Status{};
  }
  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    CO_TRY(check_range(offset, iovec_bytes(out), bytes.size()));
    std::string padded = bytes.substr(std::min<u64>(offset, bytes.size()), iovec_bytes(out));
    padded.resize(iovec_bytes(out));
    iovec_copy_to(out, {reinterpret_cast<const u8*>(padded.data()), padded.size()});
    co_return Status{};
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32) override {
    u64 size = iovec_bytes(data);
    CO_TRY(check_range(offset, size, bytes.size()));
    if (offset + size > bytes.size()) bytes.resize(offset + size);
    iovec_copy_from(data, {reinterpret_cast<u8*>(bytes.data()) + offset, size});
    co_return Status{};
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32) override {
    CO_TRY(check_range(offset, size, bytes.size()));
    std::fill_n(bytes.begin() + static_cast<long>(offset), std::min<u64>(size, bytes.size() - offset), '\0');
    co_return Status{};
  }
  Task<Status> discard(u64 offset, u64 size) override { return write_zeroes(offset, size, 0); }
  Task<Status> flush() override { co_return Status{}; }

 private:
  const u64 limit_;
};

/// Hands requests on to another node, or fails them with the errno that was put in line for them (0: no failure).
class ErrorInjector final : public Node {
 public:
  explicit ErrorInjector(Node& below) : below_(below) {}

  std::deque<int> next_errors;
  int requests = 0;
  std::vector<u32> write_flags;
  int flushes = 0;

  NodeInfo info() const override { return below_.info(); }
  u64 size_bytes() const override { return below_.size_bytes(); }
  Task<Status> resize(u64 size, Preallocation how) override { return below_.resize(size, how); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    int err = next();
    return err ? fail(err) : below_.read(offset, out);
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    write_flags.push_back(flags);
    int err = next();
    return err ? fail(err) : below_.write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    int err = next();
    return err ? fail(err) : below_.write_zeroes(offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override {
    int err = next();
    return err ? fail(err) : below_.discard(offset, size);
  }
  Task<Status> flush() override {
    ++flushes;
    int err = next();
    return err ? fail(err) : below_.flush();
  }

 private:
  static Task<Status> fail(int err) { co_return os_error("injected", err); }
  int next() {
    ++requests;
    if (next_errors.empty()) return 0;
    int err = next_errors.front();
    next_errors.pop_front();
    return err;
  }

  Node& below_;
};

}  // namespace atl::block
