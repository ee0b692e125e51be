#include "devices/nic/ethernet.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/endian.h"
#include "net/vnet_header.h"

namespace atl::devices::ethernet {
namespace {

constexpr u16 kTypeIpv4 = 0x0800, kTypeIpv6 = 0x86dd;
constexpr size_t kIpv6HeaderBytes = 40, kTcpHeaderBytes = 20, kUdpHeaderBytes = 8;
constexpr u16 kMoreFragmentsOrOffset = 0x3fff;
constexpr u8 kFin = 0x01, kPush = 0x08, kCwr = 0x80;

/// The sum, in memory order, of the pseudo header (RFC 793 section 3.1, RFC 8200 section 8.1).
u16 pseudo_sum(std::span<const u8> frame, size_t ip, bool ipv6, u8 protocol, size_t bytes) {
  std::array<u8, 40> pseudo{};
  const size_t addresses = ipv6 ? 32 : 8, from = ip + (ipv6 ? 8 : 12);
  std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(from), addresses, pseudo.begin());
  store_be<u32>(&pseudo[addresses], static_cast<u32>(bytes));
  pseudo[addresses + 7] = protocol;
  return net::internet_sum(std::span(pseudo).first(addresses + 8));
}

u16 add_sums(u16 a, u16 b) {
  const u32 sum = u32{a} + b;
  return static_cast<u16>(sum + (sum >> 16));
}

/// Bytes of the IP packet behind its header, as the header says; 0 if that is not in the frame.
size_t transport_bytes(std::span<const u8> frame, const Layout& at) {
  const size_t total = at.ipv6 ? load_be<u16>(&frame[at.ip + 4]) + kIpv6HeaderBytes : load_be<u16>(&frame[at.ip + 2]);
  const size_t header = at.transport - at.ip;
  return total >= header && at.ip + total <= frame.size() ? total - header : 0;
}

/// Sets the lengths and checksums of one piece.
void finish_piece(std::span<u8> piece, const LargeSegment& large, u16 number) {
  u8* ip = &piece[large.ip];
  const size_t ip_bytes = piece.size() - large.ip;
  if (large.ipv6) {
    store_be<u16>(ip + 4, static_cast<u16>(ip_bytes - kIpv6HeaderBytes));
  } else {
    store_be<u16>(ip + 2, static_cast<u16>(ip_bytes));
    store_be<u16>(ip + 4, static_cast<u16>(load_be<u16>(ip + 4) + number));
    store_le<u16>(ip + 10, 0);
    store_checksum(piece, large.ip, large.ip + 10, large.tcp);
  }
  const size_t tcp_bytes = piece.size() - large.tcp;
  store_le<u16>(&piece[large.tcp + 16], pseudo_sum(piece, large.ip, large.ipv6, kProtocolTcp, tcp_bytes));
  store_checksum(piece, large.tcp, large.tcp + 16, 0);
}

bool fits(std::span<const u8> frame, const LargeSegment& large) {
  const size_t ip_header = large.ipv6 ? kIpv6HeaderBytes : 20;
  return large.mss > 0 && large.ip >= kHeaderBytes && large.tcp >= large.ip + ip_header &&
         large.header_bytes >= large.tcp + kTcpHeaderBytes && large.header_bytes <= frame.size() &&
         large.header_bytes <= 512 && frame.size() <= kMaxFrameBytes;
}

}  // namespace

std::string mac_text(const MacAddress& m) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5]);
}

std::array<u8, kMinFrameBytes> announcement(const MacAddress& mac) {
  constexpr u8 kRest[] = {0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3};  // RARP; Ethernet, IPv4, lengths of addresses; request reverse
  constexpr size_t kSender = kHeaderBytes + 8, kTarget = kSender + 10;
  std::array<u8, kMinFrameBytes> frame{};
  std::fill_n(frame.begin(), 6, u8{0xff});
  std::ranges::copy(mac, &frame[6]);
  std::ranges::copy(kRest, &frame[12]);
  std::ranges::copy(mac, &frame[kSender]);
  std::ranges::copy(mac, &frame[kTarget]);
  return frame;
}

u32 crc(std::span<const u8> data) {
  u32 value = ~u32{0};
  for (u8 byte : data) {
    value ^= byte;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value;
}

unsigned multicast_hash(std::span<const u8, 6> address) {
  // The CRC register itself, whose bits leave in the reverse order of the sequence sent.
  const u32 value = ~crc(address);
  unsigned index = 0;
  for (unsigned bit = 0; bit < 6; ++bit) index = index << 1 | (value >> bit & 1);
  return index;
}

void store_checksum(std::span<u8> frame, size_t start, size_t offset, size_t end) {
  if (end == 0 || end > frame.size()) end = frame.size();
  if (start >= end || offset + 2 > frame.size()) return;
  store_le<u16>(&frame[offset], static_cast<u16>(~net::internet_sum(frame.subspan(start, end - start))));
}

Layout layout_of(std::span<const u8> frame) {
  Layout at;
  if (frame.size() < kHeaderBytes) return at;
  size_t ip = kHeaderBytes;
  u16 type = load_be<u16>(&frame[12]);
  if (type == kTypeVlan && frame.size() >= kHeaderBytes + kVlanTagBytes) {
    type = load_be<u16>(&frame[16]);
    ip += kVlanTagBytes;
  }
  if (type == kTypeIpv4 && frame.size() >= ip + 20 && frame[ip] >> 4 == 4) {
    const size_t header = (frame[ip] & 15u) * 4;
    if (header < 20 || ip + header > frame.size()) return at;
    at.ip = ip;
    at.protocol = frame[ip + 9];
    if ((load_be<u16>(&frame[ip + 6]) & kMoreFragmentsOrOffset) == 0) at.transport = ip + header;
  } else if (type == kTypeIpv6 && frame.size() >= ip + kIpv6HeaderBytes && frame[ip] >> 4 == 6) {
    at.ip = ip;
    at.ipv6 = true;
    at.protocol = frame[ip + 6];
    at.transport = ip + kIpv6HeaderBytes;
  }
  const size_t t = at.transport;
  if (t && at.protocol == kProtocolTcp && t + kTcpHeaderBytes <= frame.size()) at.payload = t + (frame[t + 12] >> 4) * 4u;
  if (t && at.protocol == kProtocolUdp && t + kUdpHeaderBytes <= frame.size()) at.payload = t + kUdpHeaderBytes;
  if (at.payload > frame.size() || at.payload < t) at.payload = 0;
  return at;
}

ChecksumReport check(std::span<const u8> frame) {
  ChecksumReport report;
  const Layout at = layout_of(frame);
  if (at.ip && !at.ipv6) {
    report.ip = true;
    report.ip_good = net::internet_sum(frame.subspan(at.ip, (frame[at.ip] & 15u) * 4)) == 0xffff;
  }
  const size_t bytes = at.payload ? transport_bytes(frame, at) : 0;
  if (bytes == 0) return report;
  const bool no_sum = at.protocol == kProtocolUdp && !at.ipv6 && load_le<u16>(&frame[at.transport + 6]) == 0;
  report.tcp = at.protocol == kProtocolTcp;
  report.udp = at.protocol == kProtocolUdp && !no_sum;
  const u16 pseudo = pseudo_sum(frame, at.ip, at.ipv6, at.protocol, bytes);
  report.transport_good = add_sums(pseudo, net::internet_sum(frame.subspan(at.transport, bytes))) == 0xffff;
  return report;
}

void complete_checksums(std::span<u8> frame, const WantedChecksums& wanted) {
  const Layout at = layout_of(frame);
  if (wanted.ip && at.ip && !at.ipv6) {
    store_le<u16>(&frame[at.ip + 10], 0);
    store_checksum(frame, at.ip, at.ip + 10, at.ip + (frame[at.ip] & 15u) * 4);
  }
  const size_t bytes = at.payload ? transport_bytes(frame, at) : 0;
  const bool tcp = wanted.tcp && at.protocol == kProtocolTcp, udp = wanted.udp && at.protocol == kProtocolUdp;
  if (bytes == 0 || (!tcp && !udp)) return;
  const size_t sum_at = at.transport + (tcp ? 16 : 6);
  store_le<u16>(&frame[sum_at], pseudo_sum(frame, at.ip, at.ipv6, at.protocol, bytes));
  store_checksum(frame, at.transport, sum_at, at.transport + bytes);
  if (udp && load_le<u16>(&frame[sum_at]) == 0) store_le<u16>(&frame[sum_at], 0xffff);
}

bool segment(std::span<const u8> frame, const LargeSegment& large, const std::function<void(std::span<const u8>)>& send) {
  if (!fits(frame, large)) return false;
  const auto headers = frame.first(large.header_bytes);
  std::span<const u8> payload = frame.subspan(large.header_bytes);
  const u32 sequence = load_be<u32>(&frame[large.tcp + 4]);
  const u8 flags = frame[large.tcp + 13];
  std::vector<u8> piece;
  u16 number = 0;
  for (size_t done = 0; done == 0 || done < payload.size(); done += large.mss, ++number) {
    const auto part = payload.subspan(done, std::min<size_t>(large.mss, payload.size() - done));
    const bool last = done + part.size() == payload.size();
    piece.assign(headers.begin(), headers.end());
    piece.insert(piece.end(), part.begin(), part.end());
    store_be<u32>(&piece[large.tcp + 4], sequence + static_cast<u32>(done));
    u8 kept = last ? flags : static_cast<u8>(flags & ~(kFin | kPush));
    if (number) kept = static_cast<u8>(kept & ~kCwr);
    piece[large.tcp + 13] = kept;
    finish_piece(piece, large, number);
    send(piece);
  }
  return true;
}

void insert_vlan_tag(std::vector<u8>& frame, u16 type, u16 tag) {
  if (frame.size() < 12) return;
  std::array<u8, kVlanTagBytes> bytes{};
  store_be<u16>(&bytes[0], type);
  store_be<u16>(&bytes[2], tag);
  frame.insert(frame.begin() + 12, bytes.begin(), bytes.end());
}

}  // namespace atl::devices::ethernet
