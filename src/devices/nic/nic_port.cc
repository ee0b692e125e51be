#include "devices/nic/nic_port.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "devices/nic/ethernet.h"

namespace atl::devices {

NicPort::NicPort(Card& card, net::Backend* backend, Loop& loop)
    : card_(card), backend_(backend), connected_(backend != nullptr), loop_(loop) {
  if (!backend_) return;
  backend_->set_offloads({});
  backend_->set_sink(this);
}

NicPort::~NicPort() {
  *alive_ = false;
  if (backend_) backend_->set_sink(nullptr);
}

void NicPort::post(std::function<void()> function) {
  loop_.post([alive = alive_, function = std::move(function)] {
    if (*alive) function();
  });
}

void NicPort::kick() {
  if (!kicked_.exchange(true)) post([this] { serve(); });
}

void NicPort::serve() {
  if (paused_) return;  // resume() looks again
  kicked_ = false;
  const bool more = card_.transmit();
  if (backend_) backend_->flush();
  if (more) kick();
}

void NicPort::resume_receive() {
  if (!blocked_.load() || !backend_) return;
  post([this] {
    if (!paused_ && blocked_.exchange(false)) backend_->resume_receive();
  });
}

void NicPort::set_link(bool up) {
  if (link_.exchange(up) != up) post([this] { card_.link_changed(link_up()); });
}

void NicPort::announce(const MacAddress& mac) {
  post([this, mac] {
    if (!link_up()) return;
    send(ethernet::announcement(mac));
    backend_->flush();
  });
}

void NicPort::send(std::span<const u8> frame) {
  if (!link_up() || frame.size() < ethernet::kHeaderBytes || frame.size() > ethernet::kMaxFrameBytes) return;
  static constexpr std::array<u8, std::max<size_t>(ethernet::kMinFrameBytes, net::kVnetHeaderBytes)> kZeros{};
  auto zeros = [](size_t bytes) { return iovec{const_cast<u8*>(kZeros.data()), bytes}; };
  std::array<iovec, 3> parts;
  size_t count = 0;
  if (backend_->has_vnet_header()) parts[count++] = zeros(net::kVnetHeaderBytes);
  parts[count++] = {const_cast<u8*>(frame.data()), frame.size()};
  if (frame.size() < ethernet::kMinFrameBytes) parts[count++] = zeros(ethernet::kMinFrameBytes - frame.size());
  backend_->send(std::span(parts).first(count));
}

bool NicPort::receive(std::span<const iovec> frame) {
  blocked_ = true;  // first, so that room made meanwhile is not missed
  if (paused_) return false;
  received_.clear();
  size_t skip = backend_->has_vnet_header() ? net::kVnetHeaderBytes : 0;
  for (const iovec& part : frame) {
    const size_t skipped = std::min(skip, part.iov_len);
    skip -= skipped;
    const u8* data = static_cast<const u8*>(part.iov_base);
    received_.insert(received_.end(), data + skipped, data + part.iov_len);
  }
  if (received_.size() < ethernet::kMinFrameBytes) received_.resize(ethernet::kMinFrameBytes);
  const bool taken = !link_up() || received_.size() > ethernet::kMaxFrameBytes || card_.receive_frame(received_);
  if (taken) blocked_ = false;
  return taken;
}

void NicPort::quiesce(std::function<void()> done) {
  post([this, done = std::move(done)] {
    paused_ = true;
    done();
  });
}

void NicPort::resume() {
  post([this] {
    paused_ = false;
    kicked_ = true;
    serve();
    if (backend_ && blocked_.exchange(false)) backend_->resume_receive();
  });
}

}  // namespace atl::devices
