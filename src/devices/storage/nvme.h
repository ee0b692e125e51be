// An NVMe controller with one namespace, PCI 1b36:0010: NVM Express 1.4.
//
// Supported: admin queue (identify, queues, features, abort, get log page, asynchronous events are held), up to 64 pairs of I/O
// queues in contiguous memory, PRP lists, read, write, flush, write zeroes, dataset management (deallocate), compare refused,
// FUA, shutdown, MSI-X and INTx. Missing: SGLs, several namespaces, formatting, firmware, metadata, the controller memory buffer.
//
// Threads: registers on vCPU threads, under the mutex, doorbells too; commands on the loop of the disk.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "devices/pci/device.h"
#include "devices/storage/disk_io.h"
#include "devices/storage/dma_list.h"

namespace atl::devices {

struct NvmeOptions {
  std::string serial = "nvme";
  std::string model = "ATOLL NVMe Ctrl";
  u32 block_bytes = 512;         // 512 to 4096, a power of two
  u16 io_queues = 64;            // pairs
  bool discard = true;
  bool readonly = false;
  DiskIoOptions io;
};

class Nvme final : public PciDevice {
 public:
  static constexpr u16 kMaxQueues = 65;  // with the admin queue

  static Result<std::unique_ptr<Nvme>> create(cpu::Vm& vm, NvmeOptions options, Loop& loop, memory::AddressSpace& memory);
  ~Nvme() override;

  DiskIo& io() { return io_; }
  PciFunction& function() override { return function_; }
  std::string_view type() const override { return "nvme"; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override;
  void quiesce(std::function<void()> done) override;
  void resume() override;
  /// The namespace has another size now. On the loop.
  void size_changed() {}

 private:
  /// BAR 0.
  class Registers final : public memory::BusDevice {
   public:
    explicit Registers(Nvme& owner) : owner_(owner) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;

   private:
    Nvme& owner_;
  };
  struct Submission {
    bool valid = false;
    u64 base = 0;
    u32 size = 0, head = 0, tail = 0;
    u16 completion = 0;
  };
  struct Completion {
    bool valid = false, interrupts = false, phase = true;
    u64 base = 0;
    u32 size = 0, head = 0, tail = 0;
    u16 vector = 0;
  };
  struct Command {
    std::array<u8, 64> bytes{};
    u16 queue = 0;
    u32 epoch = 0;
    u32 result = 0;          // dword 0 of the completion
    u16 status = 0;          // without the phase
    u8 opcode() const { return bytes[0]; }
    u16 id() const;
    u32 namespace_id() const { return dword(1); }
    u32 dword(unsigned index) const;
    u64 qword(unsigned index) const;  // of dwords index and index + 1
  };
  using CommandPtr = std::shared_ptr<Command>;

  Nvme(NvmeOptions options, Loop& loop, memory::AddressSpace& memory);

  u32 read_register(u32 offset) REQUIRES(mutex_);
  void write_register(u32 offset, u32 value) REQUIRES(mutex_);
  void write_configuration(u32 value) REQUIRES(mutex_);
  void write_doorbell(u32 index, u32 value) REQUIRES(mutex_);
  void clear() REQUIRES(mutex_);

  // Loop.
  void serve();
  bool take_one(u16 queue);
  Detached run(CommandPtr command);
  void complete(const Command& command);
  Task<Status> run_io(Command& command);
  Task<Status> transfer(Command& command, bool write);
  Task<Status> deallocate(Command& command);
  void run_admin(Command& command);
  void identify(Command& command);
  void create_completion_queue(Command& command);
  void create_submission_queue(Command& command);
  void delete_queue(Command& command, bool submission);
  void features(Command& command, bool set);
  void log_page(Command& command);
  void reply(Command& command, std::span<const u8> data);
  bool gather(const Command& command, u64 bytes, DmaList& list) const;
  u64 blocks() const { return io_.size_bytes() / options_.block_bytes; }
  bool range_ok(Command& command, u64 lba, u64 count) const;
  void fail_host(Command& command, const Status& status) const;
  void update_intx() REQUIRES(mutex_);

  const NvmeOptions options_;
  Loop& loop_;
  memory::AddressSpace& memory_;
  DiskIo io_;
  Registers registers_{*this};
  PciFunction function_;

  Mutex mutex_;
  u32 epoch_ GUARDED_BY(mutex_) = 0;
  u32 configuration_ GUARDED_BY(mutex_) = 0, status_ GUARDED_BY(mutex_) = 0, masked_ GUARDED_BY(mutex_) = 0;
  u32 admin_sizes_ GUARDED_BY(mutex_) = 0;
  u64 admin_submission_ GUARDED_BY(mutex_) = 0, admin_completion_ GUARDED_BY(mutex_) = 0;
  std::array<Submission, kMaxQueues> submissions_ GUARDED_BY(mutex_);
  std::array<Completion, kMaxQueues> completions_ GUARDED_BY(mutex_);
  u32 coalescing_ GUARDED_BY(mutex_) = 0, event_mask_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
