// SCSI host: VIRTIO 1.2 section 5.6, in front of ScsiUnits.
//
// Supported: several request queues, command and data in both directions, REPORT LUNS, task management (there is nothing
// left to abort by the time it comes: it succeeds once the unit is idle), hot-plug and parameter-change events. Missing:
// protection information, priorities, asynchronous notification by the target.
//
// Threads: its loop, which is the units' too. attach_scsi() and detach_scsi() on the loop.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "devices/storage/scsi_unit.h"
#include "devices/virtio/device.h"

namespace atl::devices {

/// Where a unit is: target (scsi-id) and logical unit.
struct ScsiAddress {
  u8 target = 0;
  u16 lun = 0;
  auto operator<=>(const ScsiAddress&) const = default;
};

/// A controller with places for SCSI units.
class ScsiHost {
 public:
  static constexpr u8 kMaxTarget = 255;
  static constexpr u16 kMaxLun = 16383;
  virtual ~ScsiHost() = default;
  virtual ScsiUnit* scsi_unit(ScsiAddress at) = 0;
  /// The place is free. `announce`: the guest runs, and is told.
  virtual void attach_scsi(ScsiAddress at, std::unique_ptr<ScsiUnit> unit, bool announce) = 0;
  /// With the unit's requests ended.
  virtual void detach_scsi(ScsiAddress at) = 0;
};

struct VirtioScsiOptions {
  u16 queues = 1;  // of requests
  u16 queue_size = 256;
};

class VirtioScsi final : public VirtioDevice, public ScsiHost {
 public:
  VirtioScsi(VirtioScsiOptions options, Loop& loop, memory::AddressSpace& memory);
  ~VirtioScsi() override;

  ScsiUnit* scsi_unit(ScsiAddress at) override;
  void attach_scsi(ScsiAddress at, std::unique_ptr<ScsiUnit> unit, bool announce) override;
  void detach_scsi(ScsiAddress at) override;
  /// A unit's capacity has changed.
  void size_changed(ScsiAddress at);
  std::string describe() const override;

 private:
  struct Request {
    u16 queue = 0;
    Chain chain;
    scsi::Command command;
    ScsiUnit* unit = nullptr;
    u8 response = 0;
    u64 moved = 0, room = 0;   // bytes of data: moved, and what the driver gave room for
    bool parked = false;
  };
  using Requests = std::list<std::unique_ptr<Request>>;

  void serve(u16 index) override;
  void stopping() override;
  void reset_state() override;
  void visit(Archive& archive) override;

  void serve_control(Chain chain);
  void serve_events();
  void begin(u16 index, Chain chain);
  Detached run(Request* request);
  Task<Status> move_data(Request& request);
  void report_luns(Request& request, u8 target);
  void complete(Request* request);
  void send_event(u32 event, ScsiAddress at, u32 reason);
  std::vector<DiskIo*> media();
  void park_kept();
  void unpark();
  void notify_queues();

  std::map<ScsiAddress, std::unique_ptr<ScsiUnit>> units_;
  Requests requests_;            // under way
  bool event_missed_ = false;
  std::vector<bool> to_notify_;
  Loop::Deferred notify_;
};

}  // namespace atl::devices
