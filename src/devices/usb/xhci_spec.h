// Names from the eXtensible Host Controller Interface Specification 1.1. Section numbers are its.
#pragma once

#include "base/types.h"

namespace atl::devices::usb::xhci {

// Places in BAR 0.
inline constexpr u32 kBarBytes = 0x4000, kOperationalAt = 0x40, kPortsAt = 0x440, kRuntimeAt = 0x1000, kDoorbellsAt = 0x2000;
inline constexpr unsigned kSlots = 64, kInterrupters = 16, kEndpoints = 32, kMaxPorts = 15;

// Operational registers (5.4), offsets from kOperationalAt.
enum Operational : u32 { kCommand = 0x00, kStatus = 0x04, kPageSize = 0x08, kDnctrl = 0x14, kCrcrLow = 0x18, kCrcrHigh = 0x1c, kDcbaapLow = 0x30,
                         kDcbaapHigh = 0x34, kConfig = 0x38 };
inline constexpr u32 kRun = 1, kReset = 2, kInterruptEnable = 4, kSaveState = 1 << 8, kRestoreState = 1 << 9;
inline constexpr u32 kHalted = 1, kSystemError = 4, kEventInterrupt = 8, kPortChange = 16, kRestoreError = 1 << 10, kControllerError = 1 << 12;
inline constexpr u32 kRingCycle = 1, kRingStop = 2, kRingAbort = 4, kRingRunning = 8;

// PORTSC (5.4.8).
inline constexpr u32 kConnected = 1, kEnabled = 2, kPortReset = 1 << 4, kLinkShift = 5, kLinkMask = 15 << 5, kPower = 1 << 9, kSpeedShift = 10,
                     kSpeedMask = 15 << 10, kLinkWrite = 1 << 16, kConnectChange = 1 << 17, kEnableChange = 1 << 18, kResetChange = 1 << 21,
                     kLinkChange = 1 << 22, kAllChanges = 0xfe << 16, kWakeBits = 7 << 25, kWarmReset = 1u << 31;
inline constexpr u32 kLinkU0 = 0, kLinkU3 = 3, kLinkDetect = 5, kLinkPolling = 7, kLinkResume = 15;

// Runtime registers (5.5): MFINDEX, then 32 bytes an interrupter.
inline constexpr u32 kInterrupterAt = 0x20, kInterrupterBytes = 0x20;
enum InterrupterRegister : u32 { kIman = 0x00, kImod = 0x04, kErstsz = 0x08, kErstbaLow = 0x10, kErstbaHigh = 0x14, kErdpLow = 0x18, kErdpHigh = 0x1c };
inline constexpr u32 kImanPending = 1, kImanEnable = 2, kErdpBusy = 8;

// TRBs (6.4).
inline constexpr u32 kTrbBytes = 16, kCycle = 1, kToggleCycle = 2, kShortInterrupt = 4, kChain = 16, kIoc = 32, kImmediate = 64;
inline constexpr u32 kBlockSetAddress = 1 << 9, kDeconfigure = 1 << 9, kDirectionBit = 1 << 16;
enum TrbType : u8 {
  kNormal = 1, kSetupStage = 2, kDataStage = 3, kStatusStage = 4, kIsoch = 5, kLink = 6, kEventData = 7, kNoOp = 8,
  kEnableSlot = 9, kDisableSlot = 10, kAddressDevice = 11, kConfigureEndpoint = 12, kEvaluateContext = 13, kResetEndpoint = 14,
  kStopEndpoint = 15, kSetDequeue = 16, kResetDevice = 17, kNoOpCommand = 23,
  kTransferEvent = 32, kCompletionEvent = 33, kPortEvent = 34,
};
enum class Code : u8 {
  None = 0, Success = 1, Babble = 3, TransactionError = 4, TrbError = 5, Stall = 6, NoSlots = 9, SlotNotEnabled = 11, EndpointNotEnabled = 12,
  ShortPacket = 13, ParameterError = 17, ContextState = 19, RingStopped = 24, Stopped = 26,
};

// Contexts (6.2).
inline constexpr u32 kContextBytes = 32;
enum SlotState : u32 { kSlotEnabled = 0, kSlotDefault = 1, kSlotAddressed = 2, kSlotConfigured = 3 };
enum EndpointState : u8 { kEndpointDisabled = 0, kEndpointRunning = 1, kEndpointHalted = 2, kEndpointStopped = 3 };

}  // namespace atl::devices::usb::xhci
