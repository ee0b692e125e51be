// One IDE channel with its bus master half: ATA/ATAPI-7 volume 2 (registers, PIO and DMA protocols) and the Bus Master IDE
// programming interface 1.0.
//
// Supported: two devices, PIO in and out, packet commands, bus-master DMA, software reset, diagnostics. Missing: what PRD
// tables must not do (it is an aborted command), device-side overlap.
//
// Threads: registers on vCPU threads, under the mutex; commands on the loop. A command that a reset has overtaken is
// forgotten: it may still end, but nobody looks.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "base/archive.h"
#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/legacy/byte_ports.h"
#include "devices/storage/ata.h"
#include "devices/storage/dma_list.h"
#include "memory/address_space.h"

namespace atl::devices {

class IdeChannel {
 public:
  static constexpr u16 kCommandPorts = 8, kControlPorts = 1, kMasterPorts = 8;
  static constexpr unsigned kUnits = 2;

  IdeChannel(Loop& loop, memory::AddressSpace& memory, cpu::IrqLine& irq) : loop_(loop), memory_(memory), irq_line_(irq) {}
  ~IdeChannel();

  memory::BusDevice& command_block() { return command_block_; }
  memory::BusDevice& control_block() { return control_block_; }
  memory::BusDevice& bus_master() { return bus_master_; }

  AtaDevice* device(unsigned unit) const { return devices_[unit].get(); }
  void attach(unsigned unit, std::unique_ptr<AtaDevice> device);
  /// The devices' media, for quiescing.
  std::vector<DiskIo*> media();

  // Control thread, quiesced.
  void reset();
  void visit(Archive& archive);

 private:
  enum class Phase : u8 { Idle, Busy, PioIn, PioOut, PacketOut, DmaWait };
  /// One command on its way. The loop's while the phase is Busy.
  struct Job {
    ata::Command command;
    u8 unit = 0;
    u64 position = 0;         // of the data phase: what is behind us
    std::vector<u8> buffer;   // the block that moves through the data port
    size_t at = 0;            // in `buffer`
    bool more_room = false;   // in the bus master's table than the command has data
    bool started = false;     // the bus master has been told to go: it ends what it began, even if it is stopped meanwhile
  };
  using JobPtr = std::shared_ptr<Job>;

  class CommandBlock final : public memory::BusDevice {
   public:
    explicit CommandBlock(IdeChannel& owner) : owner_(owner) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;

   private:
    IdeChannel& owner_;
  };
  class ControlBlock final : public BytePorts {
   public:
    explicit ControlBlock(IdeChannel& owner) : owner_(owner) {}

   private:
    u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    IdeChannel& owner_;
  };
  class BusMaster final : public BytePorts {
   public:
    explicit BusMaster(IdeChannel& owner) : owner_(owner) {}

   private:
    u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    IdeChannel& owner_;
  };

  // vCPU threads.
  u8 read_register(u64 offset) REQUIRES(mutex_);
  void write_register(u64 offset, u8 value) REQUIRES(mutex_);
  u64 read_data(unsigned width) REQUIRES(mutex_);
  void write_data(u64 value, unsigned width) REQUIRES(mutex_);
  void block_drained() REQUIRES(mutex_);
  void block_filled() REQUIRES(mutex_);
  void start_command(u8 opcode) REQUIRES(mutex_);
  void write_control(u8 value);
  void write_master_command(u8 value) REQUIRES(mutex_);
  bool is_present() REQUIRES(mutex_) { return devices_[selected()] != nullptr; }
  unsigned selected() REQUIRES(mutex_) { return regs_[0].device & ata::kSecond ? 1 : 0; }
  ata::TaskFile& regs() REQUIRES(mutex_) { return regs_[selected()]; }
  void hand_over(void (IdeChannel::*step)(JobPtr)) REQUIRES(mutex_);
  void raise_irq() REQUIRES(mutex_);
  void lower_irq() REQUIRES(mutex_);

  // Loop.
  void begin(JobPtr job);
  void packet_arrived(JobPtr job);
  void go_on(JobPtr job);
  void await_dma(const JobPtr& job);
  void offer_block(const JobPtr& job);
  void run_block_in(JobPtr job) { read_block(std::move(job)); }
  void run_block_out(JobPtr job) { write_block(std::move(job)); }
  void run_dma(JobPtr job) { move_by_dma(std::move(job)); }
  void run_finish(JobPtr job) { finish(std::move(job)); }
  Detached read_block(JobPtr job);
  Detached write_block(JobPtr job);
  Detached move_by_dma(JobPtr job);
  Detached finish(JobPtr job);
  void complete(const JobPtr& job);
  void diagnose(const JobPtr& job);
  void reset_devices();
  void put_signatures() REQUIRES(mutex_);
  /// What a bus master's table holds, measured by a command's data. None: it points outside RAM.
  enum class Room : u8 { None, TooLittle, Exact, More };
  Room gather(u32 table, u64 bytes, DmaList& list) const;
  void refuse_dma(const JobPtr& job, Room room);
  AtaDevice& device_of(const Job& job) { return *devices_[job.unit]; }

  Loop& loop_;
  memory::AddressSpace& memory_;
  cpu::IrqLine& irq_line_;
  CommandBlock command_block_{*this};
  ControlBlock control_block_{*this};
  BusMaster bus_master_{*this};
  std::array<std::unique_ptr<AtaDevice>, kUnits> devices_;

  Mutex mutex_;
  std::array<ata::TaskFile, kUnits> regs_ GUARDED_BY(mutex_);
  Phase phase_ GUARDED_BY(mutex_) = Phase::Idle;
  JobPtr job_ GUARDED_BY(mutex_);
  u8 control_ GUARDED_BY(mutex_) = 0;         // device control register
  bool irq_ GUARDED_BY(mutex_) = false;       // pending, whether the host masks it or not
  u8 master_command_ GUARDED_BY(mutex_) = 0, master_status_ GUARDED_BY(mutex_) = 0;
  u32 master_table_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
