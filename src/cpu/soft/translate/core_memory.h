// Where a Core lies: [guard page][stack][Core]. Translated code runs with RSP at its Core, so that the functions it calls, and
// the frames of signals that meet it, use the stack below.
#pragma once

#include <memory>

#include "cpu/soft/core.h"

namespace atl::soft {

inline constexpr u64 kTranslationStackBytes = kMiB;

struct FreeCore {
  void operator()(Core* core) const;
};
using CorePtr = std::unique_ptr<Core, FreeCore>;

/// A new Core in memory of its own, which is resident only where it has been touched. Ends the process if there is none, like
/// operator new.
CorePtr allocate_core();

}  // namespace atl::soft
