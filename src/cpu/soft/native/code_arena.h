// Executable memory for stubs, never writable and executable through one mapping, and the way out of a SIMD FP exception.
//
// One memfd mapped twice: stubs are written through the one mapping and run through the other. A guest that unmasks SIMD
// floating-point exceptions makes the stub trap; the process's SIGFPE handler then continues at the stub's fault exit,
// whose address RDX holds. Faults anywhere else go to whoever handled SIGFPE before.
#pragma once

#include <span>

#include "base/mapping.h"
#include "base/result.h"

namespace atl::soft {

class CodeArena {
 public:
  static Result<CodeArena> create(u64 size_bytes);

  /// Where the next piece of code will run, aligned to 32 bytes.
  const u8* next() const { return run_.data() + used_; }
  /// A constant of four bytes that code can address relative to RIP: the host's MXCSR.
  const u8* host_mxcsr() const { return run_.data(); }
  /// Adds code; nullptr if the arena is full. The code must have been made for next().
  const u8* append(std::span<const u8> code);
  /// Starts over behind the constant; the code that was there must not be running.
  void clear();

 private:
  Mapping write_, run_;
  u64 used_ = 0;
};

/// Lets this thread take SIGFPE; a blocked synchronous signal would end the process.
void allow_fp_traps();

}  // namespace atl::soft
