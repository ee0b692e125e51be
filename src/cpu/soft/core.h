// One software vCPU: the state that decoder, handlers, memory management and system instructions share.
//
// Everything here is touched by the vCPU's own thread only, but for `attention`, which any thread may set.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>

#include "base/types.h"
#include "cpu/cpuid.h"
#include "cpu/soft/halt_poll.h"
#include "cpu/soft/mmu/tlb.h"
#include "cpu/soft/translate/abi.h"
#include "cpu/soft/tsc_clock.h"
#include "cpu/spec.h"
#include "cpu/state.h"
#include "cpu/vm.h"

namespace atl::soft {

using namespace cpu;  // the spec's names: kRax, kCF, kCr0PG ...

struct SoftVm;       // soft_vm.h: what all vCPUs of a VM share
class LocalApic;     // irq/local_apic.h
class BlockCache;    // exec/block_cache.h
namespace translate {
class Runtime;       // translate/runtime.h
}
namespace direct {
class Tier;          // direct/tier.h
}

/// An exception that an instruction raised and that waits for delivery.
struct Fault {
  u8 vector = 0;
  bool has_error = false;
  u32 error = 0;
  u64 address = 0;     // #PF: the linear address, for CR2
  u64 dr6 = 0;         // #DB: bits to set in DR6
  bool trap = false;   // reported after the instruction: RIP already points to the next one
};

/// Reasons for leaving the chain of blocks at the next boundary.
enum Attention : u32 {
  kAttendInterrupt = 1 << 0,   // the local APIC or the PIC has something to deliver
  kAttendNmi = 1 << 1,
  kAttendInit = 1 << 2,
  kAttendSipi = 1 << 3,
  kAttendKick = 1 << 4,        // Vcpu::kick
  kAttendTlb = 1 << 5,         // drop write permissions of pages that now hold code
  kAttendMode = 1 << 6,        // own thread: TF, debug registers, interrupt shadow: go instruction by instruction
  kAttendSmi = 1 << 8,
  kAttendCode = 1 << 7,        // leave translated code: some of it is out of date
};

/// What the decoder's result depends on, besides the bytes.
enum class CodeSize : u8 { k16, k32, k64 };

/// The state that XSAVE knows, in standard format (native/image.h); guest SIMD and x87 run on this as the host's own.
struct alignas(64) ExtendedState {
  std::array<u8, 2688> xsave{};  // legacy region 512, header 64, AVX 256, a gap, masks 64, upper halves of ZMM 512, ZMM16 to 31 1024
};

/// How many of the vector registers code may use, or are in the host's registers.
enum VectorLevel : u8 {
  kNoVectors,
  kNarrowVectors,  // XMM and YMM. All that AVX-512 adds is zero, or not the guest's
  kWideVectors,    // ZMM0 to ZMM31 and the opmask registers too
};

inline constexpr u64 kNoShadow = u64{1} << 62;  // no RIP

struct Core {
  // -- registers -------------------------------------------------------------------------------------------------------
  // First in the structure: Op's register numbers index a file of 18 words, of which the last two are not registers.
  std::array<u64, 16> gpr{};
  u64 zero = 0;              // Op::kNoReg: what an absent base or index register adds to an address
  u64 block_rip = 0;         // Op::kRipBase: RIP at the start of the running block
  u64 rip = 0;               // of the instruction being executed, valid at block boundaries and whenever a handler faults
  u64 next_rip = 0;          // see SystemFunction in exec/op.h
  /// Arithmetic flags in the form that LAHF and SETO leave in AX: bits 15:8 = SF ZF 0 AF 0 PF 1 CF, bit 0 = OF.
  u16 cc = 0x0200;
  u64 other_flags = 2;       // RFLAGS without the arithmetic ones
  std::array<Segment, kSegCount> seg;
  Segment ldtr, tr;
  DescriptorTable gdtr, idtr;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0, xcr0 = 1;
  std::array<u64, 4> dr{};
  u64 dr6 = 0xffff0ff0, dr7 = 0x400;
  ExtendedState ext;
  struct Msrs {
    u64 star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0, tsc_aux = 0;
    u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0, pat = 0x0007040600070406;
    u64 tsc_offset = 0, tsc_adjust = 0, misc_enable = 1, mtrr_def_type = 0, spec_ctrl = 0;
    std::array<u64, 16> mtrr_phys{};
    std::array<u64, 11> mtrr_fixed{};
  } msr;

  // -- derived from the registers; update_mode() recomputes ----------------------------------------------------------------
  u8 cpl = 0;
  CodeSize code_size = CodeSize::k16;
  bool long_mode = false;      // EFER.LMA
  bool paging = false;
  u8 block_mode = 0;           // mode_key() of the running blocks; the run loop's
  bool flat_data = false;      // DS, ES, SS are writable, expand-up, with base 0 and limit 4 GiB, or code is 64-bit: no
                               // segment checks needed

  // -- events --------------------------------------------------------------------------------------------------------------
  std::atomic<u32> attention{0};
  HaltPoll halt_poll;
  Fault fault;                 // valid while a handler returns nullptr because of it
  bool fault_pending = false;
  bool interrupt_shadow = false;     // for one instruction after MOV SS, POP SS, and after STI once an interrupt waits
  u64 shadow_rip = kNoShadow;        // STI was executed before the instruction here: no interrupt may come between
  u32 interrupt_refused = 1;         // something may have asked for an interrupt while IF was clear: STI must look for it
  bool nmi_masked = false;
  bool smm = false;            // in system management mode (system/smm.h)
  u32 smbase = 0x30000;
  MpState mp_state = MpState::Runnable;
  u8 sipi_vector = 0;
  bool leave_block = false;    // a store hit code, or a data breakpoint was met: stop after this instruction
  std::atomic<u64> code_epoch_seen{0};  // SoftVm::code_epoch up to which write tags of new code pages are dropped
  u64 debug_hits = 0;          // data breakpoints that this instruction met, as bits of DR6; leave_block is set too

  // -- the host's debugger -------------------------------------------------------------------------------------------------
  DebugRequest debugger;                             // set while the vCPU does not run
  std::optional<DebugRequest::Point> debugger_hit;   // where it met one of debugger.points

  // -- translated code (translate/abi.h, thunks.h) ------------------------------------------------------------------------
  u64 page_rip = 0;            // linear address of the guest page in which the running translation lies
  std::array<u64, 8> slots{};  // translated code's own, for values that outlive a scratch register
  u8 vectors_live = kNoVectors;     // which of the guest's vector registers, with MXCSR, are in the host's
  u8 want_vectors = kNoVectors;     // the thunk that goes back makes them live
  u8 vectors_allowed = kNoVectors;  // which no control register makes fault; update_translate_mode() keeps it
  u8 host_avx = 0;             // save and load YMM registers, too
  u8 wide_vectors = 0;         // clear: all of the state that AVX-512 adds is zero (image.h)
  u8 translate_mode = translate::kNoMode;  // translate::mode_of() the core; update_translate_mode() keeps it
  bool shutdown = false;       // a triple fault while translated code was running
  u16 host_cc = 0;             // the host's flags at a thunk's call, in cc's form
  u64 host_rsp = 0;            // of the thread, while its stack is the one below the core
  const void* go_code = nullptr;  // where a thunk goes on, with go_rip in RBP
  u64 go_rip = 0;
  std::atomic<bool> in_translation{false};  // the code cache may not be emptied
  translate::Runtime* translation = nullptr;  // none: everything is interpreted
  direct::Tier* direct = nullptr;  // none: user code is translated or interpreted
  u32 jump_tables = 0;         // bit n: jump_cache[n] is set up
  u32 jump_tables_local = 0;   // bit n: it has entries of pages that are not global
  u64 jump_pages = 0;          // a filter: hashes of the pages that have entries
  /// All zero at first, which a table's setting up turns into empty (translate/jump_cache.h): a new core's memory is zero, and
  /// a table that no mode has used costs none.
  translate::JumpTable jump_cache[translate::kModes];
  std::array<translate::JumpList, translate::kModes> jump_lists;

  TscSegment tsc;              // read_tsc() and RDTSC in translated code

  // -- parts ---------------------------------------------------------------------------------------------------------------
  Tlb tlb;
  SoftVm* vm = nullptr;
  LocalApic* apic = nullptr;
  BlockCache* blocks = nullptr;
  const CpuidTable* cpuid = nullptr;
  std::unique_ptr<memory::BusView> memory_bus, port_bus;
  std::unique_ptr<memory::BusView> other_bus;  // memory as system management mode sees it, or as other modes do while in it
  u32 index = 0;

  // -- counters ------------------------------------------------------------------------------------------------------------
  struct Stats {
    u64 instructions = 0, blocks_decoded = 0, exceptions = 0, interrupts = 0, page_walks = 0, mmio = 0, pio = 0, halts = 0,
        tlb_flushes = 0, code_invalidations = 0;
  } stats;

  u64 rflags() const {
    return other_flags | (cc >> 8 & (kSF | kZF | kAF | kPF | kCF)) | (cc & 1 ? u64{kOF} : 0);
  }
  void set_rflags(u64 value) {
    cc = static_cast<u16>((value & 0xd5) << 8 | 0x0200 | (value >> 11 & 1));
    other_flags = (value & ~u64{kArithmeticFlags}) | 2;
  }
  bool user() const { return cpl == 3; }

  /// Records a fault; handlers then return nullptr. Always returns false, so that `return core.raise(...)` reads well.
  bool raise(u8 vector) {
    fault = {.vector = vector};
    fault_pending = true;
    return false;
  }
  bool raise(u8 vector, u32 error) {
    fault = {.vector = vector, .has_error = true, .error = error};
    fault_pending = true;
    return false;
  }
};

/// The words that Op's register numbers name: the general registers, then zero and block_rip.
inline u64* register_file(Core& core) { return reinterpret_cast<u64*>(&core); }
inline const u64* register_file(const Core& core) { return reinterpret_cast<const u64*>(&core); }

/// Recomputes the derived fields after a segment register, CR0, CR4, EFER or RFLAGS.VM changed. system/mode.cc
void update_mode(Core& core);

}  // namespace atl::soft
