// Registers and bits of the local APIC and of MSI messages (SDM vol. 3, tables 11-1 and 11-6, section 11.11).
#pragma once

#include "base/types.h"

namespace atl::cpu {

enum ApicRegister : u32 {
  kApicId = 0x20, kApicVersion = 0x30, kApicTpr = 0x80, kApicApr = 0x90, kApicPpr = 0xa0, kApicEoi = 0xb0, kApicRrd = 0xc0,
  kApicLdr = 0xd0, kApicDfr = 0xe0, kApicSvr = 0xf0, kApicIsr = 0x100, kApicTmr = 0x180, kApicIrr = 0x200, kApicEsr = 0x280,
  kApicIcrLow = 0x300, kApicIcrHigh = 0x310, kApicLvtTimer = 0x320, kApicLvtThermal = 0x330, kApicLvtPerf = 0x340,
  kApicLvtLint0 = 0x350, kApicLvtLint1 = 0x360, kApicLvtError = 0x370, kApicTimerInitial = 0x380, kApicTimerCurrent = 0x390,
  kApicTimerDivide = 0x3e0, kApicSelfIpi = 0x3f0,
};

inline constexpr u32 kApicVersionValue = 0x50014;  // integrated APIC, six LVT entries, no EOI-broadcast suppression

inline constexpr u64 kApicBaseBsp = 1 << 8, kApicBaseX2apic = 1 << 10, kApicBaseEnable = 1 << 11;
inline constexpr u64 kApicBaseAddress = 0xfee00000;
inline constexpr u64 kApicPageSize = 0x1000;

inline constexpr u32 kSvrEnable = 1 << 8, kSvrWritable = 0x3ff;

inline constexpr u32 kLvtMasked = 1 << 16, kLvtVector = 0xff, kLvtDelivery = 7 << 8, kLvtLevel = 1 << 15;
inline constexpr u32 kLvtTimerMode = 3 << 17, kLvtPeriodic = 1 << 17, kLvtTscDeadline = 2 << 17;

inline constexpr u32 kIcrLogical = 1 << 11, kIcrBusy = 1 << 12, kIcrAssert = 1 << 14, kIcrLevel = 1 << 15;
inline constexpr u32 kIcrWritable = 0x000ccfff;

enum ApicError : u32 { kErrorSendVector = 1 << 5, kErrorReceiveVector = 1 << 6, kErrorRegister = 1 << 7 };

inline constexpr u64 kMsiAddress = 0xfee00000, kMsiAddressMask = ~u64{0xfffff};
inline constexpr u64 kMsiLogical = 1 << 2, kMsiRedirectionHint = 1 << 3;
inline constexpr u32 kMsiLevelTriggered = 1 << 15;

}  // namespace atl::cpu
