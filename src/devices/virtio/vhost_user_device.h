// A virtio device whose queues another process serves (vhost-user): a shared file system (VIRTIO 1.2 section 5.11) with virtiofsd, a
// NIC (5.1) with a switch. The guest's requests go through shadow rings (shadow_ring.h) to the back end, which reads and writes the
// guest's RAM itself. A back end that hangs up or breaks the protocol ends the device (NEEDS_RESET), not the machine.
// Missing: saved state of the back end, reconnection, buffers outside of the machine's RAM (such as in screen memory), multi-queue
// NICs and their control queue, DAX.
//
// Threads: its loop, which must serve nobody else: calls to the back end wait. set_link() any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/mapping.h"
#include "devices/virtio/device.h"
#include "devices/virtio/shadow_ring.h"
#include "devices/virtio/vhost_user.h"

namespace atl::devices {

/// A device's kind, whatever serves it.
struct VhostUserShape {
  u16 device_id = 0;
  u64 own_features = 0;        // that need nothing of the back end
  u64 passed_features = 0;     // offered if the back end has them
  std::vector<u16> queue_sizes = {};
  std::vector<u8> config = {};      // what the driver reads
  u32 status_at = ~u32{0};     // NIC: place of the link's status in `config`
  bool keeps_state = false;    // the back end has state that ends with it
};
/// 5.11: `tag` names the file system, at most 36 bytes.
VhostUserShape vhost_user_fs(std::string_view tag, u32 request_queues, u16 queue_size);
/// 5.1: `mtu` 0 is not told.
VhostUserShape vhost_user_net(std::span<const u8, 6> mac, u16 mtu, u16 queue_size, bool mergeable);

class VhostUserDevice final : public VirtioDevice {
 public:
  /// `ram` is the machine's RAM, shared. On the loop's thread or before it runs.
  static Result<std::unique_ptr<VhostUserDevice>> create(VhostUserShape shape, std::unique_ptr<VhostUser> back_end,
                                                         std::shared_ptr<memory::RamBlock> ram, Loop& loop,
                                                         memory::AddressSpace& memory);
  ~VhostUserDevice() override;

  void set_link(bool up);
  std::string describe() const override;

 private:
  VhostUserDevice(VhostUserShape shape, std::unique_ptr<VhostUser> back_end, std::shared_ptr<memory::RamBlock> ram, Loop& loop,
                  memory::AddressSpace& memory);
  Status build();
  void serve(u16 index) override;
  void activated(u64 features) override;
  void stopping() override;
  void visit(Archive& archive) override;

  bool start_rings();
  Status start_all();
  void stop_rings();
  void finished(u16 index);
  void socket_event();
  /// Whether all of it is memory that the back end can see.
  bool reaches(const Chain& chain) const;
  void lose(const std::string& why);

  const VhostUserShape shape_;
  std::unique_ptr<VhostUser> back_end_;
  const std::shared_ptr<memory::RamBlock> ram_;
  Fd ring_file_;
  Mapping ring_memory_;
  std::vector<std::unique_ptr<ShadowRing>> rings_;
  std::vector<std::unique_ptr<Loop::Watch>> call_watches_;
  std::unique_ptr<Loop::Watch> socket_watch_;
  bool started_ = false, gone_ = false;
  bool link_ = true;
};

}  // namespace atl::devices
