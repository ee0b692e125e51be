// SCSI as its transports (ATAPI, virtio-scsi, USB mass storage) see it: a command, its data phase, its end.
// Numbers from SPC-4, SBC-3 and MMC-6.
//
// A transport fills in `cdb`, calls ScsiUnit::prepare(), moves `bytes` in `direction` through transfer(), in pieces if it
// likes, and calls finish(); `status` and `sense` say how it went. A command whose status is not good after prepare()
// or a transfer has no more data and needs no finish().
#pragma once

#include <array>
#include <vector>

#include "base/archive.h"
#include "base/types.h"

namespace atl::devices::scsi {

// Status codes (SAM-5, 5.3).
inline constexpr u8 kGood = 0x00, kCheckCondition = 0x02, kBusy = 0x08;

struct Sense {
  u8 key = 0, asc = 0, ascq = 0;
  bool operator==(const Sense&) const = default;
};

// Sense keys and additional codes (SPC-4, 4.5.6 and annex F).
inline constexpr Sense kNoSense{0x0, 0x00, 0x00};
inline constexpr Sense kNotReadyNoMedium{0x2, 0x3a, 0x00};
inline constexpr Sense kTrayOpen{0x2, 0x3a, 0x02};
inline constexpr Sense kReadError{0x3, 0x11, 0x00};
inline constexpr Sense kWriteError{0x3, 0x0c, 0x00};
inline constexpr Sense kInvalidOpcode{0x5, 0x20, 0x00};
inline constexpr Sense kLbaOutOfRange{0x5, 0x21, 0x00};
inline constexpr Sense kInvalidField{0x5, 0x24, 0x00};
inline constexpr Sense kNoSuchUnit{0x5, 0x25, 0x00};
inline constexpr Sense kInvalidParameter{0x5, 0x26, 0x00};
inline constexpr Sense kSavingNotSupported{0x5, 0x39, 0x00};
inline constexpr Sense kRemovalPrevented{0x5, 0x53, 0x02};
inline constexpr Sense kWrongTrackMode{0x5, 0x64, 0x00};
inline constexpr Sense kMediumChanged{0x6, 0x28, 0x00};
inline constexpr Sense kPowerOn{0x6, 0x29, 0x00};
inline constexpr Sense kCapacityChanged{0x6, 0x2a, 0x09};
inline constexpr Sense kWriteProtected{0x7, 0x27, 0x00};
inline constexpr Sense kAborted{0xb, 0x00, 0x00};
inline constexpr Sense kSpaceExhausted{0x7, 0x27, 0x07};

inline constexpr u8 kUnitAttention = 0x6;

// Operation codes that more than one file needs.
enum Opcode : u8 {
  kTestUnitReady = 0x00, kRequestSense = 0x03, kRead6 = 0x08, kWrite6 = 0x0a, kInquiry = 0x12, kModeSelect6 = 0x15,
  kReserve6 = 0x16, kRelease6 = 0x17, kModeSense6 = 0x1a, kStartStop = 0x1b, kSendDiagnostic = 0x1d, kPreventAllow = 0x1e,
  kReadCapacity10 = 0x25, kRead10 = 0x28, kWrite10 = 0x2a, kSeek10 = 0x2b, kWriteVerify10 = 0x2e, kVerify10 = 0x2f,
  kPrefetch10 = 0x34, kSyncCache10 = 0x35, kWriteSame10 = 0x41, kUnmap = 0x42, kReadSubChannel = 0x42, kReadToc = 0x43,
  kGetConfiguration = 0x46, kGetEventStatus = 0x4a, kReadDiscInformation = 0x51, kReadTrackInformation = 0x52,
  kModeSelect10 = 0x55, kReserve10 = 0x56, kRelease10 = 0x57, kModeSense10 = 0x5a, kRead16 = 0x88, kWrite16 = 0x8a,
  kWriteVerify16 = 0x8e, kVerify16 = 0x8f, kSyncCache16 = 0x91, kWriteSame16 = 0x93, kServiceActionIn = 0x9e,
  kReportLuns = 0xa0, kRead12 = 0xa8, kWrite12 = 0xaa, kReadDiscStructure = 0xad, kVerify12 = 0xaf, kSetCdSpeed = 0xbb,
  kMechanismStatus = 0xbd, kReadCd = 0xbe,
};

struct Command {
  enum class Direction : u8 { None, FromDevice, ToDevice };
  /// What the data phase moves.
  enum class Kind : u8 { Reply, Parameters, MediumRead, MediumWrite };

  std::array<u8, 16> cdb{};

  // Set by prepare().
  Direction direction = Direction::None;
  u64 bytes = 0;            // of the data phase
  u8 status = kGood;
  Sense sense;

  // The unit's own.
  Kind kind = Kind::Reply;
  u64 position = 0;         // bytes: where the medium's part begins
  std::vector<u8> data;     // the reply, or parameters as they arrive

  bool good() const { return status == kGood; }
  void fail(const Sense& why) {
    status = kCheckCondition;
    sense = why;
  }
  /// Answers with the first `allocation` bytes of `reply`.
  void reply(std::vector<u8> answer, u64 allocation) {
    direction = Direction::FromDevice;
    kind = Kind::Reply;
    data = std::move(answer);
    if (data.size() > allocation) data.resize(allocation);
    bytes = data.size();
    if (bytes == 0) direction = Direction::None;
  }
  /// Takes `size` bytes of parameters.
  void take_parameters(u64 size) {
    direction = size ? Direction::ToDevice : Direction::None;
    kind = Kind::Parameters;
    data.assign(size, 0);
    bytes = size;
  }
  /// Saved between pieces of the data phase. Restored values are harmless whatever they are: each piece is checked.
  void visit(Archive& archive);
};

/// Fixed format sense data (SPC-4, 4.5.3).
std::array<u8, 18> fixed_sense(const Sense& sense);

}  // namespace atl::devices::scsi
