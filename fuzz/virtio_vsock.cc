// Packets of a hostile driver for the socket device, with a program of the host that talks along.
// Input: steps of a selector byte and what it needs.
#include <sys/socket.h>
#include <unistd.h>

#include "base/sockets.h"
#include "devices/virtio/test_driver.h"
#include "devices/virtio/vsock.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

Loop& loop() {
  static auto* shared = MUST(Loop::create(64)).release();  // a process-wide loop: io_uring set-up is slow
  return *shared;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  TestGuest guest(512 * kKiB);
  const std::string path = "/tmp/atoll-fuzz-vsock-" + std::to_string(::getpid());
  auto device = MUST(VirtioVsock::create({.guest_cid = 3, .path = path}, loop(), guest.space()));
  auto listener = MUST(listen_unix(path + "_1"));
  std::vector<Fd> hosts;
  {
    TestDriver driver(guest, *device);
    driver.start(0, 64);
    for (int step = 0; step < 60 && !in.empty(); ++step) {
      const u8 selector = in.byte();
      switch (selector & 3) {
        case 0: {
          auto address = MUST(unix_address(path));
          Fd fd = MUST(make_socket(AF_UNIX));
          (void)::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
          (void)!::write(fd.get(), "CONNECT 1\nabc", 13);
          hosts.push_back(std::move(fd));
          break;
        }
        case 1: driver.queue(0).add({{guest.allocate(128), 128u, true}}); break;
        case 2: {
          std::vector<u8> packet(44);
          packet[0] = 3, packet[8] = 2, packet[28] = 1;
          store_le<u32>(&packet[16], selector >> 7);                                    // port of the guest
          store_le<u32>(&packet[20], selector & 0x40 ? (1u << 30) + in.byte() % 4 : 1);  // of the host
          packet[24] = in.byte();
          packet[30] = in.byte() % 9;
          packet[32] = in.byte();
          store_le<u32>(&packet[36], in.dword());
          store_le<u32>(&packet[40], in.dword());
          const auto body = in.bytes(packet[24]);
          packet.insert(packet.end(), body.begin(), body.end());
          driver.queue(1).add({{guest.put(packet), static_cast<u32>(packet.size()), false}});
          driver.kick(1);
          break;
        }
        default:
          if (!hosts.empty()) hosts.pop_back();
          break;
      }
      driver.kick(0);
    }
    driver.stop();
  }
  loop().run_once(0);
  device.reset();
  ::unlink((path + "_1").c_str());
  return 0;
}
