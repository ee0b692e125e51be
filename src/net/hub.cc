#include "net/hub.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/core.h>

namespace atl::net {
namespace {

constexpr u64 kMaxHeldBytes = 1 * kMiB;

size_t bytes_of(std::span<const iovec> frame) {
  size_t size = 0;
  for (const iovec& part : frame) size += part.iov_len;
  return size;
}

/// The frame's parts without its first bytes.
std::vector<iovec> without_front(std::span<const iovec> frame, size_t bytes) {
  std::vector<iovec> parts;
  for (iovec part : frame) {
    const size_t cut = std::min(bytes, part.iov_len);
    bytes -= cut;
    if (part.iov_len > cut) parts.push_back({static_cast<u8*>(part.iov_base) + cut, part.iov_len - cut});
  }
  return parts;
}

}  // namespace

/// To a card it is a back end; to the back end behind it, if there is one, it is the card.
class HubPort final : public Backend, private FrameSink {
 public:
  HubPort(Hub& hub, const HubPortOptions& options, Backend* held) : hub_(hub), options_(options), held_backend_(held) {
    hub_.ports_.push_back(this);
    if (!held_backend_) return;
    held_backend_->set_offloads({});
    held_backend_->set_sink(this);
  }
  ~HubPort() override {
    std::erase(hub_.ports_, this);
    if (held_backend_) held_backend_->set_sink(nullptr);
  }

  void set_sink(FrameSink* sink) override {
    sink_ = sink;
    waiting_.clear();
    waiting_bytes_ = 0;
  }
  bool send(std::span<const iovec> frame) override {
    hub_.forward(*this, frame);
    return true;
  }
  void flush() override { hub_.end_batch(*this); }
  void resume_receive() override;
  bool has_vnet_header() const override { return false; }
  Offloads offloads() const override { return {}; }
  void set_offloads(const Offloads&) override {}
  std::string describe() const override {
    return fmt::format("type=hubport,hubid={}{}", options_.hub, options_.netdev.empty() ? "" : ",netdev=" + options_.netdev);
  }
  Loop& loop() override { return hub_.loop_; }

  /// A frame from another port.
  void take(std::span<const iovec> frame);
  void batch_ended();

 private:
  // From the back end behind the port.
  bool receive(std::span<const iovec> frame) override;
  void received_batch() override { hub_.end_batch(*this); }

  Hub& hub_;
  const HubPortOptions options_;
  Backend* const held_backend_;
  FrameSink* sink_ = nullptr;
  std::deque<std::vector<u8>> waiting_;  // for a card without room
  u64 waiting_bytes_ = 0, dropped_ = 0;
};

bool HubPort::receive(std::span<const iovec> frame) {
  if (!held_backend_->has_vnet_header()) hub_.forward(*this, frame);
  else hub_.forward(*this, without_front(frame, kVnetHeaderBytes));
  return true;
}

void HubPort::take(std::span<const iovec> frame) {
  if (held_backend_) {
    std::array<u8, kVnetHeaderBytes> header{};
    std::vector<iovec> parts(frame.begin(), frame.end());
    if (held_backend_->has_vnet_header()) parts.insert(parts.begin(), {header.data(), header.size()});
    held_backend_->send(parts);
    return;
  }
  if (!sink_ || (waiting_.empty() && sink_->receive(frame))) return;
  const size_t size = bytes_of(frame);
  if (waiting_bytes_ + size > kMaxHeldBytes) {
    ++dropped_;
    return;
  }
  std::vector<u8> copy;
  copy.reserve(size);
  for (const iovec& part : frame) copy.insert(copy.end(), static_cast<u8*>(part.iov_base), static_cast<u8*>(part.iov_base) + part.iov_len);
  waiting_bytes_ += size;
  waiting_.push_back(std::move(copy));
}

void HubPort::batch_ended() {
  if (held_backend_) held_backend_->flush();
  else if (sink_) sink_->received_batch();
}

void HubPort::resume_receive() {
  while (sink_ && !waiting_.empty()) {
    const iovec part{waiting_.front().data(), waiting_.front().size()};
    if (!sink_->receive({&part, 1})) break;
    waiting_bytes_ -= waiting_.front().size();
    waiting_.pop_front();
  }
  if (sink_) sink_->received_batch();
}

std::unique_ptr<Backend> Hub::add_port(const HubPortOptions& options, Backend* held) {
  return std::make_unique<HubPort>(*this, options, held);
}

void Hub::forward(const HubPort& from, std::span<const iovec> frame) {
  for (HubPort* port : ports_)
    if (port != &from) port->take(frame);
}

void Hub::end_batch(const HubPort& from) {
  for (HubPort* port : ports_)
    if (port != &from) port->batch_ended();
}

}  // namespace atl::net
