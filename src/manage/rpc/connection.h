// One client's connection: frames in, calls to handlers, replies, events and streams out. Lives on the server's loop.
//
// At most `max_requests` calls run at once; then the socket is not read. Replies go out as handlers end, in any order. A client that does not
// take what is sent to it (a gigabyte of events, say) is dropped at `kMaxQueuedBytes`.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "base/task.h"
#include "manage/rpc/call.h"
#include "manage/rpc/frame.h"
#include "manage/rpc/procedure.h"
#include "manage/rpc/stream_pump.h"
#include "manage/rpc/transport.h"

namespace atl::manage::rpc {

class Server;

class Connection final : public std::enable_shared_from_this<Connection>, private StreamPump::Owner {
 public:
  Connection(Server& server, std::unique_ptr<Transport> transport, std::shared_ptr<Session> session);
  ~Connection();
  /// Begins to read; once, after make_shared.
  void begin();
  /// Ends it: the socket is closed when running calls have ended. May be called again.
  void close();
  bool is_closed() const { return closed_; }
  /// Nobody knows yet who it is: neither the login nor TLS's handshake is over.
  bool is_anonymous() const;
  const std::shared_ptr<Session>& session() const { return session_; }

 private:
  struct Outgoing {
    std::vector<u8> bytes;
    std::vector<Fd> fds;          // after the bytes
    size_t sent = 0, fds_sent = 0;
  };
  static constexpr size_t kMaxQueuedBytes = 256 * kMiB;

  void on_ready(u32 events);
  bool read_some();
  void take_frames();
  bool take_frame();
  bool may_read() const;
  void update();
  void flush();
  atl::Result<bool> send_front();

  void handle(Frame frame, std::vector<Fd> fds);
  void handle_keepalive(const Header& header);
  void handle_call(Frame frame, std::vector<Fd> fds);
  Status admit(const Frame& frame, Access access) const;
  template <class Row>
  void dispatch(const Row* row, Frame frame, std::vector<Fd> fds);
  Detached run(Status (*handler)(Call&), Where where, std::unique_ptr<Call> call);
  void finish(Call& call, Status status);
  void refuse(const Header& call, const Error& error);
  void keep_alive();
  void note_handshake();

  // StreamPump::Owner: what streams need of their connection.
  void queue_stream_frame(const Header& header, std::vector<u8> payload, std::function<void()> sent) override;
  void stream_ended(u32 serial) override;
  void stream_input_changed() override { resume_reading(); }
  void resume_reading();

  void queue_reply(Call& call, std::vector<u8> payload);
  void queue(std::vector<u8> bytes, std::vector<Fd> fds = {});
  void when_sent(size_t bytes, std::function<void()> function);

  Server& server_;
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<Session> session_;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> keepalive_;
  std::unique_ptr<Loop::Timer> handshake_;  // while it is under way: its deadline
  unsigned unanswered_ = 0;       // pings
  std::vector<u8> in_;
  std::vector<Fd> in_fds_;
  std::deque<Outgoing> out_;
  std::deque<std::pair<u64, std::function<void()>>> sent_calls_;  // by the total that must have gone out
  u64 queued_total_ = 0, sent_total_ = 0;                          // bytes, ever
  unsigned running_ = 0;
  std::map<u32, std::shared_ptr<StreamPump>> streams_;             // by serial
  bool closed_ = false;
  bool taking_ = false;           // inside take_frames()
};

}  // namespace atl::manage::rpc
