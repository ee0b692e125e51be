// A vhost-user back end for tests, on a thread of its own: it copies what a request's readable buffers hold to its writable ones, in
// capital letters, as soon as it is kicked.
#pragma once

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <atomic>
#include <cctype>
#include <functional>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/endian.h"
#include "base/mapping.h"
#include "base/thread.h"

namespace atl::devices {

class FakeVhostBackEnd {
 public:
  struct Habits {
    u64 features = u64{1} << 32 | u64{1} << 30;
    u64 protocol = 1 << 3;
    bool lies_about_used = false;  // completes requests that nobody made
    bool serves = true;
    u32 hangs_up_at = 0;           // the request that it does not answer
  };
  explicit FakeVhostBackEnd(Habits habits) : habits_(habits) {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    front_.reset(ends[0]);
    socket_.reset(ends[1]);
    thread_ = MUST(Thread::start("fake back end", [this] { run(); }));
  }
  ~FakeVhostBackEnd() {
    hang_up();
    thread_.join();
  }
  Fd take_front_end() { return std::move(front_); }
  void hang_up() { ::shutdown(socket_.get(), SHUT_RDWR); }
  u64 driver_features() const { return driver_features_; }
  int requests_seen(u32 request) const { return seen_[request]; }

 private:
  struct Ring {
    u32 size = 0;
    u16 available = 0, used = 0;
    u64 descriptors = 0, driver = 0, device = 0;
    Fd kick, call;
  };
  struct Region {
    u64 address;
    Mapping memory;
  };

  void run() {
    for (;;) {
      std::vector<pollfd> fds = {{socket_.get(), POLLIN, 0}};
      std::vector<Ring*> kicked;
      for (auto& [index, ring] : rings_) {
        if (!ring.kick) continue;
        fds.push_back({ring.kick.get(), POLLIN, 0});
        kicked.push_back(&ring);
      }
      ::poll(fds.data(), fds.size(), -1);
      for (size_t i = 1; i < fds.size(); ++i)
        if (fds[i].revents && habits_.serves) serve(*kicked[i - 1]);
      if (fds[0].revents && !message()) return;
    }
  }

  u8* at(u64 address) {
    for (auto& region : regions_)
      if (address >= region.address && address < region.address + region.memory.size()) return region.memory.data() + (address - region.address);
    return nullptr;
  }

  void serve(Ring& ring) {
    drain_eventfd(ring.kick);
    u8 *avail = at(ring.driver), *used = at(ring.device);
    while (ring.available != __atomic_load_n(reinterpret_cast<u16*>(avail + 2), __ATOMIC_ACQUIRE)) {
      u16 head = load_le<u16>(avail + 4 + 2 * (ring.available++ % ring.size));
      if (habits_.lies_about_used) head = static_cast<u16>(head + 77);
      else store_le<u32>(used + 4 + 8 * (ring.used % ring.size) + 4, copy(ring, head));
      store_le<u32>(used + 4 + 8 * (ring.used % ring.size), head);
      __atomic_store_n(reinterpret_cast<u16*>(used + 2), ++ring.used, __ATOMIC_RELEASE);
    }
    signal_eventfd(ring.call);
  }

  u32 copy(const Ring& ring, u16 head) {
    std::vector<u8> text;
    u32 written = 0;
    for (u16 index = head;;) {
      const u8* descriptor = at(ring.descriptors) + 16 * index;
      u8* data = at(load_le<u64>(descriptor));
      const u32 size = load_le<u32>(descriptor + 8);
      const u16 flags = load_le<u16>(descriptor + 12);
      if (!(flags & 2)) text.insert(text.end(), data, data + size);
      for (u32 i = 0; flags & 2 && i < size && written < text.size(); ++i) data[i] = static_cast<u8>(std::toupper(text[written++]));
      if (!(flags & 1)) return written;
      index = load_le<u16>(descriptor + 14);
    }
  }

  bool message() {
    u8 header[12];
    alignas(cmsghdr) char space[256];
    iovec part = {header, sizeof header};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    if (::recvmsg(socket_.get(), &message, MSG_WAITALL | MSG_CMSG_CLOEXEC) != 12) return false;
    std::vector<Fd> fds;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        fds.emplace_back(fd);
      }
    }
    std::vector<u8> payload(load_le<u32>(header + 8));
    if (!payload.empty() && ::recv(socket_.get(), payload.data(), payload.size(), MSG_WAITALL) != static_cast<ssize_t>(payload.size())) return false;
    const u32 request = load_le<u32>(header);
    if (request < seen_.size()) ++seen_[request];
    if (request == habits_.hangs_up_at) {
      hang_up();
      return false;
    }
    const bool wants_reply = load_le<u32>(header + 4) & 8;
    if (!handle(request, payload, fds) && wants_reply) reply(request, std::vector<u8>(8));
    return true;
  }

  void reply(u32 request, std::vector<u8> payload) {
    std::vector<u8> data(12);
    store_le<u32>(&data[0], request);
    store_le<u32>(&data[4], 5);
    store_le<u32>(&data[8], static_cast<u32>(payload.size()));
    data.insert(data.end(), payload.begin(), payload.end());
    (void)!::send(socket_.get(), data.data(), data.size(), MSG_NOSIGNAL);
  }
  void reply_u64(u32 request, u64 value) {
    std::vector<u8> payload(8);
    store_le(payload.data(), value);
    reply(request, payload);
  }

  /// True if it has answered.
  bool handle(u32 request, const std::vector<u8>& payload, std::vector<Fd>& fds) {
    const u32 index = payload.size() >= 4 ? load_le<u32>(&payload[0]) : 0;
    Ring& ring = rings_[request >= 8 && request <= 13 ? index : ~0u];
    switch (request) {
      case 1: return reply_u64(request, habits_.features), true;
      case 15: return reply_u64(request, habits_.protocol), true;
      case 2: driver_features_ = load_le<u64>(&payload[0]); return false;
      case 5:
        regions_.clear();
        for (size_t i = 0; i < fds.size(); ++i) {
          const u8* entry = &payload[8 + 32 * i];
          regions_.push_back({load_le<u64>(entry), MUST(Mapping::of_file(fds[i], load_le<u64>(entry + 24), load_le<u64>(entry + 8),
                                                                         PROT_READ | PROT_WRITE, MAP_SHARED))});
        }
        return false;
      case 8: ring.size = load_le<u32>(&payload[4]); return false;
      case 9:
        ring.descriptors = load_le<u64>(&payload[8]);
        ring.device = load_le<u64>(&payload[16]);
        ring.driver = load_le<u64>(&payload[24]);
        return false;
      case 10: ring.available = ring.used = static_cast<u16>(load_le<u32>(&payload[4])); return false;
      case 11: {
        std::vector<u8> answer = payload;
        store_le<u32>(&answer[4], ring.available);
        ring.kick.reset();
        return reply(request, answer), true;
      }
      case 12: ring.kick = std::move(fds.at(0)); return false;
      case 13: ring.call = std::move(fds.at(0)); return false;
      default: return false;
    }
  }

  const Habits habits_;
  Fd front_, socket_;
  std::map<u32, Ring> rings_;
  std::vector<Region> regions_;
  std::atomic<u64> driver_features_ = 0;
  std::array<std::atomic<int>, 32> seen_{};
  Thread thread_;
};

}  // namespace atl::devices
