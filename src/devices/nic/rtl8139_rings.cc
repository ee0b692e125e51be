// Frames of the RTL8139: the four transmit registers and the receive buffer, and the rings of C+ mode.
#include <algorithm>

#include "base/endian.h"
#include "devices/nic/rtl8139.h"

namespace atl::devices {

using namespace rtl8139;

namespace {

constexpr unsigned kFramesATurn = 256;
constexpr u32 kRingEntries = 64;  // of C+ rings at most
constexpr size_t kSlotBytes = 1792;  // what the FIFO takes
constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

}  // namespace

bool Rtl8139::transmit() {
  for (unsigned i = 0; i < kFramesATurn; ++i) {
    Outgoing frame;
    bool whole = false;
    {
      Lock lock(mutex_);
      if (!(registers_[kCr] & kCrTe) || !take_next(whole)) return false;
      if (whole) std::swap(frame, outgoing_);
    }
    if (whole) send(frame);
  }
  return true;
}

bool Rtl8139::take_next(bool& whole) { return plus_transmit() ? take_descriptor(whole) : take_slot(whole); }

bool Rtl8139::take_slot(bool& whole) {
  const u32 at = kTsd + 4u * next_slot_;
  const u32 status = reg<u32>(at);
  if (status & kTsdOwn) return false;
  outgoing_ = {};
  outgoing_.frame.resize(std::min<size_t>(status & kTsdSize, kSlotBytes));
  dma_.read(reg<u32>(kTsad + 4u * next_slot_), outgoing_.frame);
  set<u32>(at, status | kTsdOwn | kTsdTok);
  next_slot_ = (next_slot_ + 1) & 3;
  ++tally_.sent;
  raise(kTok);
  whole = true;
  return true;
}

bool Rtl8139::take_descriptor(bool& whole) {
  const GuestAddr ring = u64{reg<u32>(kTnpds + 4)} << 32 | (reg<u32>(kTnpds) & ~0xffu);
  const GuestAddr at = ring + transmit_index_ * kCpDescriptorBytes;
  std::array<u8, kCpDescriptorBytes> descriptor;
  dma_.read(at, descriptor);
  const u32 command = load_le<u32>(&descriptor[0]);
  if (!(command & kOwn)) {
    raise(kTdu);
    return false;
  }
  if (command & kFs) {
    outgoing_ = {};
    outgoing_.started = true;
    outgoing_.command = command;
    outgoing_.vlan = load_le<u32>(&descriptor[4]);
  }
  const size_t bytes = command & 0xffff, old = outgoing_.frame.size();
  if (outgoing_.started && bytes <= ethernet::kMaxFrameBytes - old) {
    outgoing_.frame.resize(old + bytes);
    dma_.read(load_le<u64>(&descriptor[8]), std::span(outgoing_.frame).subspan(old));
  } else {
    outgoing_.started = false;  // too long: lost
  }
  dma_.write_object(at, command & ~(kOwn | 0x0ff00000u | kTxIpcs | kTxUdpcs | kTxTcpcs) & ~0xffffu);
  transmit_index_ = static_cast<u16>(command & kEor || transmit_index_ + 1u >= kRingEntries ? 0 : transmit_index_ + 1);
  if (!(command & kLs)) return true;
  whole = outgoing_.started;
  if (whole) ++tally_.sent;
  else outgoing_ = {};
  raise(kTok);
  return true;
}

/// Offloads, then the wire. On the loop, without the lock.
void Rtl8139::send(const Outgoing& out) {
  {
    Lock lock(mutex_);
    if (reg<u32>(kTcr) & kTcrLoopback) return;
  }
  auto put = [&](std::span<const u8> frame) {
    if (!(out.vlan & kTxTagc)) return port_.send(frame);
    std::vector<u8> tagged(frame.begin(), frame.end());
    ethernet::insert_vlan_tag(tagged, ethernet::kTypeVlan, std::byteswap(static_cast<u16>(out.vlan)));
    port_.send(tagged);
  };
  const ethernet::Layout at = ethernet::layout_of(out.frame);
  if (out.command & kTxLgsen) {
    const ethernet::LargeSegment large = {.ip = at.ip, .tcp = at.transport, .header_bytes = at.payload, .ipv6 = at.ipv6,
                                          .mss = static_cast<u16>(out.command >> 16 & 0x7ff)};
    if (at.protocol == ethernet::kProtocolTcp) ethernet::segment(out.frame, large, put);
    return;
  }
  std::vector<u8> frame = out.frame;
  ethernet::complete_checksums(frame, {.ip = (out.command & kTxIpcs) != 0, .tcp = (out.command & kTxTcpcs) != 0,
                                       .udp = (out.command & kTxUdpcs) != 0});
  put(frame);
}

// Receiving.

Rtl8139::Kind Rtl8139::kind_of(std::span<const u8> frame) const {
  const u32 filter = reg<u32>(kRcr);
  const auto address = frame.first<6>();
  if (std::ranges::equal(address, kBroadcast)) return filter & (kRcrAb | kRcrAap) ? Kind::Broadcast : Kind::Unwanted;
  if (address[0] & 1) {
    const unsigned bit = ethernet::multicast_hash(address);
    const bool chosen = (filter & kRcrAm) && (registers_[kMar + bit / 8] >> (bit % 8) & 1);
    return chosen || (filter & kRcrAap) ? Kind::Multicast : Kind::Unwanted;
  }
  if (std::equal(address.begin(), address.end(), &registers_[kIdr])) return filter & (kRcrApm | kRcrAap) ? Kind::Own : Kind::Unwanted;
  return filter & kRcrAap ? Kind::Promiscuous : Kind::Unwanted;
}

bool Rtl8139::receive_frame(std::span<const u8> frame) {
  Lock lock(mutex_);
  if (!(registers_[kCr] & kCrRe) || !function_.bus_master()) return true;
  const Kind kind = kind_of(frame);
  if (kind == Kind::Unwanted) return true;
  if (plus_receive()) {
    store_in_ring(frame, kind);
    return true;
  }
  return store_in_buffer(frame, kind);
}

void Rtl8139::count_received(Kind kind) {
  ++tally_.received;
  if (kind == Kind::Own) ++tally_.received_own;
  if (kind == Kind::Broadcast) ++tally_.received_broadcast;
  if (kind == Kind::Multicast) ++tally_.received_multicast;
}

/// The ring of bytes of the RTL8139: header, frame, check sequence, up to a multiple of four.
bool Rtl8139::store_in_buffer(std::span<const u8> frame, Kind kind) {
  const u32 size = 8192u << (reg<u32>(kRcr) >> 11 & 3);
  const u32 bytes = static_cast<u32>(frame.size()) + ethernet::kFcsBytes, needed = (bytes + kRxHeaderBytes + 3) & ~3u;
  const u32 write_at = reg<u16>(kCbr) % size, read_at = (reg<u16>(kCapr) + 16u) % size;
  const u32 free = write_at == read_at ? size : (size + read_at - write_at) % size;
  if (needed >= size) return true;  // will never fit
  if (needed >= free) return false;
  u16 status = kRxRok;
  if (kind == Kind::Broadcast) status |= kRxBar;
  else if (kind == Kind::Multicast) status |= kRxMar;
  else if (kind == Kind::Own) status |= kRxPam;
  std::vector<u8> packet(needed);
  store_le<u16>(&packet[0], status);
  store_le<u16>(&packet[2], static_cast<u16>(bytes));
  std::ranges::copy(frame, packet.begin() + kRxHeaderBytes);
  store_le<u32>(&packet[kRxHeaderBytes + frame.size()], ethernet::crc(frame));
  const GuestAddr start = reg<u32>(kRbstart);
  const bool linear = (reg<u32>(kRcr) & kRcrWrap) && size < 0x10000;  // the driver left room behind the buffer
  const u32 first = linear ? needed : std::min(needed, size - write_at);
  dma_.write(start + write_at, std::span(packet).first(first));
  if (first < needed) dma_.write(start, std::span(packet).subspan(first));
  set<u16>(kCbr, static_cast<u16>((write_at + needed) % size));
  count_received(kind);
  raise(kRok);
  return true;
}

void Rtl8139::store_in_ring(std::span<const u8> frame, Kind kind) {
  const GuestAddr ring = u64{reg<u32>(kRdsar + 4)} << 32 | (reg<u32>(kRdsar) & ~0xffu);
  const GuestAddr at = ring + receive_index_ * kCpDescriptorBytes;
  std::array<u8, kCpDescriptorBytes> descriptor;
  dma_.read(at, descriptor);
  const u32 command = load_le<u32>(&descriptor[0]);
  std::vector<u8> packet(frame.begin(), frame.end());
  u32 tag = 0;
  if ((reg<u16>(kCpcr) & kCpRxVlan) && load_be<u16>(&packet[12]) == ethernet::kTypeVlan) {
    tag = kRxCpTava | load_le<u16>(&packet[14]);
    packet.erase(packet.begin() + 12, packet.begin() + 16);
  }
  const size_t bytes = packet.size() + ethernet::kFcsBytes;
  if (!(command & kOwn) || bytes > (command & kRxCpSize)) {
    ++tally_.missed;
    const u32 missed = (reg<u32>(kMpc) + 1) & 0xffffff;
    set<u32>(kMpc, missed);
    return raise(kRxovw);
  }
  packet.resize(bytes);
  store_le<u32>(&packet[bytes - ethernet::kFcsBytes], ethernet::crc(frame));
  dma_.write(load_le<u64>(&descriptor[8]), packet);
  u32 status = (command & kEor) | kFs | kLs | static_cast<u32>(bytes);
  if (kind == Kind::Broadcast) status |= kRxCpBar;
  else if (kind == Kind::Multicast) status |= kRxCpMar;
  else if (kind == Kind::Own) status |= kRxCpPam;
  const ethernet::ChecksumReport sums = ethernet::check(frame);
  if (sums.ip) status |= (sums.tcp ? 1u : sums.udp ? 2u : 3u) << kRxCpPidShift | (sums.ip_good ? 0 : kRxCpIpf);
  if (sums.ip && sums.tcp && !sums.transport_good) status |= kRxCpTcpf;
  if (sums.ip && sums.udp && !sums.transport_good) status |= kRxCpUdpf;
  dma_.write_object(at + 4, tag);
  dma_.write_object(at, status);
  receive_index_ = static_cast<u16>(command & kEor || receive_index_ + 1u >= kRingEntries ? 0 : receive_index_ + 1);
  count_received(kind);
  raise(kRok);
}

}  // namespace atl::devices
