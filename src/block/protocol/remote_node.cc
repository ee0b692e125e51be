#include "block/protocol/remote_node.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <list>

#include "base/worker_pool.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr u64 kMaxRequestBytes = 4 * kMiB;
constexpr size_t kMaxFetched = 8;

class RemoteNode final : public Node {
 public:
  RemoteNode(Loop& loop, RemoteOptions options, Connect connect, std::unique_ptr<WorkerPool> pool)
      : loop_(loop), o_(std::move(options)), connect_(std::move(connect)), pool_(std::move(pool)) {}
  Task<Status> find_size();

  NodeInfo info() const override;
  u64 size_bytes() const override { return size_; }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;
  Task<Status> resize(u64 size_bytes, Preallocation how) override;

 private:
  using Work = std::function<Status(RemoteConnection&)>;
  using Bytes = std::vector<u8>;
  struct Fetched {
    u64 offset = 0;
    Bytes bytes;
  };
  struct Turn {
    RemoteNode& node;
    bool await_ready() const { return node.busy_ < node.o_.connections; }
    void await_suspend(std::coroutine_handle<> waiter) { node.waiting_.push_back(waiter); }
    void await_resume() const {}
  };

  Task<Status> run(Work work);
  Status check_write(u64 offset, u64 size) const;
  Task<Status> read_piece(u64 offset, std::span<const iovec> out);
  bool copy_fetched(u64 offset, std::span<const iovec> out);

  Loop& loop_;
  const RemoteOptions o_;
  const Connect connect_;
  u64 size_ = 0;
  unsigned busy_ = 0;
  std::vector<std::unique_ptr<RemoteConnection>> idle_;
  std::list<std::coroutine_handle<>> waiting_;
  std::list<Fetched> fetched_;   // newest first
  std::unique_ptr<WorkerPool> pool_;
};

NodeInfo RemoteNode::info() const {
  NodeInfo info;
  info.node_name = o_.node_name;
  info.driver = o_.driver;
  info.filename = o_.filename;
  info.size_bytes = size_;
  info.readonly = o_.readonly;
  info.request_alignment = o_.request_alignment;
  info.can_discard = !o_.readonly;
  return info;
}

/// A connection that failed is not used again.
Task<Status> RemoteNode::run(Work work) {
  while (busy_ >= o_.connections) {
    Turn turn{*this};
    co_await turn;
  }
  ++busy_;
  std::unique_ptr<RemoteConnection> connection;
  if (!idle_.empty()) {
    connection = std::move(idle_.back());
    idle_.pop_back();
  }
  Status status;
  auto on_thread = [&] {
    if (!connection) {
      auto connected = connect_();
      if (connected) connection = std::move(*connected);
      else status = std::move(connected).error();
    }
    if (status) status = work(*connection);
    if (!status) connection.reset();
  };
  auto finished = pool_->run(loop_, on_thread);
  co_await finished;
  --busy_;
  if (connection) idle_.push_back(std::move(connection));
  if (!waiting_.empty()) {
    auto next = waiting_.front();
    waiting_.pop_front();
    next.resume();
  }
  co_return std::move(status).context(o_.filename);
}

Task<Status> RemoteNode::find_size() {
  Work work = [this](RemoteConnection& connection) -> Status {
    size_ = TRY(connection.size_bytes());
    return {};
  };
  co_return co_await run(std::move(work));
}

bool RemoteNode::copy_fetched(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  for (const Fetched& f : fetched_) {
    if (offset < f.offset || offset + size > f.offset + f.bytes.size()) continue;
    iovec_copy_to(out, std::span(f.bytes).subspan(offset - f.offset, size));
    return true;
  }
  return false;
}

Task<Status> RemoteNode::read(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  CO_TRY(check_range(offset, size, size_).context(o_.filename));
  for (u64 done = 0; done < size;) {
    auto part = iovec_slice(out, done, kMaxRequestBytes);
    Status status = co_await read_piece(offset + done, part);
    CO_TRY(std::move(status));
    done += iovec_bytes(part);
  }
  co_return Status{};
}

Task<Status> RemoteNode::read_piece(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  if (copy_fetched(offset, out)) co_return Status{};
  const u64 inside = offset < size_ ? std::min(size, size_ - offset) : 0;
  iovec_clear(out, inside);
  if (!inside) co_return Status{};
  Fetched fetched;
  fetched.offset = offset;
  fetched.bytes.resize(std::min(inside + o_.readahead_bytes, size_ - offset));
  Work work = [&](RemoteConnection& connection) { return connection.read(offset, fetched.bytes); };
  Status status = co_await run(std::move(work));
  CO_TRY(std::move(status));
  auto part = iovec_slice(out, 0, inside);
  iovec_copy_to(part, std::span(fetched.bytes).first(inside));
  if (!o_.readahead_bytes) co_return Status{};
  fetched_.push_front(std::move(fetched));
  if (fetched_.size() > kMaxFetched) fetched_.pop_back();
  co_return Status{};
}

Status RemoteNode::check_write(u64 offset, u64 size) const {
  if (o_.readonly) return Error(ErrorKind::Permission, o_.filename + " is open for reading only", EPERM);
  return check_range(offset, size, size_).context(o_.filename);
}

Task<Status> RemoteNode::write(u64 offset, std::span<const iovec> data, u32 flags) {
  const u64 size = iovec_bytes(data);
  CO_TRY(check_write(offset, size));
  fetched_.clear();
  for (u64 done = 0; done < size;) {
    Bytes bytes(std::min(size - done, kMaxRequestBytes));
    auto part = iovec_slice(data, done, bytes.size());
    iovec_copy_from(part, bytes);
    Work work = [&](RemoteConnection& connection) { return connection.write(offset + done, bytes); };
    Status status = co_await run(std::move(work));
    CO_TRY(std::move(status));
    done += bytes.size();
  }
  size_ = std::max(size_, offset + size);
  fetched_.clear();
  if (flags & kFua) co_return co_await flush();
  co_return Status{};
}

Task<Status> RemoteNode::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  fetched_.clear();
  Work work = [=](RemoteConnection& connection) { return connection.write_zeroes(offset, size, flags & kMayUnmap); };
  Status status = co_await run(std::move(work));
  if (!status && status.error().kind() == ErrorKind::Unsupported) status = co_await write_zeroes_as_data(*this, offset, size);
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

Task<Status> RemoteNode::discard(u64 offset, u64 size) {
  CO_TRY(check_write(offset, size));
  fetched_.clear();
  Work work = [=](RemoteConnection& connection) { return connection.discard(offset, size); };
  co_return co_await run(std::move(work));
}

Task<Status> RemoteNode::flush() {
  if (o_.readonly) co_return Status{};
  Work work = [](RemoteConnection& connection) { return connection.flush(); };
  co_return co_await run(std::move(work));
}

Task<Status> RemoteNode::resize(u64 size_bytes, Preallocation how) {
  if (o_.readonly) co_return Error(ErrorKind::Permission, o_.filename + " is open for reading only", EPERM);
  if (how != Preallocation::Off) co_return Error(ErrorKind::Unsupported, "Unsupported preallocation mode", ENOTSUP);
  fetched_.clear();
  Work work = [=](RemoteConnection& connection) { return connection.resize(size_bytes); };
  Status status = co_await run(std::move(work));
  if (status) size_ = size_bytes;
  co_return status;
}

}  // namespace

Status RemoteConnection::write(u64, std::span<const u8>) {
  return Error(ErrorKind::Unsupported, "this protocol cannot write", ENOTSUP);
}
Status RemoteConnection::resize(u64) {
  return Error(ErrorKind::Unsupported, "disks of this protocol cannot be resized", ENOTSUP);
}
Status RemoteConnection::write_zeroes(u64, u64, bool) { return Error(ErrorKind::Unsupported, "no fast zeroes", ENOTSUP); }

Task<Result<NodePtr>> open_remote_node(Loop& loop, RemoteOptions options, Connect connect) {
  auto pool = CO_TRY(WorkerPool::start(options.driver, options.connections));
  auto node = std::make_shared<RemoteNode>(loop, std::move(options), std::move(connect), std::move(pool));
  Status status = co_await node->find_size();
  CO_TRY(std::move(status));
  co_return NodePtr(std::move(node));
}

Task<Status> run_blocking(Loop& loop, std::function<Status()> function) {
  auto pool = CO_TRY(WorkerPool::start("remote", 1));
  Status status;
  auto on_thread = [&] { status = function(); };
  auto finished = pool->run(loop, on_thread);
  co_await finished;
  co_return status;
}

Task<Status> create_on_disk(Graph& graph, std::string filename, Json options, const char* driver) {
  OptionReader reader(std::move(options), driver);
  const u64 size = CO_TRY(reader.size("size", 0));
  OpenMode mode;
  mode.no_probe = true;
  auto opened = co_await graph.open_name(filename, "", mode);
  if (!opened) {
    auto why = fmt::format("Protocol driver '{}' does not support image creation, and opening the image failed", driver);
    co_return std::move(opened).error().with_context(std::move(why));
  }
  if ((*opened)->size_bytes() < size) co_return Error(ErrorKind::NoSpace, fmt::format("'{}' is too small", filename), ENOSPC);
  co_return Status{};
}

}  // namespace atl::block
