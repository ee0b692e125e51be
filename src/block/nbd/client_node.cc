#include "block/nbd/client_node.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/mapping.h"
#include "base/math.h"
#include "block/iovecs.h"
#include "block/nbd/uri.h"

namespace atl::block::nbd {
namespace {

constexpr u64 kRetryNs = 250'000'000;
constexpr u64 kMaxZeroBytes = u64{1} << 31;   // of one request without payload

class ClientNode final : public Node {
 public:
  ClientNode(Loop& loop, ClientOptions options) : loop_(loop), options_(std::move(options)) {}
  ~ClientNode() override {
    if (connection_) connection_->close();
  }

  Task<Status> open();

  NodeInfo info() const override;
  u64 size_bytes() const override { return server().size_bytes; }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override;

 private:
  const ExportInfo& server() const { return connection_->info(); }
  bool can(u16 flag) const { return server().flags & flag; }
  u64 unit() const { return server().min_block.value_or(1); }
  u64 max_payload() const { return std::min<u64>(server().max_block.value_or(kMaxPayload), kMaxPayload); }
  Status check_write(u64 offset, u64 size) const;

  Task<Result<std::shared_ptr<Connection>>> connect();
  Task<Status> reconnect();
  Task<Status> perform(Request request);
  Task<Status> read_aligned(u64 offset, std::span<const iovec> out);
  Task<Status> write_aligned(u64 offset, std::span<const iovec> data, u16 flags);
  Task<Status> read_modify_write(u64 offset, std::span<const iovec> data, u16 flags);
  Task<Status> without_payload(Command command, u64 offset, u64 size, u16 flags);

  Loop& loop_;
  const ClientOptions options_;
  std::shared_ptr<Connection> connection_;
  AsyncLock reconnecting_;
  AsyncLock blocks_;      // exclusive: a read-modify-write for a server with large blocks
  u64 lost_at_ns_ = 0;    // 0: connected
};

// --- connecting ---

Task<Result<std::shared_ptr<Connection>>> ClientNode::connect() {
  auto socket = co_await connect_to(loop_, options_.address);
  auto channel = std::make_unique<Channel>(loop_, CO_TRY(std::move(socket)));
  auto negotiated = co_await negotiate(*channel, options_.hello);
  ExportInfo info = CO_TRY(std::move(negotiated));
  co_return std::make_shared<Connection>(std::move(channel), std::move(info));
}

Task<Status> ClientNode::open() {
  const u64 deadline = monotonic_ns() + options_.open_timeout_ns;
  while (true) {
    auto connection = co_await connect();
    if (connection) {
      connection_ = *std::move(connection);
      break;
    }
    if (!options_.open_timeout_ns || monotonic_ns() >= deadline) co_return std::move(connection).error();
    co_await loop_.sleep(kRetryNs);
  }
  connection_->start();
  bool refused = can(kReadOnly) && !options_.readonly && !options_.auto_readonly;
  if (refused) co_return Error(ErrorKind::Permission, "request on write denied: NBD export is read-only", EACCES);
  co_return Status{};
}

/// Until the server is back with the same export, or its time is over.
Task<Status> ClientNode::reconnect() {
  co_await reconnecting_.exclusive();
  if (!connection_->is_lost()) {
    reconnecting_.release();
    co_return Status{};
  }
  if (!lost_at_ns_) lost_at_ns_ = monotonic_ns();
  Status status;
  while (true) {
    auto connection = co_await connect();
    bool same = connection && (*connection)->info().size_bytes == size_bytes();
    if (same) {
      connection_ = *std::move(connection);
      connection_->start();
      lost_at_ns_ = 0;
      break;
    }
    if (connection) (*connection)->close();
    if (monotonic_ns() - lost_at_ns_ > options_.reconnect_delay_ns) {
      status = connection ? os_error("the NBD export has changed its size", EIO) : os_error(connection.error().text(), EIO);
      break;
    }
    co_await loop_.sleep(kRetryNs);
  }
  reconnecting_.release();
  co_return status;
}

Task<Status> ClientNode::perform(Request request) {
  std::vector<Extent>* extents = request.extents;
  while (true) {
    if (connection_->is_lost()) {
      if (!options_.reconnect_delay_ns) co_return os_error("the NBD server is gone", EIO);
      Status back = co_await reconnect();
      CO_TRY(std::move(back));
    }
    auto connection = connection_;
    if (extents) extents->clear();
    Status status = co_await connection->perform(request);
    if (status || !connection->is_lost() || !options_.reconnect_delay_ns) co_return status;
  }
}

// --- requests ---

NodeInfo ClientNode::info() const {
  NodeInfo info;
  info.node_name = options_.node_name;
  info.driver = "nbd";
  info.filename = nbd_uri(options_.address, options_.hello.export_name, false);
  info.size_bytes = size_bytes();
  info.readonly = options_.readonly || can(kReadOnly);
  info.request_alignment = static_cast<u32>(unit());
  info.can_discard = options_.discard && can(kSendTrim);
  return info;
}

Status ClientNode::check_write(u64 offset, u64 size) const {
  if (options_.readonly || can(kReadOnly)) return Error(ErrorKind::Permission, "the NBD export is read-only", EPERM);
  return check_range(offset, size, size_bytes());
}

/// In pieces that the server takes; what lies beyond its end reads as zeroes.
Task<Status> ClientNode::read(u64 offset, std::span<const iovec> out) {
  u64 size = iovec_bytes(out);
  CO_TRY(check_range(offset, size, size_bytes()));
  u64 inside = offset < size_bytes() ? std::min(size, size_bytes() - offset) : 0;
  iovec_clear(out, inside);
  if (!inside) co_return Status{};
  u64 start = align_down(offset, unit()), end = align_up(offset + inside, unit());
  if (start == offset && end == offset + inside && inside <= max_payload()) {
    std::vector<iovec> cut;
    if (inside < size) cut = iovec_slice(out, 0, inside);
    co_return co_await read_aligned(offset, inside < size ? cut : out);
  }
  for (u64 done = 0; done < inside;) {
    u64 at = offset + done, first = align_down(at, unit());
    u64 n = std::min(inside - done, align_down(max_payload(), unit()) - (at - first));
    u64 length = align_up(at + n, unit()) - first;
    Mapping bounce = CO_TRY(Mapping::anonymous(length));
    iovec whole{bounce.data(), length};
    Status status = co_await read_aligned(first, {&whole, 1});
    CO_TRY(std::move(status));
    iovec_copy_to(iovec_slice(out, done, n), bounce.span().subspan(at - first, n));
    done += n;
  }
  co_return Status{};
}

Task<Status> ClientNode::read_aligned(u64 offset, std::span<const iovec> out) {
  Request request{.command = kCmdRead, .offset = offset, .bytes = iovec_bytes(out), .out = out};
  return perform(request);
}

Task<Status> ClientNode::write_aligned(u64 offset, std::span<const iovec> data, u16 flags) {
  Request request{.command = kCmdWrite, .flags = flags, .offset = offset, .bytes = iovec_bytes(data), .data = data};
  return perform(request);
}

Task<Status> ClientNode::write(u64 offset, std::span<const iovec> data, u32 flags) {
  u64 size = iovec_bytes(data);
  CO_TRY(check_write(offset, size));
  // The last sector may stick out of an export of odd size.
  if (offset >= size_bytes()) co_return Status{};
  size = std::min(size, size_bytes() - offset);
  u16 wire_flags = (flags & kFua) && can(kSendFua) ? kFlagFua : 0;
  const u64 most = align_down(max_payload(), unit());
  for (u64 done = 0; done < size;) {
    u64 at = offset + done;
    u64 n = std::min(size - done, most - (at & (unit() - 1)));
    auto piece = iovec_slice(data, done, n);
    bool aligned = ((at | n) & (unit() - 1)) == 0;
    if (unit() > 1) co_await AsyncLock::Acquire(blocks_, !aligned);
    Status status;
    if (aligned)
      status = co_await write_aligned(at, piece, wire_flags);
    else
      status = co_await read_modify_write(at, piece, wire_flags);
    if (unit() > 1) blocks_.release();
    CO_TRY(std::move(status));
    done += n;
  }
  if ((flags & kFua) && !wire_flags) co_return co_await flush();
  co_return Status{};
}

Task<Status> ClientNode::read_modify_write(u64 offset, std::span<const iovec> data, u16 flags) {
  u64 size = iovec_bytes(data), first = align_down(offset, unit()), length = align_up(offset + size, unit()) - first;
  Mapping bounce = CO_TRY(Mapping::anonymous(length));
  iovec whole{bounce.data(), length};
  Status status = co_await read_aligned(first, {&whole, 1});
  CO_TRY(std::move(status));
  iovec_copy_from(data, bounce.span().subspan(offset - first, size));
  co_return co_await write_aligned(first, {&whole, 1}, flags);
}

/// Requests whose length is only bounded by its field.
Task<Status> ClientNode::without_payload(Command command, u64 offset, u64 size, u16 flags) {
  while (size > 0) {
    u64 n = std::min(size, kMaxZeroBytes);
    Request request{.command = command, .flags = flags, .offset = offset, .bytes = n};
    Status status = co_await perform(request);
    CO_TRY(std::move(status));
    offset += n;
    size -= n;
  }
  co_return Status{};
}

Task<Status> ClientNode::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  if (offset >= size_bytes()) co_return Status{};
  size = std::min(size, size_bytes() - offset);
  bool aligned = ((offset | size) & (unit() - 1)) == 0;
  Status status;
  if (!can(kSendWriteZeroes) || !aligned) {
    status = co_await write_zeroes_as_data(*this, offset, size);
  } else {
    u16 wire_flags = flags & kMayUnmap ? 0 : kFlagNoHole;
    if (can(kSendFua) && (flags & kFua)) wire_flags |= kFlagFua;
    status = co_await without_payload(kCmdWriteZeroes, offset, size, wire_flags);
    if (status && can(kSendFua)) co_return status;
  }
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

/// A hint: whole blocks only.
Task<Status> ClientNode::discard(u64 offset, u64 size) {
  CO_TRY(check_write(offset, size));
  if (!options_.discard || !can(kSendTrim)) co_return Status{};
  u64 end = align_down(std::min(offset + size, size_bytes()), unit());
  offset = align_up(offset, unit());
  if (offset >= end) co_return Status{};
  co_return co_await without_payload(kCmdTrim, offset, end - offset, 0);
}

Task<Status> ClientNode::flush() {
  if (!can(kSendFlush)) co_return Status{};
  Request request{.command = kCmdFlush};
  co_return co_await perform(request);
}

Task<Result<BlockStatus>> ClientNode::block_status(u64 offset, u64 bytes) {
  BlockStatus status;
  status.bytes = bytes;
  status.offset = offset;
  status.file = this;
  if (!server().allocation_context || offset >= size_bytes()) co_return status;
  bytes = std::min({bytes, size_bytes() - offset, align_down(0xffffffff, unit())});
  u64 first = align_down(offset, unit());
  std::vector<Extent> extents;
  Request request{.command = kCmdBlockStatus, .flags = kFlagReqOne, .offset = first,
                  .bytes = align_up(offset + bytes, unit()) - first, .extents = &extents};
  Status asked = co_await perform(request);
  CO_TRY(std::move(asked));
  if (extents.empty()) co_return Error(ErrorKind::Io, "NBD server: no extents in a block status", EIO);
  const Extent& extent = extents[0];
  u64 covered = extent.bytes - std::min(extent.bytes, offset - first);
  if (covered == 0) co_return Error(ErrorKind::Io, "NBD server: extents that end before their offset", EIO);
  status.bytes = std::min(covered, bytes);
  status.data = !(extent.flags & kStateHole);
  status.zero = extent.flags & kStateZero;
  co_return status;
}

}  // namespace

Task<Result<NodePtr>> open_client_node(Loop& loop, ClientOptions options) {
  auto node = std::make_shared<ClientNode>(loop, std::move(options));
  Status status = co_await node->open();
  CO_TRY(std::move(status));
  co_return NodePtr(std::move(node));
}

}  // namespace atl::block::nbd
