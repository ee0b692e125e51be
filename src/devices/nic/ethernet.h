// Ethernet, IPv4, IPv6, TCP and UDP as far as network cards look into frames: multicast hashes, checksums, and cutting of
// large TCP segments. IEEE 802.3, RFC 791, 8200, 793, 768, 1071. Pure functions, any thread; frames are hostile input.
// Missing: extension headers of IPv6, IP in IP.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"

namespace atl::devices {

using MacAddress = std::array<u8, 6>;

namespace ethernet {

inline constexpr size_t kHeaderBytes = 14, kMinFrameBytes = 60, kVlanTagBytes = 4, kFcsBytes = 4;
inline constexpr size_t kMaxFrameBytes = 65535 + kHeaderBytes + kVlanTagBytes;
inline constexpr u16 kTypeVlan = 0x8100;

/// "52:54:00:12:34:56".
std::string mac_text(const MacAddress& mac);
/// A broadcast from which switches learn where `mac` is: a request of RARP (RFC 903) for its own address, as QEMU sends it.
std::array<u8, kMinFrameBytes> announcement(const MacAddress& mac);
/// The frame check sequence, which cards also take multicast hashes from (802.3 section 3.2.9).
u32 crc(std::span<const u8> data);
/// A card's 64-bit hash filter by the upper six bits of the CRC: index of `address`'s bit.
unsigned multicast_hash(std::span<const u8, 6> address);

/// What the checksums of a received frame say.
struct ChecksumReport {
  bool ip = false, ip_good = false;            // there is an IPv4 header; its sum is right
  bool tcp = false, udp = false;               // there is a whole TCP or UDP packet in one piece
  bool transport_good = false;
};
ChecksumReport check(std::span<const u8> frame);

/// Stores the checksum of frame[start, end) at `offset`; end 0 is the frame's. Ranges outside the frame do nothing.
void store_checksum(std::span<u8> frame, size_t start, size_t offset, size_t end);

/// Where the parts of a frame lie, for the cards whose descriptors do not say.
struct Layout {
  size_t ip = 0, transport = 0, payload = 0;  // offsets; 0 = not there
  bool ipv6 = false;
  u8 protocol = 0;
};
inline constexpr u8 kProtocolTcp = 6, kProtocolUdp = 17;
Layout layout_of(std::span<const u8> frame);

/// Computes the chosen checksums of a frame whose headers say where they lie, as cards do that look for themselves.
struct WantedChecksums {
  bool ip = false, tcp = false, udp = false;
};
void complete_checksums(std::span<u8> frame, const WantedChecksums& wanted);

/// A TCP segment that is to be cut: where its headers lie, and how much payload a piece may carry.
struct LargeSegment {
  size_t ip = 0, tcp = 0, header_bytes = 0;  // header_bytes: everything before the payload
  bool ipv6 = false;
  u16 mss = 0;
};
/// Calls `send` with every piece, lengths, identification, sequence numbers, flags and checksums set. False if the offsets
/// do not fit the frame; then nothing is sent.
bool segment(std::span<const u8> frame, const LargeSegment& large, const std::function<void(std::span<const u8>)>& send);

/// Inserts a VLAN tag behind the addresses.
void insert_vlan_tag(std::vector<u8>& frame, u16 type, u16 tag);

}  // namespace ethernet
}  // namespace atl::devices
