// Driver "quorum": several children hold the same bytes; what at least `vote-threshold` of them agree on counts.
//
// Supported: read-pattern quorum and fifo, rewrite-corrupted, blkverify (two children that must agree), children that come and
// go at run time (replace_child). Writes succeed where enough children took them. Missing: events about who was outvoted.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/mapping.h"
#include "base/task_group.h"
#include "block/driver.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr size_t kMaxChildren = 64;

struct QuorumOptions {
  u64 threshold = 1;
  bool fifo = false, rewrite = false, verify = false;
};

class QuorumNode final : public Node {
 public:
  QuorumNode(std::vector<NodePtr> nodes, std::string node_name, QuorumOptions options)
      : nodes_(std::move(nodes)), node_name_(std::move(node_name)), o_(options) {
    for (; next_ < nodes_.size(); ++next_) roles_.push_back(role_of(next_));
  }

  NodeInfo info() const override;
  u64 size_bytes() const override { return nodes_[0]->size_bytes(); }
  std::vector<Child> children() const override;
  /// Takes a child away where `node` is null, but never so many that no vote can be won; a role that no child has adds one.
  Status replace_child(std::string_view role, NodePtr node) override;
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    auto request = [=](Node& node) { return node.write(offset, data, flags); };
    return vote(request);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    auto request = [=](Node& node) { return node.write_zeroes(offset, size, flags); };
    return vote(request);
  }
  Task<Status> discard(u64 offset, u64 size) override {
    auto request = [=](Node& node) { return node.discard(offset, size); };
    return vote(request);
  }
  Task<Status> flush() override {
    auto request = [](Node& node) { return node.flush(); };
    return vote(request);
  }
  Task<Status> close() override {
    auto request = [](Node& node) { return node.close(); };
    return vote(request);
  }

 private:
  using Request = std::function<Task<Status>(Node&)>;
  struct Answer {
    Mapping bytes;
    Status status;
    u64 votes = 0;
  };

  static std::string role_of(size_t number) { return fmt::format("children.{}", number); }
  Status add_child(NodePtr node);
  Task<Status> vote(Request request);
  Task<Status> read_first(u64 offset, std::span<const iovec> out);
  static Task<Status> read_into(Node& node, u64 offset, Answer& answer);
  static void count_votes(std::vector<Answer>& answers);
  Task<Status> rewrite(u64 offset, const Answer& winner, const std::vector<Answer>& answers);

  std::vector<NodePtr> nodes_;
  std::vector<std::string> roles_;   // of the same; a child keeps its own when others go
  size_t next_ = 0;                  // number of the child to come
  const std::string node_name_;
  const QuorumOptions o_;
};

NodeInfo QuorumNode::info() const {
  NodeInfo info;
  info.node_name = node_name_;
  info.driver = "quorum";
  info.size_bytes = size_bytes();
  info.readonly = std::ranges::any_of(nodes_, [](const NodePtr& node) { return node->info().readonly; });
  return info;
}

std::vector<Child> QuorumNode::children() const {
  std::vector<Child> list;
  for (size_t i = 0; i < nodes_.size(); ++i) list.push_back({roles_[i], nodes_[i]});
  return list;
}

Status QuorumNode::add_child(NodePtr node) {
  if (o_.verify) return Error(ErrorKind::Unsupported, "Cannot add a child to a quorum in blkverify mode", ENOTSUP);
  if (nodes_.size() >= kMaxChildren) return Error(ErrorKind::Invalid, "Too many children", EINVAL);
  if (node->size_bytes() != size_bytes()) return Error(ErrorKind::Invalid, "the children of a quorum must have the same size", EINVAL);
  nodes_.push_back(std::move(node));
  roles_.push_back(role_of(next_++));
  return {};
}

Status QuorumNode::replace_child(std::string_view role, NodePtr node) {
  const auto at = std::ranges::find(roles_, role) - roles_.begin();
  if (static_cast<size_t>(at) == roles_.size()) return node ? add_child(std::move(node)) : Node::replace_child(role, nullptr);
  if (node) {
    nodes_[static_cast<size_t>(at)] = std::move(node);
    return {};
  }
  if (nodes_.size() <= o_.threshold)
    return Error(ErrorKind::Invalid, fmt::format("The number of children cannot be lower than the vote threshold {}", o_.threshold), EINVAL);
  nodes_.erase(nodes_.begin() + at);
  roles_.erase(roles_.begin() + at);
  return {};
}

/// On all children, one after the other so that they see writes in one order. The first error is told if too few succeed.
Task<Status> QuorumNode::vote(Request request) {
  u64 good = 0;
  Status first;
  for (const NodePtr& node : nodes_) {
    Status status = co_await request(*node);
    if (status) ++good;
    else if (first) first = std::move(status);
  }
  if (good >= o_.threshold) co_return Status{};
  co_return first;
}

Task<Status> QuorumNode::read_first(u64 offset, std::span<const iovec> out) {
  Status status;
  for (const NodePtr& node : nodes_) {
    status = co_await node->read(offset, out);
    if (status) break;
  }
  co_return status;
}

Task<Status> QuorumNode::read_into(Node& node, u64 offset, Answer& answer) {
  iovec whole{answer.bytes.data(), answer.bytes.size()};
  answer.status = co_await node.read(offset, {&whole, 1});
  co_return Status{};  // a failed child is a missing vote
}

void QuorumNode::count_votes(std::vector<Answer>& answers) {
  for (Answer& answer : answers) {
    if (!answer.status) continue;
    for (const Answer& other : answers)
      if (other.status && std::memcmp(answer.bytes.data(), other.bytes.data(), answer.bytes.size()) == 0) ++answer.votes;
  }
}

Task<Status> QuorumNode::rewrite(u64 offset, const Answer& winner, const std::vector<Answer>& answers) {
  iovec whole{const_cast<u8*>(winner.bytes.data()), winner.bytes.size()};  // only written from
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (answers[i].status && answers[i].votes == winner.votes) continue;
    Status status = co_await nodes_[i]->write(offset, {&whole, 1}, kNoFlags);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> QuorumNode::read(u64 offset, std::span<const iovec> out) {
  if (o_.fifo) co_return co_await read_first(offset, out);
  const u64 size = iovec_bytes(out);
  CO_TRY(check_range(offset, size, size_bytes()));
  if (!size) co_return Status{};
  std::vector<Answer> answers(nodes_.size());
  for (Answer& answer : answers) answer.bytes = CO_TRY(Mapping::anonymous(size));
  TaskGroup group(static_cast<unsigned>(nodes_.size()));
  for (size_t i = 0; i < nodes_.size(); ++i) group.add(read_into(*nodes_[i], offset, answers[i]));
  Status all = co_await group.all();
  CO_TRY(std::move(all));
  count_votes(answers);
  const Answer& winner = *std::ranges::max_element(answers, {}, &Answer::votes);
  if (!winner.votes) co_return std::move(answers[0].status).context("quorum");
  const u64 needed = o_.verify ? nodes_.size() : o_.threshold;
  if (winner.votes < needed)
    co_return Error(ErrorKind::Io, fmt::format("quorum: only {} of {} children agree on {} bytes at {}", winner.votes, nodes_.size(), size, offset), EIO);
  iovec_copy_to(out, {winner.bytes.data(), size});
  if (o_.rewrite && winner.votes < nodes_.size()) co_return co_await rewrite(offset, winner, answers);
  co_return Status{};
}

Result<QuorumOptions> read_options(OptionReader& reader, size_t children) {
  QuorumOptions options;
  options.threshold = TRY(reader.number("vote-threshold", 0));
  options.rewrite = TRY(reader.boolean("rewrite-corrupted", false));
  options.verify = TRY(reader.boolean("blkverify", false));
  std::string pattern = TRY(reader.string("read-pattern", "quorum"));
  options.fifo = pattern == "fifo";
  if (!options.fifo && pattern != "quorum") return Error(ErrorKind::Invalid, "Please set read-pattern as fifo or quorum");
  if (options.fifo && !options.threshold) options.threshold = 1;
  if (children < 1 || options.threshold < 1) return Error(ErrorKind::Invalid, "Parameter 'vote-threshold' expects a value >= 1");
  if (options.threshold > children) return Error(ErrorKind::Invalid, "threshold may not exceed children count");
  if (options.verify && (children != 2 || options.threshold != 2))
    return Error(ErrorKind::Invalid, "blkverify=on can only be set if there are exactly two files and vote-threshold is 2");
  if (options.rewrite && options.verify) return Error(ErrorKind::Invalid, "rewrite-corrupted=on cannot be used with blkverify=on");
  return options;
}

Task<Result<NodePtr>> open_quorum(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "quorum");
  Json list = reader.child("children");
  if (!list.is_array() || list.size() > kMaxChildren) co_return Error(ErrorKind::Invalid, "Parameter 'children' expects a list of at most 64 nodes");
  QuorumOptions quorum = CO_TRY(read_options(reader, list.size()));
  CO_TRY(reader.finish());
  mode.no_probe = false;
  std::vector<NodePtr> nodes;
  for (Json& item : list) {
    Json child = std::move(item);
    Result<NodePtr> opened = co_await graph.open(std::move(child), mode);
    NodePtr node = CO_TRY(std::move(opened));
    if (!nodes.empty() && node->size_bytes() != nodes[0]->size_bytes())
      co_return Error(ErrorKind::Invalid, "the children of a quorum must have the same size");
    nodes.push_back(std::move(node));
  }
  co_return NodePtr(std::make_shared<QuorumNode>(std::move(nodes), std::move(node_name), quorum));
}

}  // namespace

extern const Driver kQuorumDriver;
const Driver kQuorumDriver = {.name = "quorum", .protocol = true, .open = open_quorum};

}  // namespace atl::block
