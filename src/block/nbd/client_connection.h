// A connection in the transmission phase: requests in flight, matched with replies that come in any order.
#pragma once

#include <coroutine>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "block/async_lock.h"
#include "block/nbd/channel.h"
#include "block/nbd/client_handshake.h"

namespace atl::block::nbd {

struct Extent {
  u64 bytes = 0;
  u32 flags = 0;
};

struct Request {
  Command command = kCmdRead;
  u16 flags = 0;
  u64 offset = 0;
  u64 bytes = 0;
  std::span<const iovec> out;     // of a read
  std::span<const iovec> data;    // of a write
  std::vector<Extent>* extents = nullptr;   // of a block status
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::unique_ptr<Channel> channel, ExportInfo info) : channel_(std::move(channel)), info_(std::move(info)) {}

  /// Starts to take replies.
  void start();
  const ExportInfo& info() const { return info_; }
  /// The peer is gone, or has broken the protocol: nothing will work any more.
  bool is_lost() const { return lost_; }
  /// At most 32 MiB of payload. After an error, is_lost() tells whether the server refused or the connection broke.
  Task<Status> perform(Request request);
  /// Says good-bye and ends everything that is pending.
  void close();

 private:
  struct Pending {
    Request request;
    std::coroutine_handle<> waiter;
    Status status;
    u64 covered = 0;    // bytes of a read that chunks have brought
    bool done = false;
  };
  struct Reply;

  static Detached receive_all(std::shared_ptr<Connection> self);
  Task<Status> receive_reply();
  Task<Status> receive_simple(std::span<const u8> head);
  Task<Status> receive_chunk(std::span<const u8> head);
  Task<Status> take_data(Pending& pending, u32 length);
  Task<Status> take_hole(Pending& pending, u32 length);
  Task<Status> take_status(Pending& pending, u32 length);
  Task<Status> take_error(Pending& pending, u32 length);
  Task<Status> send(u64 handle, const Request& request);
  Result<Pending*> find(u64 handle);
  void finish(u64 handle, Pending& pending);
  void lose(Error error);
  void fail_pending();

  std::unique_ptr<Channel> channel_;
  const ExportInfo info_;
  std::map<u64, Pending*> pending_;
  u64 next_handle_ = 1;
  AsyncLock sending_;
  bool lost_ = false;
  Status end_;       // why it was lost
};

}  // namespace atl::block::nbd
