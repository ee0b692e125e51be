// Frames of libvirt's RPC (docs/daemon.md): a word with the total length, six words of header, and a payload in XDR or raw stream bytes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "manage/error.h"
#include "manage/rpc/xdr.h"

namespace atl::manage::rpc {

inline constexpr u32 kRemoteProgram = 0x20008086;
inline constexpr u32 kQemuProgram = 0x20008087;
inline constexpr u32 kKeepaliveProgram = 0x6b656570;
inline constexpr u32 kProgramVersion = 1;

inline constexpr u32 kLengthBytes = 4;
inline constexpr u32 kHeaderBytes = 28;  // with the length word
/// What the length word may say: libvirt's limit for header and payload, and the word itself.
inline constexpr u32 kFrameMax = 33'554'432 + kLengthBytes;
/// Raw bytes in one stream frame; older clients take no more.
inline constexpr u32 kStreamChunk = 262'120;
inline constexpr u32 kMaxFds = 32;

enum class FrameType : u32 { Call = 0, Reply = 1, Message = 2, Stream = 3, CallWithFds = 4, ReplyWithFds = 5, StreamHole = 6 };
enum class FrameStatus : u32 { Ok = 0, Error = 1, Continue = 2 };

struct Header {
  u32 program = kRemoteProgram;
  u32 version = kProgramVersion;
  u32 procedure = 0;
  FrameType type = FrameType::Call;
  u32 serial = 0;
  FrameStatus status = FrameStatus::Ok;
};

struct Frame {
  Header header;
  std::vector<u8> payload;
};

/// What the first bytes of a stream say about the next frame.
enum class Scan : u8 { NeedsMore, Whole, Bad };
/// Whether `data` begins with a whole frame; `length` is its length if that is known, else 0. Bad: the length is impossible.
Scan scan_frame(std::span<const u8> data, u32& length);
/// `data` is one whole frame.
Frame parse_frame(std::span<const u8> data);
std::vector<u8> encode_frame(const Header& header, std::span<const u8> payload);
/// With a count of descriptors before the payload (types 4 and 5).
std::vector<u8> encode_frame_with_fds(const Header& header, u32 fds, std::span<const u8> payload);
/// The answer to a call: same program, procedure and serial.
Header reply_to(const Header& call, FrameType type, FrameStatus status);
/// The payload of an answer with status Error.
std::vector<u8> encode_error(const Error& error);
/// What a server said; for clients.
atl::Result<Error> decode_error(std::span<const u8> payload);

}  // namespace atl::manage::rpc
