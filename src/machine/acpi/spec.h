// Where our boards put what ACPI names: one place for the tables and for the boards that map the devices.
#pragma once

#include <array>

#include "base/types.h"

namespace atl::machine::acpi {

inline constexpr u16 kPm1EventPort = 0x600;
inline constexpr u16 kPm1ControlOffset = 4;  // from the event registers, which the base of power management means
inline constexpr u16 kPmTimerOffset = 8;
inline constexpr u16 kSmiCommandPort = 0xb2;
inline constexpr u16 kGpe0Port = 0xafe0;
inline constexpr u16 kPciHotplugPort = 0xae00;
inline constexpr u16 kResetPort = 0xcf9;
inline constexpr u8 kResetValue = 0x0f;
inline constexpr u8 kSci = 9;
inline constexpr u8 kCmosCentury = 0x32;
inline constexpr unsigned kPciHotplugEvent = 1;  // bit of GPE0, method _E01
inline constexpr std::array<u8, 3> kPciLinkIrqs = {5, 10, 11};
inline constexpr u32 kLocalApic = 0xfee00000;
inline constexpr u32 kIoApic = 0xfec00000;

}  // namespace atl::machine::acpi
