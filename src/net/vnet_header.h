// The offload header in front of a frame (struct virtio_net_hdr, VIRTIO 1.2 section 5.1.6) and what it asks for.
// Any thread; pure functions.
#pragma once

#include <span>

#include "base/types.h"

namespace atl::net {

inline constexpr u8 kVnetNeedsChecksum = 1, kVnetDataValid = 2;  // flags

/// Computes the checksum that the header asks for and stores it into the frame behind it (RFC 1071). `packet` is header
/// and frame. False if the header's offsets lie outside of the frame.
bool finish_checksum(std::span<u8> packet);

/// The one's-complement sum of `data` as big-endian 16-bit words, folded to 16 bits, in the byte order of memory.
u16 internet_sum(std::span<const u8> data);

}  // namespace atl::net
