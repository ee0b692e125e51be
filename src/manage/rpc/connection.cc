#include "manage/rpc/connection.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>

#include "base/endian.h"
#include "base/log.h"
#include "manage/events.h"
#include "manage/rpc/sasl.h"
#include "manage/rpc/server.h"

namespace atl::manage::rpc {

namespace {

constexpr u32 kPing = 1, kPong = 2;
constexpr u64 kSecondNs = 1'000'000'000;

std::vector<u8> keepalive_frame(u32 procedure) {
  Header header;
  header.program = kKeepaliveProgram;
  header.procedure = procedure;
  header.type = FrameType::Message;
  return encode_frame(header, {});
}

bool carries_fds(std::span<const u8> frame) {
  return static_cast<FrameType>(load_be<u32>(frame.data() + 16)) == FrameType::CallWithFds;
}

}  // namespace

Connection::Connection(Server& server, std::unique_ptr<Transport> transport, std::shared_ptr<Session> session)
    : server_(server), transport_(std::move(transport)), session_(std::move(session)) {}

Connection::~Connection() { close(); }

void Connection::begin() {
  // Events come from any thread and reach the connection by way of the loop; late ones find it gone.
  std::weak_ptr<Connection> weak = weak_from_this();
  Loop& loop = server_.loop();
  session_->set_send([weak, &loop](std::vector<u8> frame) {
    loop.post([weak, frame = std::move(frame)]() mutable {
      if (auto self = weak.lock()) self->queue(std::move(frame));
    });
  });
  watch_ = std::make_unique<Loop::Watch>(loop, transport_->fd(), POLLIN, [this](u32 events) { on_ready(events); });
  if (!transport_->is_ready()) {
    handshake_ = std::make_unique<Loop::Timer>(loop, [this] {
      auto self = shared_from_this();
      log_warning("a client's TLS handshake takes too long: dropped");
      close();
    });
    handshake_->arm_in(server_.limits().handshake_timeout_s * kSecondNs);
  }
  if (server_.limits().keepalive_interval_s > 0) {
    keepalive_ = std::make_unique<Loop::Timer>(loop, [this] { keep_alive(); });
    keepalive_->arm_in(server_.limits().keepalive_interval_s * kSecondNs);
  }
}

bool Connection::is_anonymous() const { return handshake_ || !session_->is_authenticated(); }

/// A handshake that is over needs no deadline, and makes room for another client.
void Connection::note_handshake() {
  if (closed_ || !handshake_ || !transport_->is_ready()) return;
  handshake_.reset();
  server_.update_listeners();
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  server_.events().drop(*session_);
  for (auto& [serial, stream] : streams_) stream->abandon();
  streams_.clear();
  keepalive_.reset();
  handshake_.reset();
  watch_.reset();
  transport_.reset();
  server_.connection_closed(*this);
}

void Connection::on_ready(u32 events) {
  auto self = shared_from_this();  // closing drops the server's reference
  if (events & POLLOUT) flush();
  if (!closed_ && may_read() && (events & (POLLIN | POLLHUP | POLLERR))) {
    while (!closed_ && read_some()) {
    }
  } else if (!closed_ && (events & (POLLHUP | POLLERR))) {
    close();
  }
  if (!closed_) update();
}

/// One read; true if there may be more to take.
bool Connection::read_some() {
  u8 buffer[64 * kKiB];
  auto count = transport_->read(buffer, in_fds_);
  if (!count) {
    close();
    return false;
  }
  note_handshake();
  if (*count == 0) return false;
  unanswered_ = 0;
  in_.insert(in_.end(), buffer, buffer + *count);
  take_frames();
  return !closed_ && may_read();
}

void Connection::take_frames() {
  if (taking_) return;
  taking_ = true;
  while (!closed_ && may_read() && take_frame()) {
  }
  taking_ = false;
}

/// Handles the frame that the buffer begins with, if it is whole.
bool Connection::take_frame() {
  u32 length = 0;
  switch (scan_frame(in_, length)) {
    case Scan::NeedsMore: return false;
    case Scan::Bad: close(); return false;
    case Scan::Whole: break;
  }
  std::span<const u8> bytes(in_.data(), length);
  std::vector<Fd> fds;
  size_t used = length;
  Frame frame = parse_frame(bytes);
  if (carries_fds(bytes)) {
    u32 count = frame.payload.size() < 4 ? kMaxFds + 1 : load_be<u32>(frame.payload.data());
    if (count > kMaxFds) return close(), false;
    if (in_.size() < length + count) return false;  // a byte follows for each descriptor
    if (in_fds_.size() < count) return close(), false;
    std::move(in_fds_.begin(), in_fds_.begin() + count, std::back_inserter(fds));
    in_fds_.erase(in_fds_.begin(), in_fds_.begin() + count);
    frame.payload.erase(frame.payload.begin(), frame.payload.begin() + 4);
    used += count;
  }
  in_.erase(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(used));
  handle(std::move(frame), std::move(fds));
  return true;
}

bool Connection::may_read() const {
  if (running_ >= server_.limits().max_client_requests) return false;
  return std::ranges::none_of(streams_, [](const auto& entry) { return entry.second->is_full(); });
}

void Connection::resume_reading() {
  if (closed_) return;
  take_frames();
  if (!closed_) update();
}

void Connection::update() {
  bool writes = !out_.empty() || transport_->has_unsent();
  watch_->set_events((may_read() ? u32{POLLIN} : 0) | (writes ? u32{POLLOUT} : 0));
}

void Connection::handle(Frame frame, std::vector<Fd> fds) {
  const Header& header = frame.header;
  if (header.program == kKeepaliveProgram) return handle_keepalive(header);
  switch (header.type) {
    case FrameType::Call:
    case FrameType::CallWithFds: return handle_call(std::move(frame), std::move(fds));
    case FrameType::Stream:
    case FrameType::StreamHole: {
      auto stream = streams_.find(header.serial);
      if (stream == streams_.end()) return;  // it ended a moment ago
      auto keep = stream->second;
      return keep->take(std::move(frame));
    }
    default: return;  // replies and messages are ours to send
  }
}

void Connection::handle_keepalive(const Header& header) {
  if (header.procedure == kPing) queue(keepalive_frame(kPong));
}

/// After each interval of silence a ping; too many without an answer end the connection.
void Connection::keep_alive() {
  const Limits& limits = server_.limits();
  if (session_->wants_keepalive()) {
    if (unanswered_ >= limits.keepalive_count) return close();
    ++unanswered_;
    queue(keepalive_frame(kPing));
  }
  if (!closed_) keepalive_->arm_in(limits.keepalive_interval_s * kSecondNs);
}

void Connection::handle_call(Frame frame, std::vector<Fd> fds) {
  const Header header = frame.header;
  if (header.status != FrameStatus::Ok)
    return refuse(header, rpc_error(fmt::format("Unexpected message status {}", static_cast<u32>(header.status))));
  bool known = header.program == kRemoteProgram || header.program == kQemuProgram;
  if (!known || header.version != kProgramVersion)
    return refuse(header, rpc_error(fmt::format("Cannot find program {} version {}", header.program, header.version)));
  if (header.program == kRemoteProgram)
    dispatch(find_procedure(header.procedure), std::move(frame), std::move(fds));
  else
    dispatch(find_qemu_procedure(header.procedure), std::move(frame), std::move(fds));
}

/// Whether the client may make this call now.
Status Connection::admit(const Frame& frame, Access access) const {
  if (access == Access::Anyone) return {};
  if (!session_->is_authenticated()) return rpc_error("authentication required");
  if (access == Access::Handshake) return {};
  if (!session_->is_open()) return Error(Code::InternalError, "hypervisor connection not open", Part::Rpc);
  if (access == Access::Write && session_->read_only())
    return read_only_error(frame.header.program == kRemoteProgram ? function_name(frame.header.procedure) : "qemu calls");
  return {};
}

namespace {

/// What libvirt says of a function that its driver lacks, and of a number that it does not know.
Error not_served(const Header& header) {
  constexpr u32 kQemuAttach = 2;
  if (header.program == kRemoteProgram && !procedure_name(header.procedure).empty())
    return Error(Code::NoSupport, function_name(header.procedure), Part::Domain);
  if (header.program != kRemoteProgram && header.procedure == kQemuAttach) return Error(Code::NoSupport, "virDomainQemuAttach", Part::Domain);
  return rpc_error(fmt::format("unknown procedure: {}", header.procedure));
}

}  // namespace

template <class Row>
void Connection::dispatch(const Row* row, Frame frame, std::vector<Fd> fds) {
  const Header header = frame.header;
  if (!session_->is_authenticated() && (!row || row->access != Access::Anyone))
    return refuse(header, rpc_error("authentication required"));
  if (!row) return refuse(header, not_served(header));
  if (Status status = admit(frame, row->access); !status) return refuse(header, status.error());
  auto call = std::make_unique<Call>(server_.daemon(), session_, std::move(frame), std::move(fds));
  ++running_;
  run(row->handler, row->where, std::move(call));
}

Detached Connection::run(Status (*handler)(Call&), Where where, std::unique_ptr<Call> call) {
  auto self = shared_from_this();
  bool was_known = session_->is_authenticated();
  Status status;
  if (where == Where::Loop) {
    status = handler(*call);
  } else {
    std::function<void()> work = [&] { status = handler(*call); };
    co_await server_.workers(where).run(server_.loop(), work);
  }
  --running_;
  if (!closed_) finish(*call, std::move(status));
  if (session_->is_authenticated() != was_known) server_.update_listeners();
  if (!closed_) resume_reading();
}

void Connection::refuse(const Header& call, const Error& error) {
  queue(encode_frame(reply_to(call, FrameType::Reply, FrameStatus::Error), encode_error(error)));
}

void Connection::finish(Call& call, Status status) {
  if (!status) return refuse(call.header(), status.error());
  std::vector<u8> payload = call.take_reply();
  if (payload.size() > kFrameMax - kHeaderBytes)
    return refuse(call.header(), rpc_error("Unable to encode message payload"));
  queue_reply(call, std::move(payload));
  if (closed_) return;
  if (auto function = call.take_after_reply()) function();
  std::shared_ptr<StreamPump> stream;
  if (auto job = call.take_stream_job())
    stream = make_job_pump(*this, call.header(), std::move(job), server_.loop(), server_.workers(Where::Worker));
  else if (Fd fd = call.take_stream_fd())
    stream = make_fd_pump(*this, call.header(), std::move(fd), server_.loop());
  if (!stream) return;
  streams_[call.header().serial] = stream;
  stream->begin();
}

void Connection::queue_reply(Call& call, std::vector<u8> payload) {
  std::vector<Fd> fds = call.take_reply_fds();
  std::vector<u8> bytes;
  if (fds.empty()) {
    bytes = encode_frame(reply_to(call.header(), FrameType::Reply, FrameStatus::Ok), payload);
  } else {
    Header header = reply_to(call.header(), FrameType::ReplyWithFds, FrameStatus::Ok);
    bytes = encode_frame_with_fds(header, static_cast<u32>(fds.size()), payload);
  }
  if (auto layer = call.take_layer())
    when_sent(bytes.size(), [this, layer] { transport_ = make_sasl_transport(std::move(transport_), layer); });
  queue(std::move(bytes), std::move(fds));
}

/// Calls back when what is queued now and `bytes` more have gone out.
void Connection::when_sent(size_t bytes, std::function<void()> function) {
  sent_calls_.emplace_back(queued_total_ + bytes, std::move(function));
}

void Connection::queue_stream_frame(const Header& header, std::vector<u8> payload, std::function<void()> sent) {
  if (closed_) return;
  std::vector<u8> bytes = encode_frame(header, payload);
  if (sent) when_sent(bytes.size(), std::move(sent));
  queue(std::move(bytes));
}

void Connection::stream_ended(u32 serial) {
  auto stream = streams_.find(serial);
  if (stream == streams_.end()) return;
  stream->second->abandon();
  streams_.erase(stream);
}

void Connection::queue(std::vector<u8> bytes, std::vector<Fd> fds) {
  if (closed_) return;
  queued_total_ += bytes.size();
  if (queued_total_ - sent_total_ > kMaxQueuedBytes) {
    log_warning("a client does not read what is sent to it: dropped");
    auto self = shared_from_this();
    return close();
  }
  out_.push_back({std::move(bytes), std::move(fds)});
  if (out_.size() == 1) flush();
  if (!closed_) update();
}

/// Sends what the socket takes.
void Connection::flush() {
  while (!out_.empty()) {
    auto done = send_front();
    if (!done) {
      auto self = shared_from_this();
      return close();
    }
    if (!*done) return;
    out_.pop_front();
  }
  if (transport_->has_unsent() && !transport_->write({})) return close();
  while (!closed_ && !sent_calls_.empty() && sent_calls_.front().first <= sent_total_) {
    auto function = std::move(sent_calls_.front().second);
    sent_calls_.pop_front();
    function();
  }
}

/// True when the front of the queue has gone out.
atl::Result<bool> Connection::send_front() {
  Outgoing& front = out_.front();
  while (front.sent < front.bytes.size()) {
    size_t n = TRY(transport_->write(std::span<const u8>(front.bytes).subspan(front.sent)));
    if (n == 0) return false;
    front.sent += n;
    sent_total_ += n;
  }
  while (front.fds_sent < front.fds.size()) {
    if (!TRY(transport_->write_fd(front.fds[front.fds_sent]))) return false;
    ++front.fds_sent;
  }
  return true;
}

}  // namespace atl::manage::rpc
