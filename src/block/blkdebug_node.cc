// Driver "blkdebug": a test double that fails requests to the node below by rules, and holds them at breakpoints.
//
// Supported: rules by event, request kind, sector, state and errno, once or always; states that change with events. Events are
// raised by the driver above (raw: read_aio, write_aio; qcow2: its steps, see qcow2_*.cc) and by the requests themselves
// (pwritev, pwritev_zero, flush_to_os, flush_to_disk, none). As in QEMU the error rules of an event hold until an event with
// other error rules. Missing: align, max-transfer, permissions; events that no driver here raises are refused by name.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "block/blkdebug_rules.h"
#include "block/debug_points.h"
#include "block/filter_node.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

/// What some driver here raises.
constexpr std::string_view kEvents[] = {
    "none", "read_aio", "write_aio", "flush_to_os", "flush_to_disk", "pwritev", "pwritev_zero",
    // qcow2
    "l1_update", "l1_grow_alloc_table", "l1_grow_write_table", "l1_grow_activate_table", "l2_load", "l2_update",
    "l2_alloc_cow_read", "l2_alloc_write", "read_backing_aio", "read_compressed", "write_compressed", "cow_read", "cow_write",
    "reftable_load", "reftable_grow", "reftable_update", "refblock_load", "refblock_update_part", "refblock_alloc",
    "refblock_alloc_write_blocks", "refblock_alloc_write_table", "refblock_alloc_switch_table", "cluster_alloc",
    "cluster_alloc_bytes", "cluster_free", "empty_image_prepare"};

bool is_event(std::string_view name) { return std::ranges::find(kEvents, name) != std::end(kEvents); }

class DebugNode final : public FilterNode, private DebugPoints {
 public:
  DebugNode(Loop& loop, NodePtr file, std::string node_name, std::optional<std::string> config, std::vector<DebugRule> rules)
      : FilterNode(std::move(file)),
        node_name_(std::move(node_name)),
        config_(std::move(config)),
        rules_(std::move(rules)),
        loop_(loop) {
    raise("none");
  }

  NodeInfo info() const override {
    NodeInfo info = named_info(node_name_, "blkdebug");
    if (config_) info.filename = fmt::format("blkdebug:{}:{}", *config_, info.filename);
    return info;
  }
  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    if (!reached_breaks_.empty()) return held_read(take_reached(), offset, out);
    int error = check(DebugIo::Read, offset, iovec_bytes(out));
    return error ? fail(error) : file_->read(offset, out);
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    if (!reached_breaks_.empty()) return held_write(take_reached(), offset, data, flags);
    reached("pwritev");
    int error = check(DebugIo::Write, offset, iovec_bytes(data));
    return error ? fail(error) : file_->write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    reached("pwritev_zero");
    int error = check(DebugIo::WriteZeroes, offset, size);
    return error ? fail(error) : file_->write_zeroes(offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override {
    int error = check(DebugIo::Discard, offset, size);
    return error ? fail(error) : file_->discard(offset, size);
  }
  Task<Status> flush() override {
    reached("flush_to_os");
    reached("flush_to_disk");
    int error = check(DebugIo::Flush, 0, ~u64{0});
    return error ? fail(error) : file_->flush();
  }
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override {
    int error = check(DebugIo::BlockStatus, offset, bytes);
    return error ? fail_status(error) : file_->block_status(offset, bytes);
  }

 private:
  static Task<Status> fail(int error) { co_return os_error("blkdebug", error); }
  static Task<Result<BlockStatus>> fail_status(int error) { co_return os_error("blkdebug", error); }

  DebugPoints* debug_points() override { return this; }

  void reached(std::string_view event) override {
    for (size_t i = 0; i < breaks_.size();) {
      if (breaks_[i].first != event) {
        ++i;
        continue;
      }
      reached_breaks_.push_back(std::move(breaks_[i].second));
      breaks_.erase(breaks_.begin() + static_cast<long>(i));
    }
    raise(event);
  }
  Status set_break(std::string event, std::string tag) override {
    if (!is_event(event)) return Error(ErrorKind::Invalid, fmt::format("Could not set a breakpoint: unknown event '{}'", event), EINVAL);
    breaks_.emplace_back(std::move(event), std::move(tag));
    return {};
  }
  Status remove_break(std::string_view tag) override {
    const size_t set = std::erase_if(breaks_, [&](const auto& entry) { return entry.second == tag; });
    const Status released = release(tag);
    if (set || released) return {};
    return Error(ErrorKind::NotFound, fmt::format("Could not remove breakpoint {}", tag), ENOENT);
  }
  Status release(std::string_view tag) override {
    auto held = held_.find(tag);
    if (held == held_.end()) return Error(ErrorKind::NotFound, fmt::format("Could not resume request {}", tag), ENOENT);
    auto waiter = held->second;
    held_.erase(held);
    loop_.post([waiter] { waiter.resume(); });
    return {};
  }
  bool is_held(std::string_view tag) const override { return held_.contains(tag); }

  struct Hold {
    DebugNode& node;
    std::string tag;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { node.held_.emplace(tag, waiter); }
    void await_resume() const {}
  };
  std::string take_reached() {
    std::string tag = std::move(reached_breaks_.front());
    reached_breaks_.erase(reached_breaks_.begin());
    return tag;
  }
  Task<Status> held_read(std::string tag, u64 offset, std::span<const iovec> out) {
    Hold hold{*this, std::move(tag)};
    co_await hold;
    co_return co_await read(offset, out);
  }
  Task<Status> held_write(std::string tag, u64 offset, std::span<const iovec> data, u32 flags) {
    Hold hold{*this, std::move(tag)};
    co_await hold;
    co_return co_await write(offset, data, flags);
  }

  /// Activates the error rules of an event, in place of those of earlier ones, and changes the state.
  void raise(std::string_view event) {
    u64 next = state_;
    bool first = true;
    for (DebugRule& rule : rules_) {
      if (rule.event != event || (rule.state && rule.state != state_)) continue;
      if (!rule.os_errno) {
        next = rule.new_state;
        continue;
      }
      if (std::exchange(first, false)) active_.clear();
      active_.push_back(&rule);
    }
    state_ = next;
  }

  static bool fits(const DebugRule& rule, DebugIo kind, u64 offset, u64 bytes) {
    const bool in_kind = rule.kinds.empty() ? kind != DebugIo::BlockStatus
                                            : std::ranges::find(rule.kinds, kind) != rule.kinds.end();
    if (!in_kind) return false;
    if (!rule.sector) return true;
    const u64 at = *rule.sector * kSectorBytes;
    return at >= offset && at - offset < bytes;
  }

  /// The errno that the request fails with, or 0.
  int check(DebugIo kind, u64 offset, u64 bytes) {
    for (auto at = active_.begin(); at != active_.end(); ++at) {
      DebugRule& rule = **at;
      if (!fits(rule, kind, offset, bytes)) continue;
      if (rule.once) {
        active_.erase(at);
        rule.event = "";  // never again
      }
      return rule.os_errno;
    }
    return 0;
  }

  const std::string node_name_;
  const std::optional<std::string> config_;   // "" if there are no rules at all: then a name can say what this is
  std::vector<DebugRule> rules_;
  std::vector<DebugRule*> active_;
  u64 state_ = 1;
  Loop& loop_;
  std::vector<std::pair<std::string, std::string>> breaks_;   // event and tag
  std::vector<std::string> reached_breaks_;                   // tags: each holds one of the next requests
  std::multimap<std::string, std::coroutine_handle<>, std::less<>> held_;
};

Task<Result<NodePtr>> open_blkdebug(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  const bool has_rules = options.contains("inject-error") || options.contains("set-state");
  OptionReader reader(std::move(options), "blkdebug");
  std::optional<std::string> config;
  if (!has_rules && !reader.has("config")) config = "";
  std::vector<DebugRule> rules = CO_TRY(read_debug_rules(reader));
  for (const DebugRule& rule : rules) {
    if (!is_event(rule.event))
      co_return Error(ErrorKind::Unsupported, fmt::format("blkdebug: event '{}' is not supported", rule.event), ENOTSUP);
  }
  Json child = reader.child("image");
  if (child.is_null()) child = reader.child("file");
  CO_TRY(reader.finish());
  Result<NodePtr> opened = co_await graph.open(std::move(child), std::move(mode));
  NodePtr file = CO_TRY(std::move(opened));
  co_return NodePtr(std::make_shared<DebugNode>(graph.loop(), std::move(file), std::move(node_name), std::move(config), std::move(rules)));
}

/// "blkdebug:config-file:image-name"; the file may be left out.
Result<Json> parse_blkdebug_name(std::string_view name) {
  name.remove_prefix(std::string_view("blkdebug:").size());
  size_t colon = name.find(':');
  if (colon == name.npos) return Error(ErrorKind::Invalid, "blkdebug requires both config file and image path", EINVAL);
  Json tree = {{"driver", "blkdebug"}, {"image", TRY(parse_image_name(name.substr(colon + 1)))}};
  if (colon) tree["config"] = std::string(name.substr(0, colon));
  return tree;
}

}  // namespace

extern const Driver kBlkdebugDriver;
const Driver kBlkdebugDriver = {.name = "blkdebug", .protocol = true, .parse_name = parse_blkdebug_name, .schemes = {"blkdebug"}, .open = open_blkdebug};

}  // namespace atl::block
