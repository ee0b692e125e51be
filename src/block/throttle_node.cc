// Driver "throttle": limits requests to the node below as a throttle-group says. The group is an object of its own
// (-object throttle-group), or made by the options here: limits.iops-total and the rest.
#include <fmt/format.h>

#include "base/clock.h"
#include "block/driver.h"
#include "block/filter_node.h"
#include "block/iovecs.h"
#include "block/throttle.h"

namespace atl::block {
namespace {

class ThrottleNode final : public FilterNode {
 public:
  ThrottleNode(Graph& graph, NodePtr file, std::string node_name, std::shared_ptr<ThrottleGroup> group)
      : FilterNode(std::move(file)), graph_(graph), node_name_(std::move(node_name)), group_(std::move(group)) {}

  NodeInfo info() const override { return named_info(node_name_, "throttle"); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    return later(false, iovec_bytes(out), file_->read(offset, out));
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return later(true, iovec_bytes(data), file_->write(offset, data, flags));
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return later(true, size, file_->write_zeroes(offset, size, flags));
  }
  Task<Status> discard(u64 offset, u64 size) override { return later(true, size, file_->discard(offset, size)); }
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override {
    return later(true, iovec_bytes(data), file_->write_compressed(offset, data));
  }

 private:
  Task<Status> later(bool is_write, u64 bytes, Task<Status> task) {
    u64 wait_ns = group_->reserve(is_write, bytes, monotonic_ns());
    if (wait_ns) static_cast<void>(co_await wait_for_share(graph_.loop(), wait_ns, [this] { return graph_.is_drained(); }));
    co_return co_await std::move(task);
  }

  Graph& graph_;
  const std::string node_name_;
  const std::shared_ptr<ThrottleGroup> group_;
};

Result<ThrottleLimits> read_limits(OptionReader& reader) {
  constexpr const char* kNames[] = {"iops-total", "iops-read", "iops-write", "bps-total", "bps-read", "bps-write"};
  ThrottleLimits limits;
  for (size_t i = 0; i < std::size(kNames); ++i) {
    std::string name = std::string("limits.") + kNames[i];
    limits.buckets[i].average = TRY(reader.number(name, 0));
    limits.buckets[i].max = TRY(reader.number(name + "-max", 0));
    limits.buckets[i].burst_seconds = TRY(reader.number(name + "-max-length", 1));
  }
  limits.iops_size = TRY(reader.number("limits.iops-size", 0));
  TRY(limits.check());
  return limits;
}

Task<Result<NodePtr>> open_throttle(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "throttle");
  std::string name = CO_TRY(reader.string("throttle-group", {}));
  ThrottleLimits limits = CO_TRY(read_limits(reader));
  Json child = reader.child("file");
  CO_TRY(reader.finish());
  auto group = graph.throttle_group(name);
  if (!group && !limits.any())
    co_return Error(ErrorKind::NotFound, fmt::format("Throttle group '{}' does not exist", name), EINVAL);
  if (!group) {
    group = std::make_shared<ThrottleGroup>(name, limits);
    if (!name.empty()) graph.add_throttle_group(group);
  } else if (limits.any()) {
    group->set_limits(limits);
  }
  mode.no_probe = false;
  Result<NodePtr> opened = co_await graph.open(std::move(child), std::move(mode));
  NodePtr file = CO_TRY(std::move(opened));
  co_return NodePtr(std::make_shared<ThrottleNode>(graph, std::move(file), std::move(node_name), std::move(group)));
}

}  // namespace

extern const Driver kThrottleDriver;
const Driver kThrottleDriver = {.name = "throttle", .open = open_throttle};

}  // namespace atl::block
