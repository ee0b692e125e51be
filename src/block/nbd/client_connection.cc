#include "block/nbd/client_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/math.h"
#include "block/iovecs.h"

namespace atl::block::nbd {
namespace {

constexpr size_t kRequestBytes = 28;
constexpr size_t kSimpleBytes = 16, kChunkBytes = 20;
constexpr u32 kMaxExtents = 1u << 20;

const char* name_of(Command command) {
  static constexpr const char* kNames[] = {"read", "write", "disconnect", "flush", "trim", "cache", "write zeroes", "block status"};
  return kNames[command];
}

Error broken(std::string text) { return Error(ErrorKind::Io, "NBD server broke the protocol: " + std::move(text), EIO); }

Error refused(const Request& request, int err) {
  return os_error(fmt::format("NBD {} of {} bytes at {}", name_of(request.command), request.bytes, request.offset), err);
}

}  // namespace

void Connection::start() { receive_all(shared_from_this()); }

void Connection::close() {
  if (lost_) return;
  u8 bytes[kRequestBytes];
  Encoder(bytes).put(kRequestMagic).put(u16{0}).put(static_cast<u16>(kCmdDisc)).put(u64{0}).put(u64{0}).put(u32{0});
  channel_->write_now(bytes);
  lose(os_error("the connection was closed", ECONNRESET));
}

/// Pending requests end with the receiver, which may be writing into their buffers now.
void Connection::lose(Error error) {
  if (std::exchange(lost_, true)) return;
  end_ = std::move(error);
  channel_->shutdown();
}

void Connection::fail_pending() {
  auto pending = std::move(pending_);
  pending_.clear();
  for (auto& [handle, one] : pending) {
    one->status = end_;
    one->done = true;
    if (one->waiter) one->waiter.resume();
  }
}

// --- requests ---

Task<Status> Connection::send(u64 handle, const Request& request) {
  u8 head[kRequestBytes];
  Encoder(head)
      .put(kRequestMagic)
      .put(request.flags)
      .put(static_cast<u16>(request.command))
      .put(handle)
      .put(request.offset)
      .put(static_cast<u32>(request.bytes));
  std::vector<iovec> parts{{head, sizeof head}};
  parts.insert(parts.end(), request.data.begin(), request.data.end());
  co_await sending_.exclusive();
  Status status = os_error("the connection was lost", ECONNRESET);
  if (!lost_) status = co_await channel_->write_all(std::move(parts));
  sending_.release();
  co_return status;
}

Task<Status> Connection::perform(Request request) {
  auto self = shared_from_this();
  if (lost_) co_return os_error("the connection was lost", ECONNRESET);
  Pending pending{.request = request};
  u64 handle = next_handle_++;
  pending_[handle] = &pending;
  Status sent = co_await send(handle, request);
  if (!sent) lose(sent.error());
  struct Answer {
    Pending& pending;
    bool await_ready() const { return pending.done; }
    void await_suspend(std::coroutine_handle<> waiter) { pending.waiter = waiter; }
    void await_resume() const {}
  };
  Answer answer{pending};
  co_await answer;
  co_return std::move(pending.status);
}

// --- replies ---

Detached Connection::receive_all(std::shared_ptr<Connection> self) {
  Status status;
  while (status && !self->lost_) status = co_await self->receive_reply();
  self->lose(status ? os_error("the connection was closed", ECONNRESET) : status.error());
  self->fail_pending();
}

Result<Connection::Pending*> Connection::find(u64 handle) {
  auto found = pending_.find(handle);
  if (found == pending_.end()) return broken("a reply to no request");
  return found->second;
}

void Connection::finish(u64 handle, Pending& pending) {
  pending_.erase(handle);
  const Request& request = pending.request;
  bool short_read = request.command == kCmdRead && pending.status && pending.covered != request.bytes;
  if (short_read) pending.status = broken("a read came back incomplete");
  pending.done = true;
  if (pending.waiter) pending.waiter.resume();
}

Task<Status> Connection::receive_reply() {
  u8 head[kChunkBytes];
  Status status = co_await channel_->read_exact(std::span<u8>(head, kSimpleBytes));
  CO_TRY(std::move(status));
  u32 magic = load_be<u32>(head);
  if (magic == kSimpleReplyMagic) co_return co_await receive_simple(head);
  if (magic != kStructuredReplyMagic || !info_.structured) co_return broken(fmt::format("reply magic {:#x}", magic));
  status = co_await channel_->read_exact(std::span<u8>(head + kSimpleBytes, kChunkBytes - kSimpleBytes));
  CO_TRY(std::move(status));
  co_return co_await receive_chunk(head);
}

Task<Status> Connection::receive_simple(std::span<const u8> head) {
  u64 handle = load_be<u64>(&head[8]);
  u32 err = load_be<u32>(&head[4]);
  Pending& pending = *CO_TRY(find(handle));
  const Request& request = pending.request;
  if (request.command == kCmdRead && info_.structured) co_return broken("a simple reply to a read");
  if (request.command == kCmdRead && !err) {
    Status status = co_await channel_->read_exact(request.out);
    CO_TRY(std::move(status));
    pending.covered = request.bytes;
  }
  if (err) pending.status = refused(request, from_wire_errno(err));
  finish(handle, pending);
  co_return Status{};
}

Task<Status> Connection::receive_chunk(std::span<const u8> head) {
  u16 flags = load_be<u16>(&head[4]), type = load_be<u16>(&head[6]);
  u64 handle = load_be<u64>(&head[8]);
  u32 length = load_be<u32>(&head[16]);
  Pending& pending = *CO_TRY(find(handle));
  if (length > kMaxPayload + 8) co_return broken(fmt::format("a chunk of {} bytes", length));
  Status status;
  if (type == kChunkNone && length == 0 && (flags & kChunkDone)) status = Status{};
  else if (type == kChunkOffsetData) status = co_await take_data(pending, length);
  else if (type == kChunkOffsetHole) status = co_await take_hole(pending, length);
  else if (type == kChunkBlockStatus) status = co_await take_status(pending, length);
  else if (type & kChunkIsError) status = co_await take_error(pending, length);
  else status = broken(fmt::format("chunk type {}", type));
  CO_TRY(std::move(status));
  if (flags & kChunkDone) finish(handle, pending);
  co_return Status{};
}

Task<Status> Connection::take_data(Pending& pending, u32 length) {
  const Request& request = pending.request;
  if (request.command != kCmdRead || length <= 8) co_return broken("a data chunk of a wrong shape");
  u8 bytes[8];
  Status status = co_await channel_->read_exact(std::span<u8>(bytes));
  CO_TRY(std::move(status));
  u64 offset = load_be<u64>(bytes), size = length - 8;
  if (offset < request.offset || !range_fits(offset - request.offset, size, request.bytes))
    co_return broken("a data chunk outside its request");
  auto place = iovec_slice(request.out, offset - request.offset, size);
  status = co_await channel_->read_exact(place);
  pending.covered += size;
  co_return status;
}

Task<Status> Connection::take_hole(Pending& pending, u32 length) {
  const Request& request = pending.request;
  if (request.command != kCmdRead || length != 12) co_return broken("a hole chunk of a wrong shape");
  u8 bytes[12];
  Status status = co_await channel_->read_exact(std::span<u8>(bytes));
  CO_TRY(std::move(status));
  u64 offset = load_be<u64>(bytes), size = load_be<u32>(bytes + 8);
  if (offset < request.offset || !range_fits(offset - request.offset, size, request.bytes))
    co_return broken("a hole chunk outside its request");
  iovec_clear(iovec_slice(request.out, offset - request.offset, size));
  pending.covered += size;
  co_return Status{};
}

Task<Status> Connection::take_status(Pending& pending, u32 length) {
  const Request& request = pending.request;
  if (request.command != kCmdBlockStatus || length < 12 || (length - 4) % 8 || length > 8 * kMaxExtents)
    co_return broken("a block status of a wrong shape");
  std::vector<u8> bytes(length);
  Status status = co_await channel_->read_exact(std::span<u8>(bytes));
  CO_TRY(std::move(status));
  if (info_.allocation_context != load_be<u32>(bytes.data())) co_return Status{};  // of a context that we did not ask for
  for (u32 at = 4; at < length; at += 8) {
    Extent extent{load_be<u32>(&bytes[at]), load_be<u32>(&bytes[at + 4])};
    if (extent.bytes == 0) co_return broken("an empty extent");
    if (request.extents) request.extents->push_back(extent);
  }
  co_return Status{};
}

Task<Status> Connection::take_error(Pending& pending, u32 length) {
  if (length < 6 || length > kMaxString + 64) co_return broken("an error chunk of a wrong length");
  std::vector<u8> bytes(length);
  Status status = co_await channel_->read_exact(std::span<u8>(bytes));
  CO_TRY(std::move(status));
  u32 err = load_be<u32>(bytes.data());
  u16 size = load_be<u16>(&bytes[4]);
  if (size + 6u > length) co_return broken("an error message longer than its chunk");
  if (err == 0) co_return broken("an error chunk without an error");
  std::string message(reinterpret_cast<const char*>(&bytes[6]), size);
  if (!pending.status) co_return Status{};  // the first counts
  pending.status = refused(pending.request, from_wire_errno(err));
  if (!message.empty()) pending.status = std::move(pending.status).context(message);
  co_return Status{};
}

}  // namespace atl::block::nbd
