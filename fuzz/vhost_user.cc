// A hostile vhost-user back end: its answers are the input, and so is what it writes into the used rings.
// Input: how many bytes of answers, the answers, then steps of bytes for a ring and an index to publish.
#include <sys/socket.h>

#include "devices/virtio/shadow_ring.h"
#include "devices/virtio/vhost_user.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

struct NullOwner final : QueueOwner {
  void queue_interrupt(u16) override {}
  void queue_malformed(u16, const char*) override {}
  void queue_idle(u16) override {}
};

/// The peer has said all it will say, and hung up.
void talk(std::span<const u8> answers) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
  Fd front(ends[0]), back(ends[1]);
  (void)!::write(back.get(), answers.data(), answers.size());
  ::shutdown(back.get(), SHUT_WR);
  auto peer = VhostUser::create(std::move(front));
  if (!peer) return;
  (void)(*peer)->set_features(~u64{0});
  (void)(*peer)->stop_ring(0);
  std::array<u8, 40> config;
  if ((*peer)->has_config()) (void)(*peer)->read_config(config);
  (void)(*peer)->is_gone();
}

void serve(fuzz::Input& in) {
  TestGuest guest(256 * kKiB);
  TestQueue driver(guest, 16, virtio::kFeatureVersion1);
  NullOwner owner;
  Queue queue(owner, 0, 16, Fd());
  if (!queue.start(driver.layout(), virtio::kFeatureVersion1, guest.space().guest_memory())) return;
  std::vector<u8> memory(ShadowRing::kBytes + kPageSize);
  u8* place = memory.data() + (kPageSize - reinterpret_cast<u64>(memory.data()) % kPageSize);
  ShadowRing ring(place, Fd(), Fd());
  for (int step = 0; step < 60 && !in.empty(); ++step) {
    const u8 selector = in.byte();
    if (selector & 1) driver.add({{guest.allocate(16), 16, false}, {guest.allocate(16), 16, true}});
    while (auto chain = queue.pop())
      if (!ring.push(*chain)) queue.put_back(std::move(*chain));
    const auto used = in.bytes(8);
    if (used.size() == 8) std::ranges::copy(used, ring.device() + 4 + 8 * (in.word() % ShadowRing::kSize));
    store_le<u16>(ring.device() + 2, in.word());
    if (!ring.collect()) ring.clear();
    if (selector & 2) ring.drain(in.word(), [&](Chain chain) { queue.put_back(std::move(chain)); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  talk(in.bytes(in.word() % 512));
  serve(in);
  return 0;
}
