// Memory balloon: VIRTIO 1.2 section 5.5. Supported: inflate, deflate, deflate on OOM, statistics, free page reporting.
// Missing: free page hinting, page poison.
//
// Threads: its loop; set_target() and actual_bytes() any thread. Statistics are copied under a mutex.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/sync.h"
#include "devices/virtio/device.h"

namespace atl::devices {

struct VirtioBalloonOptions {
  u64 ram_bytes = 0;             // of the machine: what a balloon of size 0 leaves the guest
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
  /// The driver changed the balloon: bytes that the guest has now. On the loop.
  std::function<void(u64 guest_bytes)> on_change;
};

class VirtioBalloon final : public VirtioDevice {
 public:
  struct Statistic {
    u16 tag;
    u64 value;
  };

  VirtioBalloon(VirtioBalloonOptions options, Loop& loop, memory::AddressSpace& memory);

  /// Asks the driver to leave the guest `guest_bytes` of RAM. Any thread.
  void set_target(u64 guest_bytes);
  /// RAM that the guest has now. Any thread.
  u64 actual_bytes();
  /// Asks for fresh statistics every `ns`; 0: never.
  void set_statistics_interval(u64 ns);
  struct Statistics {
    i64 update_s = 0;  // when they came, since the epoch; 0: never
    std::vector<Statistic> list;
  };
  Statistics statistics();

 private:
  void serve(u16 index) override;
  void stopping() override;
  void reset_state() override;
  void config_written(u32 offset, u32 size) override;
  void inflate(const Chain& chain);
  void keep_statistics(Chain chain);
  void report(const Chain& chain);
  void ask_for_statistics();
  u16 statistics_queue() const;
  u16 reporting_queue() const;

  VirtioBalloonOptions options_;
  Chain statistics_chain_;   // kept until fresh ones are wanted
  Loop::Timer statistics_timer_;
  u64 statistics_interval_ns_ = 0;  // loop
  Mutex statistics_mutex_;
  Statistics statistics_ GUARDED_BY(statistics_mutex_);
};

}  // namespace atl::devices
