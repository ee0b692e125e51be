#include "block/nbd/server_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/job/copy.h"

namespace atl::block::nbd {
namespace {

constexpr u32 kMaxInFlight = 16;
constexpr u64 kMaxBytesInFlight = 32 * kMiB;   // a single request of that size always fits
constexpr size_t kRequestBytes = 28;
constexpr size_t kMaxExtents = 2048;           // of one block status reply
constexpr size_t kMaxRuns = 512;               // chunks of one read

struct Rule {
  u16 allowed_flags;
  bool writes;
};

/// What each command may carry; nothing for commands that do not exist.
const Rule* rule_of(u16 command) {
  static constexpr Rule kRules[] = {
      {kFlagDf, false},                          // read
      {kFlagFua, true},                          // write
      {0, false},                                // disconnect
      {0, false},                                // flush
      {kFlagFua, true},                          // trim
      {0, false},                                // cache
      {kFlagFua | kFlagNoHole, true},            // write zeroes
      {kFlagReqOne, false},                      // block status
  };
  return command < std::size(kRules) ? &kRules[command] : nullptr;
}

/// A structured reply's head, and behind it room for `extra` bytes.
std::vector<u8> chunk_head(u64 handle, u16 type, bool last, u32 payload, size_t extra) {
  std::vector<u8> bytes(20 + extra);
  Encoder(bytes.data())
      .put(kStructuredReplyMagic)
      .put(static_cast<u16>(last ? kChunkDone : 0))
      .put(type)
      .put(handle)
      .put(payload);
  return bytes;
}

std::vector<iovec> one_part(std::vector<u8>& bytes) { return {{bytes.data(), bytes.size()}}; }

}  // namespace

Session::Session(Loop& loop, Server& server, Fd socket, std::shared_ptr<const TlsCredentials> tls)
    : loop_(loop), server_(&server), channel_(loop, std::move(socket)), tls_(std::move(tls)) {}

Detached Session::run(std::shared_ptr<Session> self) {
  Status status = co_await self->negotiate();
  if (status) status = co_await self->transmit();
  self->channel_.shutdown();
  // A request in flight holds the session, but no client is behind it any more.
  if (self->server_) self->server_->left(self.get());
}

// --- taking requests ---

Task<Status> Session::transmit() {
  while (true) {
    u8 head[kRequestBytes];
    Status status = co_await channel_.read_exact(std::span<u8>(head));
    CO_TRY(std::move(status));
    if (load_be<u32>(head) != kRequestMagic) co_return Error(ErrorKind::Invalid, "NBD client: a request without its magic");
    Request request{.flags = load_be<u16>(head + 4),
                    .command = load_be<u16>(head + 6),
                    .handle = load_be<u64>(head + 8),
                    .offset = load_be<u64>(head + 16),
                    .bytes = load_be<u32>(head + 24)};
    if (request.command == kCmdDisc) co_return Status{};
    status = co_await receive_payload(request);
    CO_TRY(std::move(status));
    ++in_flight_;
    bytes_in_flight_ += request.data.size();
    serve(shared_from_this(), std::move(request));
  }
}

/// Waits for room, and takes a write's data.
Task<Status> Session::receive_payload(Request& request) {
  bool moves_data = request.command == kCmdRead || request.command == kCmdWrite;
  if (request.command == kCmdWrite && request.bytes > kMaxPayload)
    co_return Error(ErrorKind::Invalid, fmt::format("NBD client: a write of {} bytes", request.bytes));
  u64 bytes = moves_data && request.bytes <= kMaxPayload ? request.bytes : 0;
  struct Room {
    Session& session;
    u64 bytes;
    bool await_ready() const {
      return session.in_flight_ == 0 ||
             (session.in_flight_ < kMaxInFlight && session.bytes_in_flight_ + bytes <= kMaxBytesInFlight);
    }
    void await_suspend(std::coroutine_handle<> waiter) { session.waiter_ = waiter; }
    void await_resume() const {}
  };
  Room room{*this, bytes};
  while (!room.await_ready()) co_await room;
  request.data.resize(bytes);
  if (request.command != kCmdWrite) co_return Status{};
  co_return co_await channel_.read_exact(std::span<u8>(request.data));
}

void Session::wake() {
  if (waiter_) std::exchange(waiter_, nullptr).resume();
}

Detached Session::serve(std::shared_ptr<Session> self, Request request) {
  Status sent;
  if (int err = self->check(request)) {
    sent = co_await self->answer_error(request, err, "the request is not valid");
  } else if (request.command == kCmdRead) {
    sent = co_await self->answer_read(request);
  } else if (request.command == kCmdBlockStatus) {
    sent = co_await self->answer_status(request);
  } else {
    Status done = co_await self->perform(request);
    if (done)
      sent = co_await self->answer_done(request);
    else
      sent = co_await self->answer_error(request, done.error().os_errno(), done.error().text());
  }
  if (!sent) self->channel_.shutdown();
  --self->in_flight_;
  self->bytes_in_flight_ -= request.data.size();
  self->wake();
}

/// 0, or the errno that a request deserves before it is looked at any further.
int Session::check(const Request& request) const {
  const Rule* rule = rule_of(request.command);
  if (!rule || (request.flags & ~rule->allowed_flags)) return EINVAL;
  if ((request.flags & kFlagDf) && !structured_) return EINVAL;
  if (request.command == kCmdFlush) return request.offset || request.bytes ? EINVAL : 0;
  if (rule->writes && export_->readonly) return EPERM;
  if (request.command == kCmdRead && request.bytes > kMaxPayload) return EINVAL;
  if (!range_fits(request.offset, request.bytes, export_->size_bytes())) return rule->writes ? ENOSPC : EINVAL;
  if (request.command == kCmdBlockStatus && (contexts_.empty() || request.bytes == 0)) return EINVAL;
  return 0;
}

// --- doing ---

Task<Status> Session::perform(Request& request) {
  Node& node = *export_->node;
  u64 offset = export_->offset + request.offset;
  Status status;
  switch (request.command) {
    case kCmdWrite: {
      iovec data{request.data.data(), request.data.size()};
      status = co_await node.write(offset, {&data, 1}, request.flags & kFlagFua ? kFua : kNoFlags);
      break;
    }
    case kCmdWriteZeroes: status = co_await write_zeroes(request); break;
    case kCmdTrim:
      status = co_await node.discard(offset, request.bytes);
      if (status && (request.flags & kFlagFua)) status = co_await node.flush();
      break;
    case kCmdFlush: status = co_await node.flush(); break;
    case kCmdCache: status = co_await prefetch(request); break;
    default: status = os_error("NBD command", EINVAL); break;
  }
  co_return status;
}

Task<Status> Session::write_zeroes(const Request& request) {
  u32 flags = request.flags & kFlagNoHole ? kNoFlags : kMayUnmap;
  if (request.flags & kFlagFua) flags |= kFua;
  co_return co_await export_->node->write_zeroes(export_->offset + request.offset, request.bytes, flags);
}

/// Reads into nothing, so that the host's cache has it.
Task<Status> Session::prefetch(const Request& request) {
  std::vector<u8> buffer(std::min<u64>(request.bytes, kMiB));
  for (u64 done = 0; done < request.bytes; done += buffer.size()) {
    iovec piece{buffer.data(), std::min<u64>(buffer.size(), request.bytes - done)};
    Status status = co_await export_->node->read(export_->offset + request.offset + done, {&piece, 1});
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

// --- answering ---

Task<Status> Session::send(std::vector<iovec> parts) {
  co_await sending_.exclusive();
  Status status = co_await channel_.write_all(std::move(parts));
  sending_.release();
  co_return status;
}

Task<Status> Session::answer_done(const Request& request) {
  std::vector<u8> bytes(16);
  Encoder(bytes.data()).put(kSimpleReplyMagic).put(u32{0}).put(request.handle);
  co_return co_await send(one_part(bytes));
}

Task<Status> Session::answer_error(const Request& request, int err, std::string message) {
  u32 wire = static_cast<u32>(to_wire_errno(err ? err : EIO));
  std::vector<u8> bytes(16);
  if (structured_) {
    message.resize(std::min<size_t>(message.size(), kMaxString));
    u32 length = static_cast<u32>(6 + message.size());
    bytes = chunk_head(request.handle, kChunkError, true, length, length);
    Encoder(bytes.data() + 20).put(wire).put(static_cast<u16>(message.size()));
    std::ranges::copy(message, bytes.begin() + 26);
  } else {
    Encoder(bytes.data()).put(kSimpleReplyMagic).put(wire).put(request.handle);
  }
  co_return co_await send(one_part(bytes));
}

Task<Status> Session::answer_read(Request& request) {
  if (structured_ && !(request.flags & kFlagDf) && request.bytes) co_return co_await send_runs(request);
  iovec data{request.data.data(), request.data.size()};
  Status read;
  if (request.bytes) read = co_await export_->node->read(export_->offset + request.offset, {&data, 1});
  if (!read) co_return co_await answer_error(request, read.error().os_errno(), read.error().text());
  std::vector<u8> head(16);
  if (!structured_) {
    Encoder(head.data()).put(kSimpleReplyMagic).put(u32{0}).put(request.handle);
  } else if (request.bytes == 0) {
    head = chunk_head(request.handle, kChunkNone, true, 0, 0);
  } else {
    head = chunk_head(request.handle, kChunkOffsetData, true, request.bytes + 8, 8);
    Encoder(head.data() + 20).put(request.offset);
  }
  std::vector<iovec> parts = one_part(head);
  if (request.bytes) parts.push_back(data);
  co_return co_await send(std::move(parts));
}

/// A read in chunks: what is known to be zero is not sent.
Task<Status> Session::send_runs(Request& request) {
  u64 done = 0;
  for (size_t runs = 0; done < request.bytes; ++runs) {
    u64 at = export_->offset + request.offset + done, left = request.bytes - done;
    bool zero = false;
    if (runs < kMaxRuns) {
      auto status = co_await status_above(*export_->node, nullptr, at, left);
      if (status) zero = status->zero;
      if (status) left = std::min(left, std::max<u64>(status->bytes, 1));
    }
    bool last = done + left == request.bytes;
    iovec data{request.data.data() + done, left};
    Status read;
    if (!zero) read = co_await export_->node->read(at, {&data, 1});
    if (!read) co_return co_await answer_error(request, read.error().os_errno(), read.error().text());
    std::vector<u8> head;
    if (zero) {
      head = chunk_head(request.handle, kChunkOffsetHole, last, 12, 12);
      Encoder(head.data() + 20).put(request.offset + done).put(static_cast<u32>(left));
    } else {
      head = chunk_head(request.handle, kChunkOffsetData, last, static_cast<u32>(left + 8), 8);
      Encoder(head.data() + 20).put(request.offset + done);
    }
    std::vector<iovec> parts = one_part(head);
    if (!zero) parts.push_back(data);
    Status sent = co_await send(std::move(parts));
    CO_TRY(std::move(sent));
    done += left;
  }
  co_return Status{};
}

// --- block status ---

Task<Result<ContextRun>> Session::look(u32 context, u64 offset, u64 bytes) const {
  if (context > 0) co_return co_await export_->contexts[context - 1].look(offset, bytes);
  auto found = co_await status_above(*export_->node, nullptr, offset, bytes);
  BlockStatus status = CO_TRY(std::move(found));
  bool hole = !status.data && !(status.allocated && status.offset && !status.zero);
  co_return ContextRun{status.bytes, (hole ? kStateHole : 0) | (status.zero ? kStateZero : 0)};
}

Task<Result<std::vector<u8>>> Session::status_chunk(const Request& request, u32 context, bool last) {
  std::vector<ContextRun> runs;
  for (u64 done = 0; done < request.bytes && runs.size() < kMaxExtents;) {
    auto found = co_await look(context, export_->offset + request.offset + done, request.bytes - done);
    ContextRun run = CO_TRY(std::move(found));
    run.bytes = std::min<u64>(std::max<u64>(run.bytes, 1), request.bytes - done);
    done += run.bytes;
    if (!runs.empty() && runs.back().flags == run.flags) {
      runs.back().bytes += run.bytes;
      continue;
    }
    if (!runs.empty() && (request.flags & kFlagReqOne)) break;
    runs.push_back(run);
  }
  u32 length = static_cast<u32>(4 + 8 * runs.size());
  std::vector<u8> bytes = chunk_head(request.handle, kChunkBlockStatus, last, length, length);
  Encoder encoder(bytes.data() + 20);
  encoder.put(context);
  for (const ContextRun& run : runs) encoder.put(static_cast<u32>(run.bytes)).put(run.flags);
  co_return bytes;
}

Task<Status> Session::answer_status(const Request& request) {
  for (size_t i = 0; i < contexts_.size(); ++i) {
    auto built = co_await status_chunk(request, contexts_[i], i + 1 == contexts_.size());
    if (!built) co_return co_await answer_error(request, built.error().os_errno(), built.error().text());
    std::vector<u8> bytes = *std::move(built);
    Status sent = co_await send(one_part(bytes));
    CO_TRY(std::move(sent));
  }
  co_return Status{};
}

}  // namespace atl::block::nbd
