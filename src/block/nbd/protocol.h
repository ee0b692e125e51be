// Numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md): names as there, all values big-endian on the wire.
#pragma once

#include "base/endian.h"
#include "base/types.h"

namespace atl::block::nbd {

// "Newstyle negotiation" and "Oldstyle negotiation".
inline constexpr u64 kInitMagic = 0x4e42444d41474943;     // "NBDMAGIC"
inline constexpr u64 kOptionMagic = 0x49484156454f5054;   // "IHAVEOPT"
inline constexpr u64 kOldstyleMagic = 0x00420281861253;
inline constexpr u64 kReplyMagic = 0x3e889045565a9;
inline constexpr u32 kRequestMagic = 0x25609513;
inline constexpr u32 kSimpleReplyMagic = 0x67446698;
inline constexpr u32 kStructuredReplyMagic = 0x668e33ef;

inline constexpr u16 kFixedNewstyle = 1, kNoZeroes = 2;   // handshake flags, both directions

enum TransmissionFlags : u16 {
  kHasFlags = 1 << 0,
  kReadOnly = 1 << 1,
  kSendFlush = 1 << 2,
  kSendFua = 1 << 3,
  kRotational = 1 << 4,
  kSendTrim = 1 << 5,
  kSendWriteZeroes = 1 << 6,
  kSendDf = 1 << 7,
  kCanMultiConn = 1 << 8,
  kSendResize = 1 << 9,
  kSendCache = 1 << 10,
  kSendFastZero = 1 << 11,
};

enum Option : u32 {
  kOptExportName = 1,
  kOptAbort = 2,
  kOptList = 3,
  kOptStartTls = 5,
  kOptInfo = 6,
  kOptGo = 7,
  kOptStructuredReply = 8,
  kOptListMetaContext = 9,
  kOptSetMetaContext = 10,
};

inline constexpr u32 kRepAck = 1, kRepServer = 2, kRepInfo = 3, kRepMetaContext = 4;
inline constexpr u32 kRepError = 1u << 31;
inline constexpr u32 kRepErrUnsup = kRepError + 1, kRepErrPolicy = kRepError + 2, kRepErrInvalid = kRepError + 3,
                     kRepErrPlatform = kRepError + 4, kRepErrTlsReqd = kRepError + 5, kRepErrUnknown = kRepError + 6,
                     kRepErrShutdown = kRepError + 7, kRepErrBlockSizeReqd = kRepError + 8, kRepErrTooBig = kRepError + 9;

enum Info : u16 { kInfoExport = 0, kInfoName = 1, kInfoDescription = 2, kInfoBlockSize = 3 };

enum Command : u16 {
  kCmdRead = 0,
  kCmdWrite = 1,
  kCmdDisc = 2,
  kCmdFlush = 3,
  kCmdTrim = 4,
  kCmdCache = 5,
  kCmdWriteZeroes = 6,
  kCmdBlockStatus = 7,
};

enum CommandFlags : u16 { kFlagFua = 1, kFlagNoHole = 2, kFlagDf = 4, kFlagReqOne = 8, kFlagFastZero = 16 };

enum ChunkType : u16 {
  kChunkNone = 0,
  kChunkOffsetData = 1,
  kChunkOffsetHole = 2,
  kChunkBlockStatus = 5,
  kChunkError = 0x8001,
  kChunkErrorOffset = 0x8002,
};
inline constexpr u16 kChunkDone = 1;
inline constexpr u16 kChunkIsError = 0x8000;

// Block status flags: base:allocation and qemu:dirty-bitmap:*.
inline constexpr u32 kStateHole = 1, kStateZero = 2;
inline constexpr u32 kStateDirty = 1;
inline constexpr const char* kBaseAllocation = "base:allocation";
inline constexpr const char* kAllocationDepth = "qemu:allocation-depth";
inline constexpr const char* kDirtyBitmapPrefix = "qemu:dirty-bitmap:";

/// "Size constraints": what peers may rely on.
inline constexpr u64 kMaxPayload = 32 * kMiB;
inline constexpr u32 kMaxString = 4096;
inline constexpr u32 kMaxOptionBytes = 64 * kKiB;    // of what we take in a negotiation
inline constexpr u16 kDefaultPort = 10809;

/// errno values on the wire: Linux's numbers for a few names; the rest is EINVAL.
int to_wire_errno(int err);
int from_wire_errno(u32 value);

/// Lays numbers down in wire order.
class Encoder {
 public:
  explicit Encoder(u8* at) : at_(at) {}
  template <class T>
  Encoder& put(T value) {
    store_be<T>(at_, value);
    at_ += sizeof(T);
    return *this;
  }

 private:
  u8* at_;
};

}  // namespace atl::block::nbd
