// The only code of a helper that is not the guest's.
#pragma once

#include <span>

#include "base/types.h"

namespace atl::soft::direct {

/// Position-independent, for kStub.
std::span<const u8> stub_code();
/// Offsets in it.
u64 stub_entry();    // where a new helper begins: hands over without a frame
u64 stub_handler();  // of all its signals
/// From here on the stub has taken its orders: a signal's frame with an RIP behind this tells nothing of the guest.
u64 stub_resume();

}  // namespace atl::soft::direct
