// The floppy disk controller of a PC with up to two drives: Intel 82077AA (data sheet 290166), as PC software uses it.
//
// Supported: DMA transfers (channel 2), READ, WRITE, FORMAT, READ ID, SEEK, RECALIBRATE, SENSE, SPECIFY, CONFIGURE, LOCK, DUMPREG,
// VERSION, PERPENDICULAR, multi-track, implied seek, the change line; 160 KB to 2.88 MB media, by the image's size. Missing:
// programmed transfers (ND in SPECIFY), SCAN and VERIFY commands, two drives more, tape.
//
// Threads: registers on vCPU threads, under the mutex; transfers on the loop.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "cpu/vm.h"
#include "devices/legacy/isa_dma.h"
#include "devices/storage/disk_io.h"
#include "devices/storage/removable.h"

namespace atl::devices {

struct FloppyGeometry {
  u32 kib = 0;
  u8 tracks = 0, heads = 0, sectors = 0;
  u8 cmos_type = 0;  // of the smallest drive that takes it
};

class FloppyDrive final : public RemovableDrive {
 public:
  FloppyDrive(Loop& loop, DiskIoOptions options, bool readonly) : io_(loop, std::move(options)), readonly_(readonly) {}

  bool is_removable() const override { return true; }
  bool tray_is_open() const override { return open_.load(); }
  bool is_locked() const override { return false; }
  void request_eject() override {}
  void open_tray() override;
  void close_tray() override;
  void set_medium(block::Node* node) override;
  DiskIo& medium_io() override { return io_; }

  /// Of the medium by its size; nullptr: none, or no floppy has that size.
  const FloppyGeometry* geometry() const;
  bool write_protected() const { return readonly_ || (io_.node() && io_.node()->info().readonly); }
  u8 cmos_type() const;
  bool has_changed() const { return changed_.load(); }
  /// A step pulse resets the change line if there is a medium.
  void step();

  u8 track = 0;

 private:
  DiskIo io_;
  const bool readonly_;
  std::atomic<bool> open_{false}, changed_{true};
};

class FloppyController final : public Device {
 public:
  static constexpr u16 kFirstPort = 0x3f2, kPorts = 4, kInputPort = 0x3f7;
  static constexpr u8 kIrq = 6;
  static constexpr unsigned kDmaChannel = 2, kDrives = 2;

  FloppyController(Loop& loop, IsaDma& dma, cpu::IrqLine& irq) : loop_(loop), dma_(dma), irq_(irq) {}
  ~FloppyController() override;

  memory::BusDevice& ports() { return ports_; }
  memory::BusDevice& input_port() { return input_; }
  FloppyDrive* drive(unsigned unit) const { return drives_[unit].get(); }
  void attach(unsigned unit, std::unique_ptr<FloppyDrive> drive) { drives_[unit] = std::move(drive); }

  std::string_view type() const override { return "isa-fdc"; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;
  void resume() override;

 private:
  enum class Phase : u8 { Command, Busy, Result };
  class Ports final : public BytePorts {
   public:
    Ports(FloppyController& owner, u16 base) : owner_(owner), base_(base) {}

   private:
    u8 read_byte(u64 offset) override { return owner_.read(static_cast<u16>(base_ + offset)); }
    void write_byte(u64 offset, u8 value) override { owner_.write(static_cast<u16>(base_ + offset), value); }
    FloppyController& owner_;
    const u16 base_;
  };
  /// Where a transfer goes on.
  struct Transfer {
    std::vector<u8> command;
    u8 unit = 0, track = 0, head = 0, sector = 0, last = 0;
    bool write = false, multi_track = false;
    u32 epoch = 0;
    u8 st0 = 0, st1 = 0, st2 = 0;
  };
  using TransferPtr = std::shared_ptr<Transfer>;

  u8 read(u16 port);
  void write(u16 port, u8 value);
  void write_output(u8 value) REQUIRES(mutex_);
  void write_fifo(u8 value) REQUIRES(mutex_);
  u8 read_fifo() REQUIRES(mutex_);
  u8 main_status() REQUIRES(mutex_);
  void execute() REQUIRES(mutex_);
  void result(std::vector<u8> bytes) REQUIRES(mutex_);
  static u8 seek_target(const std::vector<u8>& command, const FloppyDrive* drive);
  void seek_done(u8 unit, u8 track) REQUIRES(mutex_);
  void sense_interrupt() REQUIRES(mutex_);
  void set_irq(bool level) REQUIRES(mutex_);
  void soft_reset() REQUIRES(mutex_);
  void start_transfer() REQUIRES(mutex_);
  void read_id() REQUIRES(mutex_);

  Detached move(TransferPtr transfer);
  Task<Status> move_run(Transfer& transfer, const FloppyGeometry& geometry, bool& more);
  Task<Status> format(Transfer& transfer, const FloppyGeometry& geometry);
  void check(Transfer& transfer) const;
  void complete(const Transfer& transfer);
  std::vector<DiskIo*> media();

  Loop& loop_;
  IsaDma& dma_;
  cpu::IrqLine& irq_;
  Ports ports_{*this, kFirstPort}, input_{*this, kInputPort};
  std::array<std::unique_ptr<FloppyDrive>, kDrives> drives_;

  Mutex mutex_;
  Phase phase_ GUARDED_BY(mutex_) = Phase::Command;
  std::vector<u8> fifo_ GUARDED_BY(mutex_);  // command bytes as they come, result bytes as they go
  u32 epoch_ GUARDED_BY(mutex_) = 0;         // of transfers: a reset begins a new one
  u8 output_ GUARDED_BY(mutex_) = 0x0c, rate_ GUARDED_BY(mutex_) = 0, tape_ GUARDED_BY(mutex_) = 0;
  u8 interrupts_ GUARDED_BY(mutex_) = 0;     // polls of a reset that SENSE INTERRUPT has still to tell
  bool seek_interrupt_ GUARDED_BY(mutex_) = false, irq_level_ GUARDED_BY(mutex_) = false;
  u8 seek_st0_ GUARDED_BY(mutex_) = 0, seek_track_ GUARDED_BY(mutex_) = 0;
  u8 specify_[2] GUARDED_BY(mutex_) = {};
  u8 configure_ GUARDED_BY(mutex_) = 0, precompensation_ GUARDED_BY(mutex_) = 0, perpendicular_ GUARDED_BY(mutex_) = 0;
  bool locked_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
