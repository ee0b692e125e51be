// Names from the PCI Local Bus Specification 3.0: configuration space (chapter 6), capabilities and MSI-X (6.7, 6.8).
#pragma once

#include "base/types.h"

namespace atl::devices::pci {

// Type 0 header (6.1), offsets in bytes.
inline constexpr u16 kVendorId = 0x00;
inline constexpr u16 kDeviceId = 0x02;
inline constexpr u16 kCommand = 0x04;
inline constexpr u16 kStatus = 0x06;
inline constexpr u16 kRevisionId = 0x08;
inline constexpr u16 kClassCode = 0x09;  // 3 bytes: interface, sub-class, base class
inline constexpr u16 kCacheLineSize = 0x0c;
inline constexpr u16 kLatencyTimer = 0x0d;
inline constexpr u16 kHeaderType = 0x0e;
inline constexpr u16 kBar0 = 0x10;
inline constexpr u16 kSubsystemVendorId = 0x2c;
inline constexpr u16 kSubsystemId = 0x2e;
inline constexpr u16 kExpansionRom = 0x30;
inline constexpr u16 kCapabilities = 0x34;
inline constexpr u16 kInterruptLine = 0x3c;
inline constexpr u16 kInterruptPin = 0x3d;
inline constexpr u16 kFirstCapability = 0x40;

// Type 1 header (PCI-to-PCI Bridge 1.2, 3.2).
inline constexpr u8 kHeaderBridge = 1;
inline constexpr u16 kPrimaryBus = 0x18;
inline constexpr u16 kSecondaryBus = 0x19;
inline constexpr u16 kSubordinateBus = 0x1a;
inline constexpr u16 kIoBase = 0x1c;
inline constexpr u16 kIoLimit = 0x1d;
inline constexpr u16 kMemoryBase = 0x20;
inline constexpr u16 kMemoryLimit = 0x22;
inline constexpr u16 kPrefetchBase = 0x24;
inline constexpr u16 kPrefetchLimit = 0x26;
inline constexpr u16 kPrefetchBaseUpper = 0x28;
inline constexpr u16 kPrefetchLimitUpper = 0x2c;
inline constexpr u16 kBridgeControl = 0x3e;

inline constexpr u16 kConfigBytes = 256;
inline constexpr unsigned kBars = 6;
inline constexpr u8 kSlots = 32;
inline constexpr u8 kFunctions = 8;

// Command register (6.2.2).
inline constexpr u16 kCommandIo = 1 << 0;
inline constexpr u16 kCommandMemory = 1 << 1;
inline constexpr u16 kCommandMaster = 1 << 2;
inline constexpr u16 kCommandSerr = 1 << 8;
inline constexpr u16 kCommandIntxDisable = 1 << 10;

// Status register (6.2.3).
inline constexpr u16 kStatusInterrupt = 1 << 3;
inline constexpr u16 kStatusCapabilities = 1 << 4;
inline constexpr u16 kStatusErrors = 0xf900;  // write one to clear

inline constexpr u8 kMultiFunction = 0x80;  // header type

// Base address registers (6.2.5.1).
inline constexpr u32 kBarIo = 1 << 0;
inline constexpr u32 kBarMemory64 = 2 << 1;
inline constexpr u32 kBarPrefetch = 1 << 3;
inline constexpr u32 kRomEnable = 1 << 0;  // expansion ROM (6.2.5.2)

// Capability identifiers (appendix H).
inline constexpr u8 kCapabilityMsi = 0x05;
inline constexpr u8 kCapabilityVendor = 0x09;
inline constexpr u8 kCapabilityMsix = 0x11;

inline constexpr u8 kMsiCapabilityBytes = 14;  // 6.8.1, with a 64-bit address

// MSI-X capability and table (6.8.2).
inline constexpr u16 kMsixControl = 2;  // offset in the capability
inline constexpr u16 kMsixTable = 4;
inline constexpr u16 kMsixPba = 8;
inline constexpr u8 kMsixCapabilityBytes = 12;
inline constexpr u16 kMsixFunctionMask = 1 << 14;
inline constexpr u16 kMsixEnable = 1 << 15;
inline constexpr u32 kMsixEntryBytes = 16;
inline constexpr u32 kMsixVectorMasked = 1 << 0;
inline constexpr unsigned kMaxMsixVectors = 2048;

// Type 1 configuration mechanism (3.2.2.3.2).
inline constexpr u16 kConfigAddressPort = 0xcf8;
inline constexpr u16 kResetControlPort = 0xcf9;  // PIIX3 RCR shares the dword
inline constexpr u16 kConfigDataPort = 0xcfc;
inline constexpr u32 kConfigEnable = 1u << 31;

}  // namespace atl::devices::pci
