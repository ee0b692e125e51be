// Random programs on the host, the interpreter and the translator.
#pragma once

#include "cpu/soft/differential/native_runner.h"

namespace atl::soft::differential {

struct SequenceOptions {
  u64 sequences = ~u64{0}, seconds = 10, first = 0, stop_after = 10, seed = 0;
  bool interrupt = true;
};

/// Prints what it finds; true without differences.
bool run_sequences(const SequenceOptions& options, NativeRunner& native);

}  // namespace atl::soft::differential
