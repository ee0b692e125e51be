// Driver "blkdebug": a test double that fails requests to the node below by rules.
//
// Supported: rules by request kind, sector, state and errno, once or always; states that change with requests; events
// read_aio, write_aio, flush_to_os, flush_to_disk, pwritev, pwritev_zero, pwritev_done and none, which the requests themselves
// raise; align, max-transfer. Missing: events from inside format drivers (l2_load and so on), which are refused by name,
// breakpoints, permissions.
#include <fmt/format.h>

#include <algorithm>

#include "block/blkdebug_rules.h"
#include "block/filter_node.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

class DebugNode final : public FilterNode {
 public:
  DebugNode(NodePtr file, std::string node_name, std::optional<std::string> config, std::vector<DebugRule> rules)
      : FilterNode(std::move(file)), node_name_(std::move(node_name)), config_(std::move(config)), rules_(std::move(rules)) {}

  NodeInfo info() const override {
    NodeInfo info = named_info(node_name_, "blkdebug");
    if (config_) info.filename = fmt::format("blkdebug:{}:{}", *config_, info.filename);
    return info;
  }
  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    raise("read_aio");
    int error = check(DebugIo::Read, offset, iovec_bytes(out));
    return error ? fail(error) : file_->read(offset, out);
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    raise("write_aio");
    raise("pwritev");
    int error = check(DebugIo::Write, offset, iovec_bytes(data));
    return error ? fail(error) : file_->write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    raise("pwritev_zero");
    int error = check(DebugIo::WriteZeroes, offset, size);
    return error ? fail(error) : file_->write_zeroes(offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override {
    int error = check(DebugIo::Discard, offset, size);
    return error ? fail(error) : file_->discard(offset, size);
  }
  Task<Status> flush() override {
    raise("flush_to_os");
    raise("flush_to_disk");
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

  /// Arms the error rules of an event and changes the state.
  void raise(std::string_view event) {
    u64 next = state_;
    for (DebugRule& rule : rules_) {
      if (rule.event != event || (rule.state && rule.state != state_)) continue;
      if (rule.os_errno) armed_.push_back(&rule);
      else next = rule.new_state;
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

  /// The errno that the request fails with, or 0. The rules of the events just raised go first, then those without one.
  int check(DebugIo kind, u64 offset, u64 bytes) {
    std::vector<DebugRule*> armed = std::exchange(armed_, {});
    for (DebugRule& rule : rules_)
      if (rule.event == "none" && rule.os_errno && (!rule.state || rule.state == state_)) armed.push_back(&rule);
    for (DebugRule* rule : armed) {
      if (!fits(*rule, kind, offset, bytes)) continue;
      const int error = rule->os_errno;
      if (rule->once) rule->event = "";  // never again
      return error;
    }
    return 0;
  }

  const std::string node_name_;
  const std::optional<std::string> config_;   // "" if there are no rules at all: then a name can say what this is
  std::vector<DebugRule> rules_;
  std::vector<DebugRule*> armed_;
  u64 state_ = 1;
};

constexpr std::string_view kEvents[] = {"none", "read_aio", "write_aio", "flush_to_os", "flush_to_disk", "pwritev", "pwritev_zero"};

Task<Result<NodePtr>> open_blkdebug(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  const bool has_rules = options.contains("inject-error") || options.contains("set-state");
  OptionReader reader(std::move(options), "blkdebug");
  std::optional<std::string> config;
  if (!has_rules && !reader.has("config")) config = "";
  std::vector<DebugRule> rules = CO_TRY(read_debug_rules(reader));
  for (const DebugRule& rule : rules) {
    if (std::ranges::find(kEvents, rule.event) == std::end(kEvents))
      co_return Error(ErrorKind::Unsupported, fmt::format("blkdebug: event '{}' is not supported", rule.event), ENOTSUP);
  }
  Json child = reader.child("image");
  if (child.is_null()) child = reader.child("file");
  CO_TRY(reader.finish());
  Result<NodePtr> opened = co_await graph.open(std::move(child), std::move(mode));
  NodePtr file = CO_TRY(std::move(opened));
  co_return NodePtr(std::make_shared<DebugNode>(std::move(file), std::move(node_name), std::move(config), std::move(rules)));
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
