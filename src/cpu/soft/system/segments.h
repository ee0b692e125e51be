// Selectors, descriptors and loading them into segment registers (SDM vol. 3, sections 3.4 and 6.5 to 6.10).
//
// A fault names the selector in its error code; event delivery adds the EXT bit where it belongs.
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

/// The 8 bytes of a descriptor, or the lower 8 of a 16-byte one with the upper half of the base beside.
struct Descriptor {
  u64 raw = 0;
  u64 high = 0;     // bytes 8 to 15 of system descriptors and gates in long mode
  u64 linear = 0;   // where it stands

  u8 type() const { return raw >> 40 & 15; }
  bool s() const { return raw >> 44 & 1; }
  u8 dpl() const { return raw >> 45 & 3; }
  bool present() const { return raw >> 47 & 1; }
  bool l() const { return raw >> 53 & 1; }
  bool db() const { return raw >> 54 & 1; }
  bool code() const { return s() && (type() & 8); }
  bool conforming() const { return code() && (type() & 4); }
  bool data() const { return s() && !(type() & 8); }
  bool readable() const { return data() || (type() & 2); }
  bool writable() const { return data() && (type() & 2); }
  // Of gates.
  u16 gate_selector() const { return static_cast<u16>(raw >> 16); }
  u64 gate_offset() const { return (raw & 0xffff) | (raw >> 32 & 0xffff0000) | high << 32; }
};

/// Types of system descriptors and gates (S = 0).
enum SystemType : u8 {
  kTss16 = 1, kLdt = 2, kTss16Busy = 3, kCallGate16 = 4, kTaskGate = 5, kInterruptGate16 = 6, kTrapGate16 = 7, kTss32 = 9,
  kTss32Busy = 11, kCallGate32 = 12, kInterruptGate32 = 14, kTrapGate32 = 15,
};

inline bool null_selector(u16 selector) { return selector < 4; }
inline u32 selector_error(u16 selector) { return selector & 0xfffc; }

/// Reads the descriptor that `selector` names from the GDT or LDT; `vector` with the selector as error code if it lies
/// outside the table.
bool read_descriptor(Core& core, u16 selector, u8 vector, Descriptor& out);
/// In long mode: reads the upper half of a 16-byte descriptor, which must lie within the table too.
bool read_upper_half(Core& core, u16 selector, u8 vector, Descriptor& inout);
/// Whether the selector lies within its table; for LAR, LSL, VERR, VERW. A descriptor read may still page-fault.
bool selector_in_table(const Core& core, u16 selector, unsigned bytes);

/// The segment register's contents for a descriptor.
Segment make_segment(u16 selector, const Descriptor& descriptor);
/// What real and virtual-8086 mode make of a selector, given the register's old contents.
Segment real_mode_segment(const Core& core, u16 selector, const Segment& old);
/// An unusable register as a null selector leaves it; for SS `dpl` keeps the CPL.
Segment null_segment(u16 selector, u8 dpl = 0);

/// Sets the accessed bit of a code or data descriptor in its table, and in `inout`.
bool set_accessed(Core& core, Descriptor& inout);
/// Sets or clears the busy bit of a TSS descriptor in its table.
bool set_busy(Core& core, const Descriptor& descriptor, bool busy);

/// Checks a stack segment for code at `cpl`: writable data, RPL = DPL = CPL, present. Faults with `vector` (#GP, or #TS
/// during an event or task switch), #SS if not present. Null selectors are the caller's.
bool check_stack_descriptor(Core& core, u16 selector, const Descriptor& descriptor, u8 cpl, u8 vector);

/// MOV, POP or LxS to ES, SS, DS, FS or GS, in any mode. Nothing has changed if it fails.
bool load_segment(Core& core, SegReg reg, u16 selector);
/// As load_segment, but leaves the register alone: gives what it would hold. `vector` replaces #GP; for task switches #TS.
bool prepare_segment(Core& core, SegReg reg, u16 selector, u8 cpl, u8 vector, Segment& out);
/// LLDT, and the LDT of a task switch (`vector` #TS).
bool load_ldtr(Core& core, u16 selector, u8 vector);

/// Limit, type and wrap checks of `size` bytes at `offset` outside 64-bit mode.
bool segment_holds(const Segment& segment, u64 offset, unsigned size);

}  // namespace atl::soft
