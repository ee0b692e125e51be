// Between a core and a helper's registers. What comes from a helper is made to be what user code can have.
#pragma once

#include "cpu/soft/core.h"
#include "cpu/soft/direct/exchange.h"

namespace atl::soft::direct {

/// The host's extended state, as far as the guest's code may use it.
struct HostState {
  u64 mask = 0;                   // components for XSAVE that Core::ext has
  unsigned avx = 0, opmask = 0, zmm_high = 0, zmm16 = 0, end = 0;  // offsets in the host's format
  static const HostState& get();
};

/// Whether user code of this core, in the state that it is in, can run in a helper.
bool fits(const Core& core);

void export_registers(const Core& core, Exchange& out);

/// The frame that tells the guest's registers, if any: frames of kicks that met the stub are followed. False: the registers are what
/// they were when the helper was started.
bool find_frame(const Exchange& exchange, u64 context, SignalFrame& out);
void import_registers(Core& core, const Exchange& exchange, const SignalFrame& frame);

}  // namespace atl::soft::direct
