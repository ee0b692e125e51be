// The PC's two cascaded interrupt controllers: Intel 8259A datasheet, and the edge/level control registers (ELCR) of the
// 82371SB at 0x4d0 and 0x4d1.
//
// Supported: ICW1 to ICW4, masks, all EOI commands, rotation, special mask, poll, automatic EOI, special fully nested mode,
// level and edge inputs. Missing: buffered mode, MCS-80 mode (ignored).
//
// Threads: everything from any thread, under one lock. `on_output` is called without it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <string>

#include "base/archive.h"
#include "base/sync.h"
#include "memory/address_space.h"

namespace atl::soft {

/// One 8259A. Not locked: PicPair owns two and the lock.
class Pic8259 {
 public:
  explicit Pic8259(bool master) : master_(master) {}

  void set_line(u32 line, bool level);
  /// The master's line 2 shows the slave's output as it stands, latching nothing.
  void set_cascade(bool slave_output);
  bool output() const { return pending_line() >= 0; }
  bool waits(u32 line) const { return request_ & ~mask_ & 1u << line; }
  /// The line that INTA would answer with, or -1.
  int pending_line() const;
  /// INTA: moves the line into service. Returns its number, or 7 (spurious) if nothing is pending.
  u32 acknowledge();
  u8 vector(u32 line) const { return static_cast<u8>(vector_base_ + line); }

  u8 read_command();
  u8 read_mask() const { return mask_; }
  void write_command(u8 value);
  void write_data(u8 value);
  u8 elcr() const { return elcr_; }
  void set_elcr(u8 value);
  void reset();             // all but ELCR's writable bits come back as after power-on
  void visit(Archive& archive);
  std::string describe(u32 number) const;

 private:
  void start_initialization(u8 icw1);
  void command_ocw2(u8 value);
  void command_ocw3(u8 value);
  u32 rank(u8 lines) const; // highest priority: 0, none: 8

  bool master_;
  u8 request_ = 0, service_ = 0, mask_ = 0, levels_ = 0, elcr_ = 0;
  u8 vector_base_ = 0;
  u8 priority_add_ = 0;     // the line with highest priority
  u8 init_state_ = 0;       // 0: ready; 1 to 3: waits for ICW2 to ICW4
  bool init_four_words_ = false, single_ = false;
  bool read_service_ = false, poll_ = false, special_mask_ = false, auto_eoi_ = false, rotate_auto_ = false,
       special_nested_ = false;
};

class PicPair {
 public:
  /// `on_output(rising)` is called whenever something changed and the INTR pin is (or has become) active.
  /// `on_end()`: the guest ended an interrupt of the master.
  explicit PicPair(std::function<void(bool)> on_output, std::function<void()> on_end = {});

  void set_line(u32 irq, bool level) EXCLUDES(mutex_);
  int acknowledge() EXCLUDES(mutex_);
  /// Whether the line's request has not been acknowledged yet, nor masked.
  bool waits(u32 irq) const EXCLUDES(mutex_);
  bool output() const { return output_.load(std::memory_order_acquire); }  // INTR
  void reset() EXCLUDES(mutex_);
  void visit(Archive& archive) EXCLUDES(mutex_);
  std::string describe() const EXCLUDES(mutex_);

  memory::BusDevice& command_ports(bool slave) { return chip_ports_[slave]; }   // 0x20, 0xa0: two ports
  memory::BusDevice& elcr_ports() { return elcr_ports_; }                       // 0x4d0: two ports

 private:
  class ChipPorts final : public memory::BusDevice {
   public:
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    PicPair* pair = nullptr;
    u32 chip = 0;
  };
  class ElcrPorts final : public memory::BusDevice {
   public:
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    PicPair* pair = nullptr;
  };

  /// The slave's output is the master's line 2. Returns INTR.
  bool cascade() REQUIRES(mutex_);
  /// Works the cascade out after a change, and tells of INTR.
  void publish() EXCLUDES(mutex_);

  const std::function<void(bool)> on_output_;
  const std::function<void()> on_end_;
  mutable Mutex mutex_;
  std::array<Pic8259, 2> chips_ GUARDED_BY(mutex_);
  std::atomic<bool> output_{false};
  std::array<ChipPorts, 2> chip_ports_;
  ElcrPorts elcr_ports_;
};

}  // namespace atl::soft
