// One client of the NBD server: negotiation, then requests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block/async_lock.h"
#include "block/nbd/server.h"

namespace atl::block::nbd {

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Loop& loop, Server& server, Fd socket, std::shared_ptr<const TlsCredentials> tls);

  /// Serves until the client leaves or misbehaves, or shutdown() is called.
  static Detached run(std::shared_ptr<Session> self);
  void shutdown() { channel_.shutdown(); }
  /// The server is going; requests in flight end on their own.
  void forget_server() { server_ = nullptr; }
  const std::shared_ptr<const Export>& exported() const { return export_; }

 private:
  struct Option {
    u32 number = 0;
    std::vector<u8> data;
  };
  /// What a client may do next.
  enum class Next : u8 { MoreOptions, Transmission, Leave };

  // Negotiation (server_handshake.cc).
  Task<Status> negotiate();
  Task<Status> greet();
  Task<Result<Option>> receive_option();
  Task<Result<Next>> handle(Option option);
  Task<Result<Next>> choose_by_name(const Option& option);
  Task<Result<Next>> describe(const Option& option);
  Task<Status> send_infos(const Option& option, const Export& exported, std::vector<u16> wanted);
  Task<Status> list_exports(const Option& option);
  Task<Result<Next>> start_tls(const Option& option);
  Task<Status> set_contexts(const Option& option);
  Task<Status> reply(u32 option, u32 type, std::vector<u8> data);
  Task<Status> refuse(u32 option, u32 type, std::string message);
  u16 transmission_flags(const Export& exported) const;
  std::vector<u32> matching_contexts(const Export& exported, std::string_view query, bool listing) const;

  // Transmission (server_session.cc).
  struct Request {
    u16 flags = 0, command = 0;
    u64 handle = 0, offset = 0;
    u32 bytes = 0;
    std::vector<u8> data;   // of a write, or for a read
  };
  Task<Status> transmit();
  Task<Status> receive_payload(Request& request);
  static Detached serve(std::shared_ptr<Session> self, Request request);
  int check(const Request& request) const;
  Task<Status> perform(Request& request);
  Task<Status> write_zeroes(const Request& request);
  Task<Status> prefetch(const Request& request);
  Task<Status> answer_read(Request& request);
  Task<Status> send_runs(Request& request);
  Task<Status> answer_status(const Request& request);
  Task<Result<std::vector<u8>>> status_chunk(const Request& request, u32 context, bool last);
  Task<Result<ContextRun>> look(u32 context, u64 offset, u64 bytes) const;
  Task<Status> answer_done(const Request& request);
  Task<Status> answer_error(const Request& request, int err, std::string message);
  Task<Status> send(std::vector<iovec> parts);
  void wake();

  Loop& loop_;
  Server* server_;
  Channel channel_;
  std::shared_ptr<const TlsCredentials> tls_;
  std::shared_ptr<const Export> export_;
  bool no_zeroes_ = false, structured_ = false;
  std::shared_ptr<const Export> context_export_;   // the one that `contexts_` belong to
  std::vector<u32> contexts_;                      // chosen: 0 is base:allocation, the rest are the export's
  AsyncLock sending_;
  u32 in_flight_ = 0;
  u64 bytes_in_flight_ = 0;
  std::coroutine_handle<> waiter_;   // transmit(), until a request has ended
};

}  // namespace atl::block::nbd
