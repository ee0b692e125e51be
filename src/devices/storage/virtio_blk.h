// Block device: VIRTIO 1.2 section 5.2, over one block node.
//
// Supported: several queues, read, write, flush, get-id, discard, write-zeroes, switchable write cache, read-only
// disks, topology, resize, and what happens when the host fails a request. Missing: lifetime, secure erase, zoned
// disks.
//
// Threads: its loop, which is the node's loop too.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/task.h"
#include "block/node.h"
#include "devices/storage/disk_io.h"
#include "devices/storage/virtio_blk_spec.h"
#include "devices/virtio/device.h"

namespace atl::devices {

struct VirtioBlkOptions {
  std::string serial;  // at most 20 bytes reach the guest
  u16 queues = 1;
  u16 queue_size = 256;
  u32 logical_block_bytes = 512;  // powers of two, 512 to 2 MiB; physical at least logical
  u32 physical_block_bytes = 512;
  u32 min_io_bytes = 0, opt_io_bytes = 0;
  bool discard = true, write_zeroes = true;
  bool config_wce = true;      // the driver may switch the write cache
  bool write_through = false;  // writes are on stable storage before they complete
  bool readonly = false;       // even if the node could be written
  block::ErrorPolicy read_error = block::ErrorPolicy::Report;
  block::ErrorPolicy write_error = block::ErrorPolicy::StopOnNoSpace;
  /// Told of each failed request, on the loop. With action Stop the request is kept: the machine must pause this device
  /// (quiesce), and it tries again at resume(). May be null.
  std::function<void(const BlockError&)> on_error;
};

class VirtioBlk final : public VirtioDevice {
 public:
  /// Names the option that does not fit ("logical_block_size").
  static Status check(const VirtioBlkOptions& options);
  /// `node` outlives the device; options have passed check().
  VirtioBlk(VirtioBlkOptions options, block::Node& node, Loop& loop, memory::AddressSpace& memory);
  ~VirtioBlk() override;

  /// The node was resized: tells the driver. On the loop.
  void size_changed();
  /// Whether requests wait for a pause and a resume.
  bool has_kept_requests() const { return !kept_.empty(); }
  std::string describe() const override;

 private:
  /// One request, from its header to its status byte. Everything is copied out of guest memory once, and then checked.
  struct Request {
    u16 queue = 0;
    bool retry = false;  // kept, and the pause has come: goes again at resume
    Chain chain;
    virtio_blk::Header header{};
    std::span<const iovec> data;  // in the chain, or in `cut`
    std::vector<iovec> cut;
    std::vector<virtio_blk::Segment> segments;
  };

  void serve(u16 index) override;
  void activated(u64 features) override;
  void stopping() override;
  void reset_state() override;
  void config_written(u32 offset, u32 size) override;
  void visit(Archive& archive) override;

  virtio_blk::Config make_config() const;
  u64 capacity_sectors() const;
  void set_write_cache(bool on);

  // Each of these gives the status byte of a request that must be refused, or kOk.
  u8 parse(Request& request);
  u8 parse_transfer(Request& request);
  u8 parse_segments(Request& request);
  u8 check_segment(u32 type, const virtio_blk::Segment& segment) const;

  void begin(Request request);
  void retry_kept(u16 index);
  void answer_id(Request& request);
  Detached run(Request request);
  Task<Status> operate(Request& request);
  Task<Status> change_segments(Request& request);
  void finish(Request request, const Status& status);
  void complete(Request& request, u8 status);
  void keep(Request request);
  void drop_kept();
  void notify_queues();

  const VirtioBlkOptions options_;
  block::Node& node_;
  const bool readonly_;
  bool write_cache_;             // false: each write is flushed before it completes
  std::vector<Request> kept_;    // failed, to be tried again at resume
  std::vector<bool> to_notify_;  // queues with completions in this turn
  Loop::Deferred notify_;
};

}  // namespace atl::devices
