// What an NBD server of unknown intentions sends to our client: the negotiation, then replies to a few requests.
#include <sys/socket.h>

#include <csignal>

#include "block/nbd/client_connection.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::block::nbd;

Task<Status> talk(Channel& channel, std::unique_ptr<Channel>& owner) {
  ClientHello hello;
  auto negotiated = co_await negotiate(channel, hello);
  ExportInfo info = CO_TRY(std::move(negotiated));
  auto connection = std::make_shared<Connection>(std::move(owner), std::move(info));
  connection->start();
  std::vector<u8> bytes(4096);
  iovec piece{bytes.data(), bytes.size()};
  std::vector<Extent> extents;
  Request read{.command = kCmdRead, .offset = 0, .bytes = bytes.size(), .out = {&piece, 1}};
  Status status = co_await connection->perform(read);
  Request look{.command = kCmdBlockStatus, .offset = 0, .bytes = 65536, .extents = &extents};
  Status looked = co_await connection->perform(look);
  Request flush{.command = kCmdFlush};
  Status flushed = co_await connection->perform(flush);
  connection->close();
  co_return status;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxInput = 32 * kKiB;  // fits the socket's buffer
  if (size > kMaxInput) return 0;
  Loop& loop = fuzz::loop();
  std::signal(SIGPIPE, SIG_IGN);  // as channels want it
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return 0;
  Fd server(ends[0]);
  [[maybe_unused]] ssize_t n = ::send(server.get(), data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(server.get(), SHUT_WR);
  auto channel = std::make_unique<Channel>(loop, Fd(ends[1]));
  bool done = false;
  Channel& borrowed = *channel;
  start(talk(borrowed, channel), [&](Status) { done = true; });
  for (int turns = 0; !done && turns < 10'000; ++turns) loop.run_once(1'000'000);
  CHECK(done);
  for (int turns = 0; turns < 4; ++turns) loop.run_once(0);  // the receiver ends
  return 0;
}
