// Common to the targets of both ring layouts: the input is the memory that the rings lie in, then a script of calls.
#pragma once

#include <cstring>
#include <vector>

#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"

namespace atl::fuzz {

struct NullOwner final : devices::QueueOwner {
  void queue_interrupt(u16) override {}
  void queue_malformed(u16, const char*) override {}
  void queue_idle(u16) override {}
};

inline void touch(devices::Chain& chain) {
  u8 bytes[32] = {};
  chain.read(chain.readable_bytes() / 2, bytes);
  chain.write(chain.writable_bytes() / 2, bytes);
  chain.add_written(chain.writable_bytes() / 2 + sizeof bytes);
}

inline void run_queue(Input in, u64 features) {
  using namespace devices;
  constexpr u64 kRam = 64 * kKiB;
  u8 options = in.byte();
  features |= virtio::kFeatureVersion1 | (options & 1 ? virtio::kFeatureEventIdx : 0) |
              (options & 2 ? virtio::kFeatureIndirect : 0);
  TestGuest guest(kRam);
  TestQueue driver(guest, static_cast<u16>(1u << (options >> 2 & 3)), features);
  QueueLayout layout = driver.layout();
  if (options & 0x80) layout.descriptors = in.word(), layout.driver = in.word(), layout.device = in.word();
  auto memory = in.bytes(in.word() % 1024);
  std::copy(memory.begin(), memory.end(), guest.at(TestGuest::kFirst));
  NullOwner owner;
  Queue queue(owner, 0, 16, Fd());
  if (!queue.start(layout, features, guest.space().guest_memory())) return;
  std::vector<Chain> held;
  for (int step = 0; step < 200 && !in.empty(); ++step) {
    switch (in.byte() % 6) {
      case 0:
      case 1:
        if (auto chain = queue.pop()) {
          touch(*chain);
          held.push_back(std::move(*chain));
        }
        break;
      case 2:
        if (!held.empty()) held.erase(held.begin());
        break;
      case 3:
        if (auto chain = queue.pop()) queue.put_back(std::move(*chain));
        break;
      case 4: queue.notify(); break;
      case 5: {  // the driver changes its mind
        auto bytes = in.bytes(8);
        GuestAddr at = TestGuest::kFirst + in.word() % 1024;
        std::copy(bytes.begin(), bytes.end(), guest.at(at));
        break;
      }
    }
  }
}

}  // namespace atl::fuzz
