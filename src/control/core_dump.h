// Guest memory and vCPU registers as an ELF core file, for crash and gdb (System V ABI, chapter 5; Linux's elf_prstatus for
// x86-64; the note "QEMU" with control registers, which crash reads). Physical addresses only; no kdump compression.
#pragma once

#include <atomic>
#include <span>

#include "base/fd.h"
#include "base/result.h"
#include "cpu/state.h"
#include "memory/guest_memory.h"

namespace atl::control {

/// A stretch of guest physical memory; size 0: all of it.
struct DumpRange {
  u64 first = 0, size_bytes = 0;
};

/// How far a dump is: bytes of memory. Any thread.
struct DumpProgress {
  std::atomic<u64> completed = 0, total = 0;
};

/// With the vCPUs stopped. The file's content before is not looked at; on an error it is left incomplete.
Status write_core_dump(const Fd& file, const memory::GuestMemory& memory, std::span<const cpu::VcpuState> vcpus, DumpRange range,
                       DumpProgress& progress);

}  // namespace atl::control
