// What a stranger sends to the NBD server, from its first byte on.
#include <sys/socket.h>

#include <csignal>

#include "block/nbd/server.h"
#include "block/node.h"
#include "shared_loop.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace atl;
  constexpr size_t kMaxInput = 32 * kKiB;  // fits the socket's buffer
  if (size > kMaxInput) return 0;
  Loop& loop = fuzz::loop();
  std::signal(SIGPIPE, SIG_IGN);  // as channels want it
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return 0;
  Fd stranger(ends[0]);
  block::nbd::Server server(loop, {});
  block::nbd::Export exported{.name = "", .node = block::make_null_node(loop, {.size = kMiB})};
  exported.contexts.push_back({"qemu:dirty-bitmap:b", [](u64, u64 bytes) -> Task<Result<block::nbd::ContextRun>> {
                                 co_return block::nbd::ContextRun{bytes, 1};
                               }});
  MUST(server.add_export(std::move(exported)));  // the first of its name
  [[maybe_unused]] ssize_t n = ::send(stranger.get(), data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(stranger.get(), SHUT_WR);
  server.serve(Fd(ends[1]));
  char sink[64 * 1024];
  for (int turns = 0; server.clients() > 0 && turns < 10'000; ++turns) {
    loop.run_once(1'000'000);
    while (::recv(stranger.get(), sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
  }
  return 0;
}
