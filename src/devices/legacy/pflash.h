// Parallel NOR flash with the Intel command set, 8 bits wide, blocks of 4 KiB, as the firmware chip of QEMU's boards:
// JEDEC JEP137B primary command set 1, JESD68.01 (CFI), command descriptions of Intel's 28F640 data sheet.
// Supported: array, status, identifier and CFI reads, byte and buffered programming, block erase, lock commands (no block is
//   ever locked), write protection of the whole chip. Reads of the array go to RAM directly.
// Missing: suspend, protection registers, status bits of voltage.
//
// Threads: registers from vCPU threads, under a mutex; changed blocks are written to the image on the loop.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/sync.h"
#include "base/task.h"
#include "block/node.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "memory/address_space.h"

namespace atl::devices {

class Pflash final : public Device, public BytePorts {
 public:
  static constexpr u64 kBlockBytes = 4096;

  struct Options {
    std::string name;                       // "system.flash0"
    GuestAddr base = 0;
    std::shared_ptr<memory::RamBlock> ram;  // the chip's contents
    bool readonly = false;
    bool secure = false;                    // only system management mode reaches the commands; others read the array
    block::Node* image = nullptr;           // where changes go; used on `loop`
    Loop* loop = nullptr;
  };
  static Result<std::unique_ptr<Pflash>> create(memory::AddressSpace& memory, Options options);
  ~Pflash() override;

  std::string_view type() const override { return "cfi.pflash01"; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override { return options_.name; }
  /// Waits until all changes are in the image.
  void quiesce(std::function<void()> done) override;

 private:
  enum class Mode : u8 { Array, Status, Identifier, Query };
  enum class Step : u8 { Command, Program, EraseConfirm, LockConfirm, BufferCount, BufferData, BufferConfirm };

  Pflash(memory::AddressSpace& memory, Options options);
  Status map();
  memory::Audience audience() const { return options_.secure ? memory::Audience::SmmOnly : memory::Audience::Both; }
  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  void write_command(u8 command) REQUIRES(mutex_);
  void write_argument(u64 offset, u8 value) REQUIRES(mutex_);
  void finish(u8 error) REQUIRES(mutex_);
  u8 failure(u8 error) const { return options_.readonly ? error : u8{0}; }
  void program(u64 offset, u8 value) REQUIRES(mutex_);
  void program_buffer() REQUIRES(mutex_);
  void erase(u64 offset) REQUIRES(mutex_);
  void changed(u64 offset) REQUIRES(mutex_);
  void enter(Mode mode) REQUIRES(mutex_);
  Task<bool> write_back();
  std::vector<u8> take_changed(u64& offset);

  memory::AddressSpace& memory_;
  const Options options_;
  memory::RegionId commands_ = 0, array_ = 0;  // `array_` is 0 while it is not mapped
  memory::RegionId public_ = 0;                // what others read if `secure`

  Mutex mutex_;
  Mode mode_ GUARDED_BY(mutex_) = Mode::Array;
  Step step_ GUARDED_BY(mutex_) = Step::Command;
  u8 status_ GUARDED_BY(mutex_) = 0;
  u16 expected_ GUARDED_BY(mutex_) = 0;   // bytes that the buffer still takes
  u64 buffer_at_ GUARDED_BY(mutex_) = 0;  // block that the buffer goes to
  std::vector<std::pair<u64, u8>> buffer_ GUARDED_BY(mutex_);
  std::set<u64> changed_ GUARDED_BY(mutex_);  // blocks to write to the image
  bool writing_ GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> waiting_ GUARDED_BY(mutex_);
};

}  // namespace atl::devices
