// Transmit rings of the Intel gigabit cards (3.3 to 3.5).
#include <algorithm>

#include "base/endian.h"
#include "devices/nic/e1000.h"

namespace atl::devices {

using namespace e1000;

namespace {

constexpr unsigned kDescriptorsATurn = 512;

u32 cause_of_queue(unsigned queue) { return queue ? kTxq1 : kTxq0; }

}  // namespace

bool E1000::transmit() {
  bool more = transmit_ring(0);
  if (is_82574()) more |= transmit_ring(1);
  return more;
}

/// Takes descriptors until a frame is whole, sends it without the lock, and so on. True if the turn ended before the ring.
bool E1000::transmit_ring(unsigned queue) {
  Outgoing& out = outgoing_[queue];
  for (unsigned i = 0; i < kDescriptorsATurn; ++i) {
    bool whole = false;
    {
      Lock lock(mutex_);
      if (outgoing_reset_.exchange(false)) outgoing_ = {};
      const u32 base = queue * kQueueStride;
      if (!(reg(kTctl) & kTctlEn) || reg(kTdh + base) == reg(kTdt + base) || reg(kTdlen + base) == 0) return false;
      whole = take_descriptor(queue, out);
      if (reg(kTdh + base) == reg(kTdt + base)) raise(kTxqe);
    }
    if (!whole) continue;
    send(out);
    out.frame.clear();
    out.started = out.large = out.vlan = out.oversized = out.wants_sum = false;
    out.popts = 0;
  }
  return true;
}

/// True if it was the last one of a frame.
bool E1000::take_descriptor(unsigned queue, Outgoing& out) {
  const u32 base = queue * kQueueStride;
  const u32 count = reg(kTdlen + base) / kDescriptorBytes;
  u32& head = reg(kTdh + base);
  if (head >= count) head = 0;
  const GuestAddr at = (u64{reg(kTdbah + base)} << 32 | reg(kTdbal + base)) + head * kDescriptorBytes;
  std::array<u8, 16> descriptor;
  dma_.read(at, descriptor);
  head = head + 1 == count ? 0 : head + 1;
  const u8 command = descriptor[11], type = descriptor[10] >> 4;
  const bool extended = command & kTxDext;
  bool whole = false;
  if (extended && type == kTypeContext) {
    take_context(descriptor, out);
  } else {
    take_data(descriptor, extended, out);
    whole = command & kTxEop;
    if (whole) count_sent(out);
  }
  if (command & kTxRs) {
    const u32 status = load_le<u32>(&descriptor[12]) | kTxDd;
    dma_.write_object(at + 12, status);
    raise(kTxdw | (is_82574() ? cause_of_queue(queue) : 0));
  }
  return whole;
}

void E1000::take_context(const std::array<u8, 16>& d, Outgoing& out) {
  const u32 command = load_le<u32>(&d[8]);
  Context context = {.ipcss = d[0], .ipcso = d[1], .tucss = d[4], .tucso = d[5], .tucmd = static_cast<u8>(command >> 24),
                     .header_bytes = d[13], .ipcse = load_le<u16>(&d[2]), .tucse = load_le<u16>(&d[6]),
                     .mss = load_le<u16>(&d[14]), .payload_bytes = command & 0xfffff};
  (context.tucmd & kTxTse ? out.segmenting : out.plain) = context;
}

void E1000::take_data(const std::array<u8, 16>& d, bool extended, Outgoing& out) {
  const u32 lower = load_le<u32>(&d[8]);
  const u8 command = d[11];
  if (!out.started) {
    out.started = true;
    out.large = extended && (command & kTxTse);
    out.popts = extended ? d[13] : u8{0};
  }
  if (command & kTxEop) {
    out.vlan = (command & kTxVle) && (reg(kCtrl) & kCtrlVme);
    out.vlan_tag = load_le<u16>(&d[14]);
    out.wants_sum = !extended && (command & kTxIc);
    out.sum_offset = d[10];
    out.sum_start = d[13];
  }
  const size_t bytes = extended ? lower & 0xfffff : lower & 0xffff, old = out.frame.size();
  if (bytes > ethernet::kMaxFrameBytes - old) out.oversized = true;  // and is lost
  if (out.oversized) return;
  out.frame.resize(old + bytes);
  dma_.read(load_le<u64>(&d[0]), std::span(out.frame).subspan(old));
}

void E1000::count_sent(const Outgoing& out) {
  add_statistic(kGptc, 1);
  add_statistic(kTpt, 1);
  add_wide_statistic(kGotcl, out.frame.size() + ethernet::kFcsBytes);
  add_wide_statistic(kTotl, out.frame.size() + ethernet::kFcsBytes);
  if (out.frame.empty() || !(out.frame[0] & 1)) return;
  const bool broadcast = out.frame.size() >= 6 && std::all_of(&out.frame[0], &out.frame[0] + 6, [](u8 b) { return b == 0xff; });
  add_statistic(broadcast ? kBptc : kMptc, 1);
}

/// Offloads of a whole frame (3.5). On the loop, without the lock.
void E1000::send(const Outgoing& out) {
  if (out.oversized || out.frame.empty()) return;
  auto put = [&](std::span<const u8> frame) {
    if (!out.vlan) return port_.send(frame);
    std::vector<u8> tagged(frame.begin(), frame.end());
    ethernet::insert_vlan_tag(tagged, ethernet::kTypeVlan, out.vlan_tag);
    port_.send(tagged);
  };
  if (out.large) {
    const Context& c = out.segmenting;
    const ethernet::LargeSegment large = {.ip = c.ipcss, .tcp = c.tucss, .header_bytes = c.header_bytes,
                                          .ipv6 = !(c.tucmd & kTucmdIp), .mss = c.mss};
    if (c.tucmd & kTucmdTcp) ethernet::segment(out.frame, large, put);
    return;
  }
  std::vector<u8> frame = out.frame;
  const Context& c = out.plain;
  auto end = [](u16 last) { return last ? last + size_t{1} : size_t{0}; };
  if (out.popts & kPoptsTxsm) ethernet::store_checksum(frame, c.tucss, c.tucso, end(c.tucse));
  if (out.popts & kPoptsIxsm) ethernet::store_checksum(frame, c.ipcss, c.ipcso, end(c.ipcse));
  if (out.wants_sum) ethernet::store_checksum(frame, out.sum_start, out.sum_offset, 0);
  put(frame);
}

}  // namespace atl::devices
