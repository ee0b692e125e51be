// Raw node: the bytes of its file as they are, or a window of them, optionally turning written zeroes into holes.
#include <fmt/format.h>

#include "base/math.h"
#include "block/debug_points.h"
#include "block/driver.h"
#include "block/iovecs.h"
#include "block/node.h"

namespace atl::block {
namespace {

class RawNode final : public Node {
 public:
  RawNode(NodePtr file, const RawOptions& options)
      : file_(std::move(file)),
        options_(options),
        readonly_(options.readonly || file_->info().readonly),
        debug_(file_->debug_points()) {}

  NodeInfo info() const override {
    NodeInfo info = file_->info();
    info.node_name = options_.node_name;
    info.driver = "raw";
    info.size_bytes = size_bytes();
    info.readonly = readonly_;
    return info;
  }
  u64 size_bytes() const override {
    if (options_.size) return options_.size;
    u64 file_bytes = file_->size_bytes();
    return file_bytes > options_.offset ? file_bytes - options_.offset : 0;
  }

  // Requests are handed on as they are, so without a window they cost nothing here.
  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    if (auto s = check_window(offset, iovec_bytes(out)); !s) return fail(std::move(s));
    debug_step(debug_, "read_aio");
    return file_->read(options_.offset + offset, out);
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    if (auto s = check_write(offset, iovec_bytes(data)); !s) return fail(std::move(s));
    if (options_.probed && offset < kProbeBytes) [[unlikely]]
      return write_head(offset, data, flags);
    debug_step(debug_, "write_aio");
    return file_->write(options_.offset + offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    if (auto s = check_write(offset, size); !s) return fail(std::move(s));
    return file_->write_zeroes(options_.offset + offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override {
    if (auto s = check_write(offset, size); !s) return fail(std::move(s));
    if (!options_.discard) return fail(Status{});
    return file_->discard(options_.offset + offset, size);
  }
  Task<Status> flush() override { return file_->flush(); }
  DebugPoints* debug_points() override { return file_->debug_points(); }

  Task<Status> resize(u64 size_bytes, Preallocation how) override {
    if (options_.size) return fail(Error(ErrorKind::Unsupported, "Cannot resize fixed-size raw disks", ENOTSUP));
    auto end = checked_add(options_.offset, size_bytes);
    if (!end) return fail(Error(ErrorKind::Invalid, fmt::format("{} bytes are too large", size_bytes), EINVAL));
    return file_->resize(*end, how);
  }
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override {
    return file_->block_status(options_.offset + offset, bytes);
  }
  Task<Status> close() override { return file_->close(); }
  Task<Status> set_readonly(bool readonly) override {
    Status status = co_await file_->set_readonly(readonly);
    if (status) readonly_ = readonly;
    co_return status;
  }
  std::vector<Child> children() const override { return {{"file", file_}}; }
  Status replace_child(std::string_view role, NodePtr node) override {
    if (role != "file" || !node) return Node::replace_child(role, std::move(node));
    file_ = std::move(node);
    debug_ = file_->debug_points();
    return {};
  }

 private:
  static Task<Status> fail(Status status) { co_return status; }
  /// Without a window the file checks; with one, its neighbours must be safe.
  Status check_window(u64 offset, u64 size) const {
    if (!options_.offset && !options_.size) return {};
    return check_range(offset, size, size_bytes());
  }
  Status check_write(u64 offset, u64 size) const {
    if (readonly_) return Error(ErrorKind::Permission, "this node is read-only", EPERM);
    return check_window(offset, size);
  }

  /// The format was guessed: a guest that writes another format's magic would choose what the next start opens.
  Task<Status> write_head(u64 offset, std::span<const iovec> data, u32 flags) {
    std::vector<u8> head(std::min<u64>(size_bytes(), kProbeBytes));
    iovec whole{head.data(), head.size()};
    Status status = co_await file_->read(options_.offset, {&whole, 1});
    CO_TRY(std::move(status));
    if (offset < head.size()) {
      auto part = iovec_slice(data, 0, head.size() - offset);
      iovec_copy_from(part, std::span(head).subspan(offset, iovec_bytes(part)));
    }
    const Driver* seen = probe_format(head, {});
    if (std::string_view(seen->name) != "raw")
      co_return Error(ErrorKind::Permission,
                      fmt::format("writing a {} header to an image whose format was guessed as raw is refused", seen->name), EPERM);
    co_return co_await file_->write(options_.offset + offset, data, flags);
  }

  NodePtr file_;
  const RawOptions options_;
  bool readonly_;
  DebugPoints* debug_;
};

}  // namespace

Result<std::unique_ptr<Node>> open_raw_node(NodePtr file, const RawOptions& options) {
  u64 file_bytes = file->size_bytes();
  if (options.offset % kSectorBytes || options.size % kSectorBytes)
    return Error(ErrorKind::Invalid,
                 fmt::format("raw offset {} and size {} must be multiples of 512", options.offset, options.size));
  if (options.offset > file_bytes || (options.size && !range_fits(options.offset, options.size, file_bytes)))
    return Error(ErrorKind::Invalid, fmt::format("raw offset {} and size {} exceed the {} bytes of {}", options.offset,
                                                 options.size, file_bytes, file->info().filename));
  RawOptions named = options;
  if (named.node_name.empty()) named.node_name = generate_node_name();
  return std::make_unique<RawNode>(std::move(file), named);
}

}  // namespace atl::block
