// How a VM uses the software CPU's translator.
#pragma once

#include "base/types.h"

namespace atl::cpu {

enum class Translation : u8 {
  Off,      // everything is interpreted
  On,       // what runs often is translated
  Always,   // everything is translated at first sight, for tests
};

struct SoftOptions {
  Translation translation = Translation::Off;
  u64 cache_bytes = 256 * kMiB;  // host code and what is kept about it, at most; a VM. It grows as needed
  bool stats = false;            // counters to stderr when the VM ends
  bool perf_map = false;         // /tmp/perf-PID.map for Linux perf
  bool direct = false;           // user code that runs for long runs natively, in a confined process for each vCPU

  static constexpr u64 kMinCacheBytes = kMiB, kMaxCacheBytes = 1024 * kMiB;
};

}  // namespace atl::cpu
