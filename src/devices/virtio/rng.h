// Entropy device: VIRTIO 1.2 section 5.4. The host source is a file such as /dev/urandom, read without blocking.
//
// Threads: its loop.
#pragma once

#include <optional>

#include "base/fd.h"
#include "devices/virtio/device.h"

namespace atl::devices {

struct VirtioRngOptions {
  Fd source;                         // open for reading, non-blocking
  u64 max_bytes = ~u64{0};           // a period; ~0: no limit
  u64 period_ns = 65536 * 1'000'000ull;
};

class VirtioRng final : public VirtioDevice {
 public:
  VirtioRng(VirtioRngOptions options, Loop& loop, memory::AddressSpace& memory);
  /// Opens a source: the error names the path.
  static Result<Fd> open_source(const std::string& path);

 private:
  void serve(u16 index) override;
  void stopping() override;
  void reset_state() override;
  bool fill(Chain& chain);
  void new_period();
  void wait_for_source();

  VirtioRngOptions options_;
  u64 quota_;
  Loop::Timer period_timer_;
  std::optional<Loop::Watch> source_watch_;
};

}  // namespace atl::devices
