// One call of a client, as its handler sees it: arguments, reply, descriptors, stream.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "manage/error.h"
#include "manage/rpc/frame.h"
#include "manage/rpc/objects.h"
#include "manage/rpc/session.h"
#include "manage/rpc/stream.h"
#include "manage/rpc/xdr.h"

namespace atl::manage {

class Daemon;

/// Belongs to the thread that the handler runs on.
class Call {
 public:
  Call(Daemon& daemon, std::shared_ptr<Session> session, rpc::Frame frame, std::vector<Fd> passed)
      : fds(std::move(passed)), daemon_(daemon), session_(std::move(session)), frame_(std::move(frame)), args_(frame_.payload) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// What came along with the call (type 4).
  std::vector<Fd> fds;

  Daemon& daemon() { return daemon_; }
  Session& session() { return *session_; }
  std::shared_ptr<Session> shared_session() const { return session_; }
  const rpc::Header& header() const { return frame_.header; }

  /// Decodes arguments, in order: `TRY(call.read(name, flags));`. What follows them is ignored, as libvirtd does.
  template <class... T>
  Status read(T&... values) {
    if (!args_.read(values...)) return rpc_error("Unable to decode message payload");
    return {};
  }
  /// Encodes parts of the reply, in order.
  template <class... T>
  void write(const T&... values) {
    reply_.write(values...);
  }
  /// The usual reply of a call that gives typed parameters: the list, empty if the client only asked how many there are.
  void write_params(const TypedParams& params, i32 asked);
  /// The usual reply of CONNECT_LIST_ALL_*: the list (empty unless `wanted`) and its length.
  template <class T>
  void write_list(const std::vector<T>& list, bool wanted) {
    if (wanted)
      write(list, static_cast<u32>(list.size()));
    else
      write(u32{0}, static_cast<u32>(list.size()));
  }

  /// The stream that the reply opens. `fd`: a non-blocking socket, pumped both ways.
  void start_stream(std::unique_ptr<StreamJob> job) { stream_job_ = std::move(job); }
  void start_stream(Fd fd) { stream_fd_ = std::move(fd); }
  /// Sent along with the reply (Unix sockets only).
  void pass_fd(Fd fd) { reply_fds_.push_back(std::move(fd)); }
  /// What follows the reply, in both directions, goes through the login's layer.
  void start_layer(std::shared_ptr<rpc::SaslSession> layer) { layer_ = std::move(layer); }
  /// Runs on the server's loop once the reply is queued: events that begin with this call must not overtake it.
  void after_reply(std::function<void()> function) { after_reply_ = std::move(function); }

  std::vector<u8> take_reply() { return reply_.take(); }
  std::vector<Fd> take_reply_fds() { return std::move(reply_fds_); }
  std::unique_ptr<StreamJob> take_stream_job() { return std::move(stream_job_); }
  Fd take_stream_fd() { return std::move(stream_fd_); }
  std::shared_ptr<rpc::SaslSession> take_layer() { return std::move(layer_); }
  std::function<void()> take_after_reply() { return std::move(after_reply_); }

 private:
  Daemon& daemon_;
  const std::shared_ptr<Session> session_;
  const rpc::Frame frame_;
  XdrReader args_;
  XdrWriter reply_;
  std::unique_ptr<StreamJob> stream_job_;
  Fd stream_fd_;
  std::vector<Fd> reply_fds_;
  std::shared_ptr<rpc::SaslSession> layer_;
  std::function<void()> after_reply_;
};

}  // namespace atl::manage
