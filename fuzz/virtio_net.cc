// Frames and commands of a hostile driver, and frames from the network, through the network device.
// Input: a byte of options, then steps.
#include "devices/nic/virtio_net.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

constexpr u64 kRam = 256 * kKiB;

/// A network without sockets: what is sent comes back.
struct Mirror final : net::Backend {
  explicit Mirror(bool new_header) : header(new_header) {}
  void set_sink(net::FrameSink* new_sink) override { sink = new_sink; }
  bool send(std::span<const iovec> frame) override {
    std::vector<u8> copy;  // as a host does: the buffers of both directions may overlap
    for (const iovec& part : frame)
      copy.insert(copy.end(), static_cast<u8*>(part.iov_base), static_cast<u8*>(part.iov_base) + part.iov_len);
    iovec whole{copy.data(), copy.size()};
    return sink && sink->receive({&whole, 1});
  }
  void flush() override {
    if (sink) sink->received_batch();
  }
  void resume_receive() override {}
  bool has_vnet_header() const override { return header; }
  net::Offloads offloads() const override { return {.checksum = true, .tso4 = true, .tso6 = true}; }
  void set_offloads(const net::Offloads&) override {}
  std::string describe() const override { return "mirror"; }
  Loop& loop() override { return ::loop(); }
  bool header;
  net::FrameSink* sink = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  u8 options = in.byte();
  TestGuest guest(kRam);
  Mirror backend(options & 1);
  VirtioNet device({.mac = {0x52, 0x54, 0, 1, 2, 3}, .queue_size = 16}, &backend, loop(), guest.space());
  TestDriver driver(guest, device);
  u64 features = device.features();
  if (!(options & 2)) features &= ~virtio::kFeaturePacked;
  if (!(options & 4)) features &= ~virtio::kFeatureEventIdx;
  if (!(options & 8)) features &= ~(u64{1} << 15);
  driver.start(features, 16);
  for (int step = 0; step < 32 && !in.empty(); ++step) {
    u8 shape = in.byte();
    u16 index = shape % 3;
    std::vector<TestBuffer> buffers;
    for (int i = 0; i <= (shape >> 2 & 3); ++i) {
      GuestAddr at = in.word() * u64{4};
      u16 bytes = in.word();
      if (at < kRam) {
        auto content = in.bytes(std::min<u64>(in.byte(), kRam - at));
        std::copy(content.begin(), content.end(), guest.at(at));
      }
      buffers.push_back({at, bytes, index == 0 || (shape & 0x40 && i > 0)});
    }
    driver.queue(index).add(buffers, shape & 0x20);
    driver.kick(index);
  }
  driver.stop();
  return 0;
}
