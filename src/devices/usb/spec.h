// Names from the Universal Serial Bus Specification 2.0 (chapters 8, 9 and 11) and from HID 1.11.
#pragma once

#include "base/types.h"

namespace atl::devices::usb {

enum class Speed : u8 { Low, Full, High, Super };

// Request types (9.3).
inline constexpr u8 kDirectionIn = 0x80, kTypeMask = 0x60, kTypeStandard = 0x00, kTypeClass = 0x20, kRecipientMask = 0x1f;
inline constexpr u8 kToDevice = 0, kToInterface = 1, kToEndpoint = 2, kToOther = 3;

// Standard requests (9.4).
enum Request : u8 {
  kGetStatus = 0, kClearFeature = 1, kSetFeature = 3, kSetAddress = 5, kGetDescriptor = 6, kGetConfiguration = 8,
  kSetConfiguration = 9, kGetInterface = 10, kSetInterface = 11, kSetSel = 48, kSetIsochDelay = 49,
};
enum DescriptorType : u8 {
  kDescriptorDevice = 1, kDescriptorConfiguration = 2, kDescriptorString = 3, kDescriptorInterface = 4, kDescriptorEndpoint = 5,
  kDescriptorQualifier = 6, kDescriptorOtherSpeed = 7, kDescriptorBos = 15, kDescriptorHid = 0x21, kDescriptorReport = 0x22,
  kDescriptorHub = 0x29, kDescriptorCompanion = 0x30,
};
inline constexpr u16 kFeatureHalt = 0, kFeatureRemoteWakeup = 1;
inline constexpr u8 kAttributeSelfPowered = 0x40, kAttributeRemoteWakeup = 0x20, kAttributeAlways = 0x80;
inline constexpr u8 kEndpointBulk = 2, kEndpointInterrupt = 3;
inline constexpr u16 kLanguageEnglish = 0x0409;

inline constexpr u8 kClassHid = 3, kClassStorage = 8, kClassHub = 9;

// HID 1.11 section 7.2.
enum HidRequest : u8 { kGetReport = 1, kGetIdle = 2, kGetProtocol = 3, kSetReport = 9, kSetIdle = 10, kSetProtocol = 11 };

}  // namespace atl::devices::usb
