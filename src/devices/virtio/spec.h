// Names from the Virtual I/O Device (VIRTIO) specification 1.2 that transports, rings and several devices share.
#pragma once

#include "base/types.h"

namespace atl::devices::virtio {

// Device status (2.1).
inline constexpr u8 kStatusAcknowledge = 1;
inline constexpr u8 kStatusDriver = 2;
inline constexpr u8 kStatusDriverOk = 4;
inline constexpr u8 kStatusFeaturesOk = 8;
inline constexpr u8 kStatusNeedsReset = 64;
inline constexpr u8 kStatusFailed = 128;

// Feature bits that are not a device's own (6).
inline constexpr u64 kFeatureIndirect = u64{1} << 28;
inline constexpr u64 kFeatureEventIdx = u64{1} << 29;
inline constexpr u64 kFeatureVersion1 = u64{1} << 32;
inline constexpr u64 kFeaturePlatformAccess = u64{1} << 33;
inline constexpr u64 kFeaturePacked = u64{1} << 34;
/// What every queue here can do; devices add their own bits.
inline constexpr u64 kRingFeatures = kFeatureIndirect | kFeatureEventIdx | kFeatureVersion1 | kFeaturePacked;

// Device ids (5).
inline constexpr u16 kIdNet = 1;
inline constexpr u16 kIdBlock = 2;
inline constexpr u16 kIdConsole = 3;
inline constexpr u16 kIdEntropy = 4;
inline constexpr u16 kIdBalloon = 5;
inline constexpr u16 kIdScsi = 8;
inline constexpr u16 kIdGpu = 16;
inline constexpr u16 kIdInput = 18;
inline constexpr u16 kIdVsock = 19;
inline constexpr u16 kIdFileSystem = 26;

inline constexpr u16 kNoVector = 0xffff;  // VIRTIO_MSI_NO_VECTOR

// Interrupt status (4.1.4.5, 4.2.2).
inline constexpr u8 kInterruptQueue = 1;
inline constexpr u8 kInterruptConfig = 2;

// Descriptor flags (2.7.5, 2.8.1).
inline constexpr u16 kDescNext = 1;
inline constexpr u16 kDescWrite = 2;
inline constexpr u16 kDescIndirect = 4;
inline constexpr u16 kDescAvail = 1 << 7;   // packed
inline constexpr u16 kDescUsed = 1 << 15;   // packed

// Split rings (2.7.6, 2.7.8).
inline constexpr u16 kAvailNoInterrupt = 1;
inline constexpr u16 kUsedNoNotify = 1;

// Packed rings: event suppression structures (2.8.14).
inline constexpr u16 kEventEnable = 0;
inline constexpr u16 kEventDisable = 1;
inline constexpr u16 kEventDesc = 2;

inline constexpr u16 kMaxQueueSize = 32768;

}  // namespace atl::devices::virtio
