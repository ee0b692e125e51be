// The receive ring of the Intel gigabit cards (3.2), with its filters (3.2.1).
#include <algorithm>

#include "base/endian.h"
#include "devices/nic/e1000.h"

namespace atl::devices {

using namespace e1000;

namespace {

constexpr size_t kLongestPlain = 1518;  // without LPE; VLAN tags come on top
constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

bool is_broadcast(std::span<const u8> frame) { return std::equal(kBroadcast.begin(), kBroadcast.end(), frame.begin()); }

}  // namespace

bool E1000::receive_frame(std::span<const u8> frame) {
  Lock lock(mutex_);
  if (!(reg(kRctl) & kRctlEn) || (reg(kRctl) & kRctlLoopback) || !function_.bus_master()) return true;
  if (reg(kRctl) & kRctlDescriptorType) return true;  // packet split: not offered
  if (!wanted(frame)) return true;
  const u64 bytes = frame.size() + (reg(kRctl) & kRctlSecrc ? 0 : ethernet::kFcsBytes);
  if (!has_room(bytes)) {
    if (bytes > u64{receive_buffer_bytes()} * (reg(kRdlen) / kDescriptorBytes)) return true;  // will never fit
    add_statistic(kMpc, 1);
    raise(kRxo);
    return false;
  }
  count_received(frame);
  store_frame(frame);
  return true;
}

bool E1000::wanted(std::span<const u8> frame) {
  const bool tagged = load_be<u16>(&frame[12]) == reg(kVet);
  if (!(reg(kRctl) & kRctlLpe) && frame.size() > kLongestPlain - ethernet::kFcsBytes + (tagged ? ethernet::kVlanTagBytes : 0))
    return false;
  if (tagged && (reg(kRctl) & kRctlVfe)) {
    const u16 vlan = load_be<u16>(&frame[14]) & 0xfff;
    if (!(reg(kVfta + vlan / 32 * 4) >> (vlan % 32) & 1)) return false;
  }
  return passes_address(frame);
}

bool E1000::passes_address(std::span<const u8> frame) {
  const u32 control = reg(kRctl);
  const bool multicast = frame[0] & 1;
  if (multicast ? control & kRctlMpe : control & kRctlUpe) return true;
  if ((control & kRctlBam) && is_broadcast(frame)) return true;
  const u32 low = load_le<u32>(&frame[0]);
  const u32 high = load_le<u16>(&frame[4]);
  for (u32 at = kRal; at < kRalEnd; at += 8)
    if ((reg(at + 4) & kRahAv) && reg(at) == low && (reg(at + 4) & 0xffff) == high) return true;
  if (!multicast) return false;
  constexpr unsigned kShifts[] = {4, 3, 2, 0};
  const u32 hash = (high >> kShifts[control >> 12 & 3]) & 0xfff;
  return reg(kMta + hash / 32 * 4) >> (hash % 32) & 1;
}

u32 E1000::receive_buffer_bytes() {
  const u32 control = reg(kRctl);
  if (const u32 flexible = control >> 27 & 15; is_82574() && flexible) return flexible * 1024;
  const u32 size = 2048u >> (control >> 16 & 3);
  return control & kRctlBsex && size < 2048 ? size * 16 : size;
}

bool E1000::has_room(u64 bytes) {
  const u32 count = reg(kRdlen) / kDescriptorBytes;
  if (count == 0) return false;
  const u32 head = reg(kRdh) % count, tail = reg(kRdt) % count;
  const u32 free = tail >= head ? tail - head : count - head + tail;
  return u64{free} * receive_buffer_bytes() >= bytes && free > 0;
}

void E1000::count_received(std::span<const u8> frame) {
  const u64 bytes = frame.size() + ethernet::kFcsBytes;
  add_statistic(kTpr, 1);
  add_statistic(kGprc, 1);
  add_wide_statistic(kGorcl, bytes);
  add_wide_statistic(kTorl, bytes);
  if (is_broadcast(frame)) add_statistic(kBprc, 1);
  else if (frame[0] & 1) add_statistic(kMprc, 1);
}

void E1000::store_frame(std::span<const u8> frame) {
  received_.assign(frame.begin(), frame.end());
  u32 status = kRxDd, errors = 0;
  u16 vlan = 0;
  const ethernet::ChecksumReport sums = ethernet::check(frame);
  if ((reg(kRxcsum) & kRxcsumIpofl) && sums.ip) {
    status |= kRxIpcs;
    if (!sums.ip_good) errors |= kRxIpe;
  }
  if ((reg(kRxcsum) & kRxcsumTuofl) && (sums.tcp || sums.udp)) {
    status |= kRxTcpcs | (sums.udp ? kRxUdpcs : 0);
    if (!sums.transport_good) errors |= kRxTcpe;
  }
  if (!(status & (kRxIpcs | kRxTcpcs))) status |= kRxIxsm;
  if ((reg(kCtrl) & kCtrlVme) && load_be<u16>(&frame[12]) == reg(kVet)) {
    vlan = load_be<u16>(&frame[14]);
    received_.erase(received_.begin() + 12, received_.begin() + 16);
    status |= kRxVp;
  }
  if (!(reg(kRctl) & kRctlSecrc)) {
    received_.resize(received_.size() + ethernet::kFcsBytes);
    store_le<u32>(&received_[received_.size() - ethernet::kFcsBytes], ethernet::crc(frame));
  }
  const u32 count = reg(kRdlen) / kDescriptorBytes, room = receive_buffer_bytes();
  const GuestAddr ring = u64{reg(kRdbah)} << 32 | reg(kRdbal);
  std::span<const u8> left = received_;
  for (u32 used = 0; !left.empty() && used < count; ++used) {
    u32& head = reg(kRdh);
    head %= count;
    const auto part = left.first(std::min<size_t>(left.size(), room));
    left = left.subspan(part.size());
    write_back(ring + head * kDescriptorBytes, part, vlan, status | (left.empty() ? kRxEop : 0), errors);
    head = head + 1 == count ? 0 : head + 1;
  }
  const u32 free = (reg(kRdt) + count - reg(kRdh)) % count;
  const bool few = free <= count >> ((reg(kRctl) >> 8 & 3) + 1);
  raise(kRxt0 | (few ? kRxdmt0 : 0));
}

/// Data first, then the descriptor with its done bit.
void E1000::write_back(GuestAddr at, std::span<const u8> part, u16 vlan, u32 status, u32 errors) {
  std::array<u8, 16> descriptor;
  dma_.read(at, descriptor);
  if (const u64 buffer = load_le<u64>(&descriptor[0])) dma_.write(buffer, part);
  if (is_82574() && (reg(kRfctl) & kRfctlExten)) {
    descriptor = {};
    if (errors & kRxTcpe) status |= kRxExtTcpe;
    if (errors & kRxIpe) status |= kRxExtIpe;
    store_le<u32>(&descriptor[8], status);
    store_le<u16>(&descriptor[12], static_cast<u16>(part.size()));
    store_le<u16>(&descriptor[14], vlan);
  } else {
    store_le<u16>(&descriptor[8], static_cast<u16>(part.size()));
    store_le<u16>(&descriptor[10], 0);
    descriptor[12] = static_cast<u8>(status);
    descriptor[13] = static_cast<u8>(errors);
    store_le<u16>(&descriptor[14], vlan);
  }
  dma_.write(at, descriptor);
}

}  // namespace atl::devices
