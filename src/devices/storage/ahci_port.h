// One port of an AHCI controller with its device: Serial ATA AHCI 1.3.1, chapters 3.3, 5 and 6.
//
// Supported: 32 slots, PIO, DMA and packet commands, NCQ with several commands at a time, soft reset, COMRESET, command list
// override, error recovery by stopping the port. Missing: port multipliers, power states, asynchronous notification.
//
// Threads: registers on vCPU threads, under the mutex; commands on the loop. Commands that a reset or a stop has overtaken
// may still end, but nobody looks.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/archive.h"
#include "base/sync.h"
#include "devices/storage/ahci_spec.h"
#include "devices/storage/ata.h"
#include "devices/storage/dma_list.h"
#include "memory/address_space.h"

namespace atl::devices {

class AhciPort {
 public:
  /// `interrupt` is called when PxIS and PxIE may have changed, without the port's lock held.
  AhciPort(Loop& loop, memory::AddressSpace& memory, std::function<void()> interrupt)
      : loop_(loop), memory_(memory), interrupt_(std::move(interrupt)) {}
  ~AhciPort();

  AtaDevice* device() const { return device_.get(); }
  void attach(std::unique_ptr<AtaDevice> device);

  // vCPU threads.
  u32 read(u32 offset);
  void write(u32 offset, u32 value);
  bool wants_interrupt();
  /// HBA reset: as COMRESET, and all registers.
  void hba_reset();

  /// Takes up commands that are still to be done. On the loop.
  void serve();
  // Control thread, quiesced.
  void reset();
  void visit(Archive& archive);

 private:
  struct Job {
    ata::Command command;
    u32 slot = 0, epoch = 0;
    bool queued = false;
    u64 header = 0, table = 0;   // guest addresses
    u16 entries = 0;             // of the PRD table
    u64 moved = 0;
  };
  using JobPtr = std::shared_ptr<Job>;

  void write_command(u32 value) REQUIRES(mutex_);
  void write_control(u32 value) REQUIRES(mutex_);
  void stop_commands() REQUIRES(mutex_);
  void post_serve();
  void post_device_reset();
  void clear_registers() REQUIRES(mutex_);
  void show_signature() REQUIRES(mutex_);
  u64 list_base() REQUIRES(mutex_) { return u64{clbu_} << 32 | clb_; }

  // Loop.
  bool start_slot(u32 slot);
  void control_frame(u32 slot, bool reset_bit);
  Detached run(JobPtr job);
  Task<Status> move_data(Job& job);
  bool gather(const Job& job, DmaList& list) const;
  void complete(Job& job);
  void write_frame(u32 at, std::span<const u8> frame) REQUIRES(mutex_);
  void write_pio_setup(const Job& job) REQUIRES(mutex_);
  void write_packet_setup() EXCLUDES(mutex_);
  void write_d2h(const ata::TaskFile& regs) REQUIRES(mutex_);
  void write_set_device_bits(const Job& job) REQUIRES(mutex_);

  Loop& loop_;
  memory::AddressSpace& memory_;
  const std::function<void()> interrupt_;
  std::unique_ptr<AtaDevice> device_;
  u32 running_ = 0;          // loop: jobs of this epoch
  bool exclusive_ = false;   // loop: one of them is not queued
  bool soft_reset_ = false;  // loop: SRST is set

  Mutex mutex_;
  u32 epoch_ GUARDED_BY(mutex_) = 0;  // of commands: a stop begins a new one
  u32 clb_ GUARDED_BY(mutex_) = 0, clbu_ GUARDED_BY(mutex_) = 0, fb_ GUARDED_BY(mutex_) = 0, fbu_ GUARDED_BY(mutex_) = 0;
  u32 is_ GUARDED_BY(mutex_) = 0, ie_ GUARDED_BY(mutex_) = 0, cmd_ GUARDED_BY(mutex_) = 0, tfd_ GUARDED_BY(mutex_) = 0x7f;
  u32 sig_ GUARDED_BY(mutex_) = ~u32{0}, sctl_ GUARDED_BY(mutex_) = 0, serr_ GUARDED_BY(mutex_) = 0;
  u32 sact_ GUARDED_BY(mutex_) = 0, ci_ GUARDED_BY(mutex_) = 0;
  u32 taken_ GUARDED_BY(mutex_) = 0;  // of ci_: under way, or failed
  bool failed_ GUARDED_BY(mutex_) = false;  // nothing is taken until software stops the port
};

}  // namespace atl::devices
