// A USB disk: Mass Storage Class, Bulk-Only Transport 1.0, in front of one SCSI unit.
// Supported: full and high speed, the thirteen cases of host and device wanting different amounts of data (6.7; more than the host
// wants is cut), reset recovery, removable media. Missing: SuperSpeed, several units, UAS.
//
// Threads: endpoints under the bus's mutex, commands on the loop of the unit's medium; what they share is under mutex_, and the
// command and its buffer belong to the loop while busy_.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "base/task.h"
#include "devices/device.h"
#include "devices/storage/scsi_unit.h"
#include "devices/usb/device.h"

namespace atl::devices::usb {

class Storage final : public UsbDevice {
 public:
  Storage(std::unique_ptr<ScsiUnit> unit, std::string serial);
  /// On the loop, with the unit's requests ended.
  ~Storage() override;

  std::string_view type() const override { return "usb-storage"; }
  std::string_view product() const override { return "QEMU USB MSD"; }
  bool supports(Speed speed) const override { return speed == Speed::Full || speed == Speed::High; }
  ScsiUnit& unit() { return *unit_; }
  /// What pauses and resumes with the machine; its state is the bus's to save.
  Device& pausable() { return pausable_; }

 private:
  enum class Phase : u8 { Command, DataIn, DataOut, Status, Broken };
  enum class Work : u8 { Begin, Fetch, Store };
  class Pausable final : public Device {
   public:
    explicit Pausable(Storage& owner) : owner_(owner) {}
    std::string_view type() const override { return "usb-storage"; }
    void reset() override;
    void visit(Archive&) override {}
    void quiesce(std::function<void()> done) override;
    void resume() override;

   private:
    Storage& owner_;
  };

  std::string text(u8 number) const override;
  Descriptors describe(Speed speed) const override;
  Outcome control(const Setup& setup, std::span<u8> data) override;
  Outcome data_in(u8 endpoint, std::span<u8> buffer) override;
  Outcome data_out(u8 endpoint, std::span<const u8> data) override;
  void reset_state() override;
  void visit_state(Archive& archive) override;

  Outcome take_command(std::span<const u8> block) REQUIRES(mutex_);
  Outcome take_data(std::span<const u8> data) REQUIRES(mutex_);
  Outcome give_data(std::span<u8> buffer) REQUIRES(mutex_);
  Outcome give_status(std::span<u8> buffer) REQUIRES(mutex_);
  void start(Work work) REQUIRES(mutex_);
  Detached run(Work work);
  void finished(Work work);
  void choose_phase() REQUIRES(mutex_);
  void forget() REQUIRES(mutex_);
  u64 left_in_buffer() const REQUIRES(mutex_) { return buffer_.size() - given_; }

  std::unique_ptr<ScsiUnit> unit_;
  const std::string serial_;
  Loop& loop_;
  Pausable pausable_{*this};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // loop

  Mutex mutex_;
  Phase phase_ GUARDED_BY(mutex_) = Phase::Command;
  bool busy_ GUARDED_BY(mutex_) = false;
  bool forgotten_ GUARDED_BY(mutex_) = false;  // a reset came while busy
  u32 tag_ GUARDED_BY(mutex_) = 0, host_bytes_ GUARDED_BY(mutex_) = 0;  // of the command block
  bool host_reads_ GUARDED_BY(mutex_) = false;
  u8 status_ GUARDED_BY(mutex_) = 0;
  u64 seen_ GUARDED_BY(mutex_) = 0;  // bytes that have crossed the bus
  u64 given_ GUARDED_BY(mutex_) = 0; // of the buffer, to the host

  // While busy_ the loop's, else under mutex_.
  scsi::Command command_;
  std::vector<u8> buffer_;
  u64 total_ = 0;  // bytes that the data phase moves to or from the unit
  u64 moved_ = 0;  // of these
};

}  // namespace atl::devices::usb
