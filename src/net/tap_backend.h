// A tap device (Documentation/networking/tuntap.rst of Linux), with offload headers where the kernel has them.
// Missing: several queues, vhost.
//
// Threads: its loop.
#pragma once

#include <memory>
#include <vector>

#include "base/fd.h"
#include "net/backend.h"

namespace atl::net {

class TapBackend final : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> create(Loop& loop, const TapOptions& options);
  ~TapBackend() override;

  void set_sink(FrameSink* sink) override;
  bool send(std::span<const iovec> frame) override;
  void resume_receive() override;
  bool has_vnet_header() const override { return vnet_header_; }
  Offloads offloads() const override { return offloads_; }
  void set_offloads(const Offloads& guest) override;
  std::string describe() const override;
  Loop& loop() override { return loop_; }

 private:
  TapBackend(Loop& loop, const TapOptions& options);
  Status open_device();
  Status adopt_descriptor();
  Status set_up_header();
  void probe_offloads();
  bool kernel_takes(unsigned offloads);
  void read_frames();
  bool offer(size_t bytes);
  void fail(std::string why);

  Loop& loop_;
  const TapOptions options_;
  std::string ifname_;
  Fd fd_;
  FrameSink* sink_ = nullptr;
  bool vnet_header_ = false;
  Offloads offloads_;
  bool down_due_ = false;            // the down script has work
  std::vector<u8> buffer_;
  size_t held_bytes_ = 0;            // a frame in buffer_ that the guest had no room for
  u64 dropped_ = 0;
  std::unique_ptr<Loop::Watch> watch_;
};

}  // namespace atl::net
