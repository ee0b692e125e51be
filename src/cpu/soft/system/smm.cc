#include "cpu/soft/system/smm.h"

#include <cstring>

#include "base/endian.h"
#include "cpu/soft/exec/op.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/state.h"

namespace atl::soft {
namespace {

constexpr u64 kEntryOffset = 0x8000, kSaveOffset = 0xfe00;
constexpr u32 kRevision = 0x20064;  // with SMBASE relocation
using SaveArea = std::array<u8, 512>;

/// AMD APM vol. 2, table 10-1, less 0xfe00.
enum Place : u16 {
  kSegments = 0x00, kGdtr = 0x60, kLdtr = 0x70, kIdtr = 0x80, kTr = 0x90, kHaltRestart = 0xc9, kNmiMask = 0xca, kEferPlace = 0xd0,
  kRevisionPlace = 0xfc, kSmbase = 0x100, kCr4Place = 0x148, kCr3Place = 0x150, kCr0Place = 0x158, kDr7Place = 0x160, kDr6Place = 0x168,
  kFlagsPlace = 0x170, kRipPlace = 0x178, kRaxPlace = 0x1f8,
};

// One list of what is saved, for both directions: `Io` is Saver or Loader.

struct Saver {
  SaveArea& area;
  template <class T>
  void value(u16 place, const T& from) { store_le(&area[place], from); }
  void segment(u16 place, const Segment& s) {
    value(place, s.selector);
    value<u16>(place + 2, s.attributes);
    value(place + 4, s.limit);
    value(place + 8, s.base);
  }
  void table(u16 place, const DescriptorTable& t) {
    value<u32>(place + 4, t.limit);
    value(place + 8, t.base);
  }
};

struct Loader {
  const SaveArea& area;
  template <class T>
  void value(u16 place, T& to) { to = load_le<T>(&area[place]); }
  void segment(u16 place, Segment& s) {
    value(place, s.selector);
    value(place + 2, s.attributes);
    s.attributes &= 0xf0ff;
    value(place + 4, s.limit);
    value(place + 8, s.base);
    s.unusable = !s.present();
  }
  void table(u16 place, DescriptorTable& t) {
    value(place + 4, t.limit);
    value(place + 8, t.base);
  }
};

/// `State` is a VcpuState.
template <class Io, class State>
void visit(Io io, State& s) {
  for (u16 i = 0; i < kSegCount; ++i) io.segment(static_cast<u16>(kSegments + 16 * i), s.seg[i]);
  io.table(kGdtr, s.gdtr);
  io.segment(kLdtr, s.ldtr);
  io.table(kIdtr, s.idtr);
  io.segment(kTr, s.tr);
  io.value(kEferPlace, s.efer);
  io.value(kSmbase, s.smbase);
  io.value(kCr4Place, s.cr4);
  io.value(kCr3Place, s.cr3);
  io.value(kCr0Place, s.cr0);
  io.value(kDr7Place, s.dr7);
  io.value(kDr6Place, s.dr6);
  io.value(kFlagsPlace, s.rflags);
  io.value(kRipPlace, s.rip);
  for (u16 i = 0; i < 16; ++i) io.value(static_cast<u16>(kRaxPlace - 8 * i), s.gpr[i]);
}

/// RAM of the save area, or nullptr if the guest has put SMBASE where there is none.
const PhysicalMemory::Window* save_window(Core& core) { return core.tlb.physical.find(core.smbase + kSaveOffset, sizeof(SaveArea)); }

void write_area(Core& core, const SaveArea& area) {
  const auto* window = save_window(core);
  if (!window || window->readonly) return;
  const GuestAddr at = core.smbase + kSaveOffset;
  std::memcpy(window->host + (at - window->base), area.data(), area.size());
  core.vm->code.wrote(at, area.size());
}

bool read_area(Core& core, SaveArea& area) {
  const auto* window = save_window(core);
  if (!window) return false;
  std::memcpy(area.data(), window->host + (core.smbase + kSaveOffset - window->base), area.size());
  return true;
}

/// Real mode with segments of 4 GiB.
void start_handler(Core& core) {
  constexpr u16 kData = 0x8093, kCode = 0x809b;  // present, writable or readable, accessed, granular
  for (Segment& segment : core.seg) segment = {.attributes = kData, .limit = 0xffffffff};
  core.seg[kCs] = {.selector = static_cast<u16>(core.smbase >> 4), .attributes = kCode, .limit = 0xffffffff, .base = core.smbase};
  core.rip = core.next_rip = kEntryOffset;
  core.cr0 &= ~u64{kCr0PE | kCr0EM | kCr0TS | kCr0PG};
  core.cr4 = 0;
  core.efer = 0;
  core.dr7 = 0x400;
  set_flags(core, 2);
  update_mode(core);
  adopt_memory_map(core);
}

}  // namespace

void set_smm_view(Core& core, bool smm) {
  if (core.smm == smm) return;
  core.smm = smm;
  std::swap(core.memory_bus, core.other_bus);
}

void enter_smm(Core& core) {
  VcpuState state;
  export_registers(core, state);
  SaveArea area{};
  visit(Saver{area}, state);
  store_le(&area[kRevisionPlace], kRevision);
  area[kHaltRestart] = core.mp_state == MpState::Halted;
  area[kNmiMask] = core.nmi_masked;
  core.mp_state = MpState::Runnable;
  core.nmi_masked = true;
  core.shadow_rip = kNoShadow;
  set_smm_view(core, true);
  adopt_memory_map(core);
  write_area(core, area);
  start_handler(core);
}

bool sys_rsm(Core& core, const Op&) {
  if (!core.smm) return core.raise(kUD);
  SaveArea area;
  VcpuState state;
  export_registers(core, state);
  const bool found = read_area(core, area);
  if (found) visit(Loader{area}, state);
  state.tr.unusable = false;
  state.cr0 |= kCr0ET;
  set_smm_view(core, false);
  if (!found || !import_registers_checked(core, state)) {
    core.shutdown = true;  // SDM vol. 3, section 32.4.1
    core.leave_block = true;
    return true;
  }
  core.smbase = state.smbase;
  if (!area[kNmiMask]) {
    if (core.apic) core.apic->merge_nmis();
    core.nmi_masked = false;
  }
  if (area[kHaltRestart] & 1) core.mp_state = MpState::Halted;
  attend_stepping(core);
  core.attention.fetch_or(kAttendMode | kAttendInterrupt, std::memory_order_relaxed);
  return true;
}

}  // namespace atl::soft
