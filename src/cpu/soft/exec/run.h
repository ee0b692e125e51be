// Running a core: blocks one after the other, with interrupts, exceptions, debug events and waiting in between.
#pragma once

#include "cpu/soft/core.h"
#include "cpu/vm.h"

namespace atl::soft {

/// Executes guest code until something that the owner must handle (cpu::RunExit). Own thread.
cpu::RunExit run(Core& core);

/// Executes exactly one instruction (one iteration of a repeated string instruction at least, all of them if nothing
/// intervenes), the delivery of its exception included; takes no interrupts. False: triple fault.
bool step_one(Core& core);

/// Gives the core its block cache; before the first run or step. The core's `cpuid` and `vm` are set.
std::unique_ptr<BlockCache> attach_block_cache(Core& core);

}  // namespace atl::soft
