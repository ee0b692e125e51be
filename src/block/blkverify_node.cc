// Driver "blkverify": a test double that does everything twice, on an image under test and on a raw one, and fails a read that
// differs, naming the first byte.
#include <fmt/format.h>

#include <algorithm>

#include "base/mapping.h"
#include "block/driver.h"
#include "block/filter_node.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

class VerifyNode final : public FilterNode {
 public:
  VerifyNode(NodePtr test, NodePtr raw, std::string node_name)
      : FilterNode(std::move(test)), raw_(std::move(raw)), node_name_(std::move(node_name)) {}

  NodeInfo info() const override { return named_info(node_name_, "blkverify"); }
  std::vector<Child> children() const override { return {{"test", file_}, {"raw", raw_}}; }
  Status replace_child(std::string_view role, NodePtr node) override { return Node::replace_child(role, std::move(node)); }

  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return both(raw_->write(offset, data, flags), file_->write(offset, data, flags));
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return both(raw_->write_zeroes(offset, size, flags), file_->write_zeroes(offset, size, flags));
  }
  Task<Status> discard(u64, u64) override { co_return Status{}; }  // what is left afterwards is nobody's to say
  Task<Status> flush() override { return both(raw_->flush(), file_->flush()); }
  Task<Status> close() override { return both(raw_->close(), file_->close()); }
  Task<Status> resize(u64 size_bytes, Preallocation how) override {
    return both(raw_->resize(size_bytes, how), file_->resize(size_bytes, how));
  }

 private:
  static Task<Status> both(Task<Status> first, Task<Status> second) {
    Status status = co_await std::move(first);
    CO_TRY(std::move(status));
    co_return co_await std::move(second);
  }

  NodePtr raw_;
  const std::string node_name_;
};

Task<Status> VerifyNode::read(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  Status status = co_await file_->read(offset, out);
  CO_TRY(std::move(status));
  if (!size) co_return Status{};
  Mapping expected = CO_TRY(Mapping::anonymous(size));
  iovec whole{expected.data(), size};
  status = co_await raw_->read(offset, {&whole, 1});
  CO_TRY(std::move(status));
  u64 at = 0;
  for (const iovec& part : out) {
    const u8* got = static_cast<const u8*>(part.iov_base);
    const u8* want = expected.data() + at;
    auto [differs, other] = std::mismatch(got, got + part.iov_len, want);
    if (differs != got + part.iov_len)
      co_return Error(ErrorKind::Io, fmt::format("blkverify: contents mismatch at offset {}", offset + at + static_cast<u64>(differs - got)), EIO);
    at += part.iov_len;
  }
  co_return Status{};
}

Task<Result<NodePtr>> open_blkverify(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "blkverify");
  Json raw_child = reader.child("raw"), test_child = reader.child("test");
  CO_TRY(reader.finish());
  OpenMode probing = mode;
  probing.no_probe = false;
  Result<NodePtr> opened = co_await graph.open(std::move(raw_child), std::move(mode));
  NodePtr raw = CO_TRY(std::move(opened));
  opened = co_await graph.open(std::move(test_child), std::move(probing));
  NodePtr test = CO_TRY(std::move(opened));
  co_return NodePtr(std::make_shared<VerifyNode>(std::move(test), std::move(raw), std::move(node_name)));
}

/// "blkverify:raw-image:image-under-test".
Result<Json> parse_blkverify_name(std::string_view name) {
  name.remove_prefix(std::string_view("blkverify:").size());
  size_t colon = name.find(':');
  if (colon == name.npos) return Error(ErrorKind::Invalid, "blkverify requires raw copy and original image path", EINVAL);
  Json raw = TRY(parse_image_name(name.substr(0, colon)));
  Json test = {{"filename", std::string(name.substr(colon + 1))}};
  return Json{{"driver", "blkverify"}, {"raw", std::move(raw)}, {"test", std::move(test)}};
}

}  // namespace

extern const Driver kBlkverifyDriver;
const Driver kBlkverifyDriver = {.name = "blkverify", .protocol = true, .parse_name = parse_blkverify_name, .schemes = {"blkverify"}, .open = open_blkverify};

}  // namespace atl::block
