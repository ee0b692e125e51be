#include "manage/rpc/stream_pump.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace atl::manage::rpc {

namespace {

/// Input that waits for a job or a descriptor before the connection is read no more.
constexpr size_t kInputBytes = 4 * kStreamChunk;

/// What both pumps do alike: frames to the client, and the end.
class BasePump : public StreamPump {
 public:
  BasePump(Owner& owner, const Header& call) : owner_(&owner), call_(call) {}
  void abandon() override { owner_ = nullptr; }

 protected:
  void send_data(std::vector<u8> data, std::function<void()> sent) {
    owner_->queue_stream_frame(reply_to(call_, FrameType::Stream, FrameStatus::Continue), std::move(data),
                               std::move(sent));
  }
  void send_hole(u64 bytes, std::function<void()> sent) {
    XdrWriter out;
    out.write(static_cast<i64>(bytes), u32{0});
    owner_->queue_stream_frame(reply_to(call_, FrameType::StreamHole, FrameStatus::Continue), out.take(),
                               std::move(sent));
  }
  void end_well() {
    owner_->queue_stream_frame(reply_to(call_, FrameType::Stream, FrameStatus::Ok), {}, {});
    if (owner_) owner_->stream_ended(call_.serial);
  }
  void end_with(const Error& error) {
    owner_->queue_stream_frame(reply_to(call_, FrameType::Stream, FrameStatus::Error), encode_error(error), {});
    if (owner_) owner_->stream_ended(call_.serial);
  }

  Owner* owner_;  // null once the stream is over
  const Header call_;
};

class JobPump final : public BasePump {
 public:
  JobPump(Owner& owner, const Header& call, std::unique_ptr<StreamJob> job, Loop& loop, WorkerPool& workers)
      : BasePump(owner, call), job_(std::move(job)), loop_(loop), workers_(workers) {}

  void begin() override {
    if (job_->direction() == StreamJob::Direction::ToClient) send_next();
  }

  void take(Frame frame) override {
    if (frame.header.status == FrameStatus::Error) return end_well();
    bool ends = frame.header.status == FrameStatus::Ok;
    if (job_->direction() == StreamJob::Direction::ToClient) {
      if (ends) end_well();
      return;
    }
    waiting_ += frame.payload.size();
    input_.push_back(std::move(frame));
    if (!busy_) take_input();
  }

  bool is_full() const override { return waiting_ > kInputBytes || input_.size() > 256; }

 private:
  /// Reads one chunk and queues it; its going out asks for the next.
  Detached send_next() {
    auto self = shared_from_this();
    Result<StreamJob::Chunk> chunk = StreamJob::Chunk{};
    std::function<void()> work = [&] { chunk = job_->read(kStreamChunk); };
    co_await workers_.run(loop_, work);
    if (!owner_) co_return;
    if (!chunk) {
      end_with(chunk.error());
      co_return;
    }
    auto next = [weak = weak_from_this()] {
      auto pump = std::static_pointer_cast<JobPump>(weak.lock());
      if (pump && pump->owner_) pump->send_next();
    };
    if (chunk->is_end())
      send_data({}, {});
    else if (chunk->data.empty())
      send_hole(chunk->hole_bytes, next);
    else
      send_data(std::move(chunk->data), next);
  }

  /// Feeds the job with what waits, in order.
  Detached take_input() {
    auto self = shared_from_this();
    busy_ = true;
    while (owner_ && !input_.empty()) {
      Frame frame = std::move(input_.front());
      input_.pop_front();
      Status status;
      std::function<void()> work = [&] { status = feed(frame); };
      co_await workers_.run(loop_, work);
      waiting_ -= frame.payload.size();
      if (!owner_) break;
      if (!status) {
        end_with(status.error());
      } else if (frame.header.status == FrameStatus::Ok) {
        end_well();
      } else {
        owner_->stream_input_changed();
      }
    }
    busy_ = false;
  }

  Status feed(const Frame& frame) {
    if (frame.header.status == FrameStatus::Ok) return job_->finish();
    if (frame.header.type == FrameType::Stream) return frame.payload.empty() ? Status() : job_->write(frame.payload);
    XdrReader in(frame.payload);
    i64 length = 0;
    u32 flags = 0;
    if (!in.read(length, flags) || length < 0) return rpc_error("Unable to decode message payload");
    return job_->write_hole(static_cast<u64>(length));
  }

  std::unique_ptr<StreamJob> job_;
  Loop& loop_;
  WorkerPool& workers_;
  std::deque<Frame> input_;
  size_t waiting_ = 0;
  bool busy_ = false;
};

class FdPump final : public BasePump {
 public:
  FdPump(Owner& owner, const Header& call, Fd fd, Loop& loop)
      : BasePump(owner, call),
        fd_(std::move(fd)),
        watch_(loop, fd_.get(), 0, [this](u32 events) { on_ready(events); }) {}

  void begin() override { update(); }

  void abandon() override {
    BasePump::abandon();
    watch_.set_events(0);
  }

  void take(Frame frame) override {
    if (frame.header.status != FrameStatus::Continue) return end_well();
    if (frame.header.type != FrameType::Stream) return;
    input_.insert(input_.end(), frame.payload.begin(), frame.payload.end());
    write_some();
    if (owner_) update();
  }

  bool is_full() const override { return input_.size() > kInputBytes; }

 private:
  void update() { watch_.set_events((sending_ || ended_ ? 0 : u32{POLLIN}) | (input_.empty() ? 0 : u32{POLLOUT})); }

  void on_ready(u32 events) {
    auto self = shared_from_this();
    if (!owner_) return;
    if (events & POLLOUT) write_some();
    if (owner_ && !sending_ && !ended_ && (events & (POLLIN | POLLHUP | POLLERR))) read_some();
    if (owner_) update();
  }

  void read_some() {
    std::vector<u8> data(64 * kKiB);
    ssize_t n = ::read(fd_.get(), data.data(), data.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    ended_ = n <= 0;
    data.resize(n > 0 ? static_cast<size_t>(n) : 0);
    sending_ = true;
    send_data(std::move(data), [weak = weak_from_this()] {
      auto pump = std::static_pointer_cast<FdPump>(weak.lock());
      if (!pump || !pump->owner_) return;
      pump->sending_ = false;
      pump->update();
    });
  }

  void write_some() {
    bool was_full = is_full();
    while (!input_.empty()) {
      ssize_t n = ::write(fd_.get(), input_.data(), input_.size());
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (n < 0) return end_with(Error(os_error("write to the other end of the stream")));
      input_.erase(input_.begin(), input_.begin() + n);
    }
    if (was_full && !is_full()) owner_->stream_input_changed();
  }

  Fd fd_;
  std::vector<u8> input_;
  bool sending_ = false;  // a chunk is on its way to the client
  bool ended_ = false;    // the other end closed
  Loop::Watch watch_;
};

}  // namespace

std::shared_ptr<StreamPump> make_job_pump(StreamPump::Owner& owner, const Header& call, std::unique_ptr<StreamJob> job,
                                          Loop& loop, WorkerPool& workers) {
  return std::make_shared<JobPump>(owner, call, std::move(job), loop, workers);
}

std::shared_ptr<StreamPump> make_fd_pump(StreamPump::Owner& owner, const Header& call, Fd fd, Loop& loop) {
  return std::make_shared<FdPump>(owner, call, std::move(fd), loop);
}

}  // namespace atl::manage::rpc
