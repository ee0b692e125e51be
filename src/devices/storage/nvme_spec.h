// Names from NVM Express 1.4 that the controller's files share.
#pragma once

#include "base/types.h"

namespace atl::devices::nvme {

// Controller registers (3.1).
inline constexpr u32 kCapLow = 0x00, kCapHigh = 0x04, kVersionAt = 0x08, kMaskSet = 0x0c, kMaskClear = 0x10, kConfiguration = 0x14,
              kStatusAt = 0x1c, kAdminSizes = 0x24, kAdminSubmission = 0x28, kAdminCompletion = 0x30, kDoorbells = 0x1000;
inline constexpr u32 kVersion = 0x00010400;
inline constexpr u32 kMaxEntries = 2048;
inline constexpr u32 kEnable = 1, kReady = 1, kShutdownMask = 3 << 14, kShutdownDone = 2 << 2, kFatal = 2;
inline constexpr u64 kBarBytes = 0x4000;
inline constexpr unsigned kMsixBar = 4;
inline constexpr u64 kPage = 4096;
inline constexpr u8 kMaxTransferPower = 7;  // MDTS: of pages
inline constexpr u64 kMaxTransfer = kPage << kMaxTransferPower;
inline constexpr u32 kSubmissionBytes = 64, kCompletionBytes = 16;

// Admin and I/O opcodes (5, 6).
enum Admin : u8 { kDeleteSq = 0, kCreateSq = 1, kGetLog = 2, kDeleteCq = 4, kCreateCq = 5, kIdentify = 6, kAbort = 8, kSetFeatures = 9, kGetFeatures = 10, kAsyncEvent = 12 };
enum Io : u8 { kFlush = 0, kWrite = 1, kRead = 2, kWriteZeroes = 8, kDatasetManagement = 9 };

// Status: type << 8 | code, without the phase bit; kDoNotRetry on top (4.6.1).
inline constexpr u16 kDoNotRetry = 1 << 14;
inline constexpr u16 kInvalidOpcode = 0x001 | kDoNotRetry, kInvalidField = 0x002 | kDoNotRetry, kTransferError = 0x004,
              kInvalidNamespace = 0x00b | kDoNotRetry, kPrpOffset = 0x013 | kDoNotRetry, kLbaRange = 0x080 | kDoNotRetry,
              kBadQueueId = 0x101 | kDoNotRetry, kBadQueueSize = 0x102 | kDoNotRetry, kBadCompletion = 0x100 | kDoNotRetry,
              kBadVector = 0x108 | kDoNotRetry, kBadLog = 0x109 | kDoNotRetry, kBadDeletion = 0x10c | kDoNotRetry,
              kWriteFault = 0x280, kReadFault = 0x281, kReadOnly = 0x120 | kDoNotRetry;
inline constexpr u16 kHeld = 0xffff;  // no completion now (asynchronous event requests)

}  // namespace atl::devices::nvme
