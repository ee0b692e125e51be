#include "devices/nic/virtio_net.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/core.h>

#include "base/endian.h"
#include "devices/nic/virtio_net_spec.h"

namespace atl::devices {

using namespace virtio_net;

namespace {

u64 backend_features(const net::Offloads& can) {
  return (can.checksum ? kFeatureCsum | kFeatureGuestCsum : 0) |
         (can.tso4 ? kFeatureHostTso4 | kFeatureGuestTso4 : 0) | (can.tso6 ? kFeatureHostTso6 | kFeatureGuestTso6 : 0) |
         (can.ecn ? kFeatureHostEcn | kFeatureGuestEcn : 0) | (can.ufo ? kFeatureHostUfo | kFeatureGuestUfo : 0);
}

u64 features_of(const VirtioNetOptions& options, net::Backend* backend) {
  u64 features = kFeatureMac | kFeatureStatus | kFeatureCtrlQueue | kFeatureCtrlRx | kFeatureCtrlRxExtra |
                 kFeatureCtrlVlan | kFeatureCtrlMac | kFeatureGuestAnnounce | kFeatureCtrlGuestOffloads;
  if (options.mergeable) features |= kFeatureMergeable;
  if (options.mtu) features |= kFeatureMtu;
  if (options.offloads && backend && backend->has_vnet_header()) features |= backend_features(backend->offloads());
  return features;
}

/// Copies `from` behind the first `skip` bytes of `to`. Both lists are walked once.
void copy_iovecs(std::span<const iovec> to, u64 skip, std::span<const iovec> from) {
  size_t part = 0;
  while (part < to.size() && skip >= to[part].iov_len) skip -= to[part++].iov_len;
  for (const iovec& source : from) {
    const u8* data = static_cast<const u8*>(source.iov_base);
    for (u64 left = source.iov_len; left > 0 && part < to.size();) {
      u64 count = std::min<u64>(left, to[part].iov_len - skip);
      std::memcpy(static_cast<u8*>(to[part].iov_base) + skip, data, count);
      data += count;
      left -= count;
      skip += count;
      if (skip == to[part].iov_len) ++part, skip = 0;
    }
  }
}

u64 total_bytes(std::span<const iovec> list) {
  u64 total = 0;
  for (const iovec& part : list) total += part.iov_len;
  return total;
}

/// The bytes of `list` from `skip` on, as iovecs.
void append_from(std::vector<iovec>& out, std::span<const iovec> list, u64 skip) {
  for (const iovec& part : list) {
    if (skip >= part.iov_len) {
      skip -= part.iov_len;
      continue;
    }
    out.push_back({static_cast<u8*>(part.iov_base) + skip, part.iov_len - skip});
    skip = 0;
  }
}

}  // namespace

VirtioNet::VirtioNet(VirtioNetOptions options, net::Backend* backend, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice({.device_id = virtio::kIdNet, .features = features_of(options, backend),
                    .queue_sizes = {options.queue_size, options.queue_size, kControlQueueSize},
                    .config_bytes = kConfigBytes},
                   loop, memory),
      options_(options),
      backend_(backend),
      backend_header_(backend && backend->has_vnet_header()),
      status_(backend ? kLinkUp : u16{0}) {
  std::array<u8, kConfigBytes> config{};
  std::ranges::copy(options_.mac, config.begin() + kConfigMac);
  store_le<u16>(&config[kConfigStatus], status_);
  store_le<u16>(&config[kConfigPairs], 1);
  store_le<u16>(&config[kConfigMtu], options_.mtu);
  set_config(0, config);
  filter_.own = options_.mac;
  if (backend_) backend_->set_sink(this);
}

VirtioNet::~VirtioNet() {
  if (backend_) backend_->set_sink(nullptr);
}

// Life cycle.

void VirtioNet::activated(u64 features) {
  if (!std::exchange(restored_, false)) {
    guest_offloads_ = features & kGuestOffloads;
    filter_.filter_vlans = features & kFeatureCtrlVlan;
  }
  apply_offloads();
  post([this] { resume_backend(); });
}

void VirtioNet::reset_state() {
  filter_ = {.own = options_.mac};
  guest_offloads_ = 0;
  restored_ = false;
  set_config(kConfigMac, options_.mac);
}

void VirtioNet::apply_offloads() {
  if (!backend_header_) return;
  u64 on = guest_offloads_;
  backend_->set_offloads({.checksum = (on & kFeatureGuestCsum) != 0,
                          .tso4 = (on & kFeatureGuestTso4) != 0,
                          .tso6 = (on & kFeatureGuestTso6) != 0,
                          .ufo = (on & kFeatureGuestUfo) != 0,
                          .ecn = (on & kFeatureGuestEcn) != 0});
}

void VirtioNet::set_link(bool up) { up ? change_status(kLinkUp, 0) : change_status(0, kLinkUp); }

void VirtioNet::announce() {
  change_status(kAnnounce, 0);
  post([this] { send_announcement(); });
}

void VirtioNet::send_announcement() {
  if (!backend_ || !(status_.load() & kLinkUp)) return;
  std::array<u8, net::kVnetHeaderBytes> header{};
  auto frame = ethernet::announcement(filter_.own);
  const std::array<iovec, 2> parts = {{{header.data(), header.size()}, {frame.data(), frame.size()}}};
  backend_->send(std::span(parts).subspan(backend_header_ ? 0 : 1));
  backend_->flush();
}

void VirtioNet::change_status(u16 set, u16 clear) {
  u16 before = status_.load(), after = 0;
  do after = static_cast<u16>((before & ~clear) | set);
  while (!status_.compare_exchange_weak(before, after));
  std::array<u8, 2> bytes{};
  store_le<u16>(bytes.data(), after);
  if (after != before) change_config(kConfigStatus, bytes);
}

void VirtioNet::visit(Archive& archive) {
  archive.field(1, "guest_offloads", guest_offloads_);
  archive.part(2, "filter", [this](Archive& part) { filter_.visit(part); });
  if (!archive.loading()) return;
  guest_offloads_ &= chosen_features() & kGuestOffloads;
  restored_ = true;
}

// Queues.

void VirtioNet::serve(u16 index) {
  if (index == kReceiveQueue) return resume_backend();
  if (index == kTransmitQueue) return transmit();
  Queue& queue = queue_at(index);
  while (auto chain = queue.pop()) {
    u8 result = control_command(*chain);
    u64 last = chain->writable_bytes();
    if (last == 0) continue;
    chain->write_object(last - 1, result);
    chain->add_written(last);
  }
  queue.notify();
}

void VirtioNet::transmit() {
  Queue& queue = queue_at(kTransmitQueue);
  while (auto chain = queue.pop()) send_chain(*chain);
  queue.notify();
  if (backend_) backend_->flush();
}

/// Legacy drivers know the count of buffers only if they can use several (5.1.6.1).
u32 VirtioNet::header_bytes() const {
  return chosen_features() & (virtio::kFeatureVersion1 | kFeatureMergeable) ? net::kVnetHeaderBytes : kHeaderBuffers;
}

/// A frame behind its header (5.1.6.2). What the back end cannot take is lost, as on a wire.
void VirtioNet::send_chain(const Chain& chain) {
  bool link_up = status_.load(std::memory_order_relaxed) & kLinkUp;
  const u32 skip = header_bytes();
  if (!backend_ || !link_up || chain.readable_bytes() <= skip) return;
  if (backend_header_ && skip == net::kVnetHeaderBytes) {
    backend_->send(chain.readable());
    return;
  }
  std::array<u8, net::kVnetHeaderBytes> header{};
  transmit_iovecs_.clear();
  if (backend_header_) {  // the driver's is shorter
    chain.read(0, std::span(header).first(skip));
    transmit_iovecs_.push_back({header.data(), header.size()});
  }
  append_from(transmit_iovecs_, chain.readable(), skip);
  backend_->send(transmit_iovecs_);
}

void VirtioNet::resume_backend() {
  if (running() && std::exchange(receive_blocked_, false)) backend_->resume_receive();
}

bool VirtioNet::receive(std::span<const iovec> frame) {
  if (!running()) {
    receive_blocked_ = true;
    return false;
  }
  if (!(status_.load(std::memory_order_relaxed) & kLinkUp) || !wanted(frame)) return true;
  refresh_memory();
  if (deliver(frame)) return true;
  receive_blocked_ = true;
  return false;
}

void VirtioNet::received_batch() { queue_at(kReceiveQueue).notify(); }

bool VirtioNet::wanted(std::span<const iovec> frame) const {
  if (filter_.promiscuous) return true;
  std::array<u8, net::kVnetHeaderBytes + kFilteredBytes> start;
  size_t filled = 0;
  for (const iovec& part : frame) {
    size_t count = std::min(part.iov_len, start.size() - filled);
    std::memcpy(&start[filled], part.iov_base, count);
    filled += count;
  }
  size_t skip = backend_header_ ? net::kVnetHeaderBytes : 0;
  if (filled < skip) return false;
  return filter_.passes(std::span<const u8>(start).subspan(skip, filled - skip));
}

bool VirtioNet::deliver(std::span<const iovec> frame) {
  u64 bytes = total_bytes(frame) - (backend_header_ ? net::kVnetHeaderBytes : 0) + header_bytes();
  if (!gather_buffers(bytes)) return false;
  if (!receive_chains_.empty()) fill_buffers(frame, bytes);
  receive_chains_.clear();
  return true;
}

/// Takes chains that hold `bytes`: one, or several if the driver chose mergeable buffers. No chains at all for a frame
/// that will never fit; false if there are too few now.
bool VirtioNet::gather_buffers(u64 bytes) {
  Queue& queue = queue_at(kReceiveQueue);
  bool mergeable = has(kFeatureMergeable);
  u64 room = 0;
  while (room < bytes) {
    auto chain = queue.pop();
    if (chain) {
      room += chain->writable_bytes();
      receive_chains_.push_back(std::move(*chain));
      bool fits = mergeable || room >= bytes;
      if (fits && receive_chains_.size() <= kMaxMergedBuffers) continue;
    }
    while (!receive_chains_.empty()) {
      queue.put_back(std::move(receive_chains_.back()));
      receive_chains_.pop_back();
    }
    if (chain) ++oversized_;
    return chain.has_value();
  }
  return true;
}

/// The frame behind the driver's form of the header; what the back end sent before it is used as far as it goes.
void VirtioNet::copy_frame(std::span<const iovec> frame) {
  const u32 own = header_bytes();
  if (backend_header_ && own == net::kVnetHeaderBytes) return copy_iovecs(receive_iovecs_, 0, frame);
  std::array<u8, net::kVnetHeaderBytes> header{};
  iovec bytes{header.data(), header.size()};
  if (backend_header_) copy_iovecs({&bytes, 1}, 0, frame);
  bytes.iov_len = own;
  copy_iovecs(receive_iovecs_, 0, {&bytes, 1});
  body_iovecs_.clear();
  append_from(body_iovecs_, frame, backend_header_ ? net::kVnetHeaderBytes : 0);
  copy_iovecs(receive_iovecs_, own, body_iovecs_);
}

void VirtioNet::fill_buffers(std::span<const iovec> frame, u64 bytes) {
  receive_iovecs_.clear();
  for (const Chain& chain : receive_chains_)
    receive_iovecs_.insert(receive_iovecs_.end(), chain.writable().begin(), chain.writable().end());
  copy_frame(frame);
  std::array<u8, 2> count{};
  store_le<u16>(count.data(), static_cast<u16>(receive_chains_.size()));
  if (header_bytes() > kHeaderBuffers) receive_chains_.front().write(kHeaderBuffers, count);
  for (Chain& chain : receive_chains_) {
    u64 part = std::min(bytes, chain.writable_bytes());
    chain.add_written(part);
    bytes -= part;
  }
}

std::string VirtioNet::describe() const {
  const MacAddress& m = options_.mac;
  return fmt::format("macaddr={:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5]);
}

}  // namespace atl::devices
