// Names from VIRTIO 1.2 section 5.1 (network device).
#pragma once

#include "base/types.h"

namespace atl::devices::virtio_net {

// Queues (5.1.2).
inline constexpr u16 kReceiveQueue = 0, kTransmitQueue = 1;
inline constexpr u16 kControlQueueSize = 64;

// Features (5.1.3).
inline constexpr u64 kFeatureCsum = u64{1} << 0;
inline constexpr u64 kFeatureGuestCsum = u64{1} << 1;
inline constexpr u64 kFeatureCtrlGuestOffloads = u64{1} << 2;
inline constexpr u64 kFeatureMtu = u64{1} << 3;
inline constexpr u64 kFeatureMac = u64{1} << 5;
inline constexpr u64 kFeatureGuestTso4 = u64{1} << 7;
inline constexpr u64 kFeatureGuestTso6 = u64{1} << 8;
inline constexpr u64 kFeatureGuestEcn = u64{1} << 9;
inline constexpr u64 kFeatureGuestUfo = u64{1} << 10;
inline constexpr u64 kFeatureHostTso4 = u64{1} << 11;
inline constexpr u64 kFeatureHostTso6 = u64{1} << 12;
inline constexpr u64 kFeatureHostEcn = u64{1} << 13;
inline constexpr u64 kFeatureHostUfo = u64{1} << 14;
inline constexpr u64 kFeatureMergeable = u64{1} << 15;
inline constexpr u64 kFeatureStatus = u64{1} << 16;
inline constexpr u64 kFeatureCtrlQueue = u64{1} << 17;
inline constexpr u64 kFeatureCtrlRx = u64{1} << 18;
inline constexpr u64 kFeatureCtrlVlan = u64{1} << 19;
inline constexpr u64 kFeatureCtrlRxExtra = u64{1} << 20;
inline constexpr u64 kFeatureGuestAnnounce = u64{1} << 21;
inline constexpr u64 kFeatureCtrlMac = u64{1} << 23;
inline constexpr u64 kGuestOffloads =
    kFeatureGuestCsum | kFeatureGuestTso4 | kFeatureGuestTso6 | kFeatureGuestEcn | kFeatureGuestUfo;

// Configuration (5.1.4).
inline constexpr u32 kConfigMac = 0, kConfigStatus = 6, kConfigPairs = 8, kConfigMtu = 10, kConfigBytes = 12;
inline constexpr u16 kLinkUp = 1, kAnnounce = 2;

// Header of a frame (5.1.6): num_buffers.
inline constexpr u32 kHeaderBuffers = 10;
inline constexpr size_t kMaxMergedBuffers = 64;

// Control queue (5.1.6.5).
inline constexpr u8 kOk = 0, kError = 1;
inline constexpr u8 kClassRx = 0, kClassMac = 1, kClassVlan = 2, kClassAnnounce = 3, kClassGuestOffloads = 5;
inline constexpr u8 kMacTableSet = 0, kMacAddressSet = 1;
inline constexpr u8 kVlanAdd = 0, kVlanDelete = 1;
inline constexpr u32 kMaxMacEntries = 64;

/// Bytes of a frame that the receive filter looks at: addresses, type, VLAN tag.
inline constexpr size_t kFilteredBytes = 16;

}  // namespace atl::devices::virtio_net
