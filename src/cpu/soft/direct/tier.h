// The tier above translated code: a core's user code, natively, in its helper. Where the helper stops for anything but a page that it
// may have, the core gets its registers and goes on as if it had interpreted up to there.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>

#include "cpu/soft/core.h"
#include "cpu/soft/direct/helper.h"
#include "cpu/soft/direct/mirror.h"
#include "cpu/soft/direct/policy.h"
#include "cpu/soft/direct/scan.h"
#include "cpu/soft/mmu/access.h"

namespace atl::soft::direct {

class Tier {
 public:
  /// Starts the helper. Before the process has secrets and is confined.
  static Result<std::unique_ptr<Tier>> create(Core& core);

  /// Runs the core's code until something else has to be done. False: not now.
  bool run() { return armed_ && run_armed(); }
  /// Whether code at `rip`, which translated code is about to go to, should be left to run().
  bool takes(u64 rip) const { return armed_ && core_.cpl == 3 && !declined_ && rip >> 12 != left_page_; }
  /// attention has got bits. Any thread.
  void kick() {
    if (running_.exchange(false, std::memory_order_seq_cst)) helper_->kick();
  }

  /// An interrupt came.
  void sample();
  /// What the TLB forgets, the mirror forgets.
  void space_switched(bool keep);
  void drop_space(u16 space);
  void drop_page(u16 space, u64 linear);
  void drop_all() { mirror_.drop_all(); }
  void drop_written_code() { mirror_.drop_written_code(core_.vm->code); }

  /// Every space, without waiting: for tests.
  void set_always() { always_ = armed_ = true; }
  void add_counters(cpu::Counters& out) const;
  pid_t helper() const { return helper_->pid(); }

 private:
  enum class Next : u8 { Again, Leave };

  Tier(Core& core, std::unique_ptr<Helper> helper);
  bool run_armed();
  Next enter();
  Next stopped(const SignalFrame& frame);
  Next page_fault(const SignalFrame& frame);
  bool map_page(u64 linear, Access access);
  void map_with_neighbours(u64 linear, const Backing& backing, u8 rights, u8 page_shift, Access access);
  bool present(u64 linear, Access access, PageMapping& page);
  u8 rights_of(u64 linear, const PageMapping& page, Access access);
  std::optional<Backing> backing_of(GuestAddr gpa);
  int file_of(const std::shared_ptr<memory::RamBlock>& block);
  void adjust_rip(const SignalFrame& frame);
  Next interpret(const SignalFrame& frame);
  void count_exit(u64& counter);
  void note_demotion();
  void arm();
  void disable();
  u64 root() const { return core_.cr3 & 0x000ffffffffff000; }
  bool reserved_pages_used();

  Core& core_;
  std::unique_ptr<Helper> helper_;
  Mirror mirror_;
  Policy policy_;
  Verdicts verdicts_;
  struct {
    u64 rip = ~u64{0}, linear = 0;
    Access access = Access::Read;
  } retry_;  // the instruction whose page fault the guest is handling
  std::map<std::shared_ptr<memory::RamBlock>, int> files_;
  std::shared_ptr<const memory::AddressMap> map_;
  u64 map_generation_ = 0;
  std::atomic<bool> running_{false};
  bool armed_ = false;
  bool always_ = false;
  bool declined_ = false;         // the last run() found the core in a state that a helper cannot be in
  u64 left_page_ = ~u64{0};       // translated code runs here, for the helper may not
  int space_ = -1;                // the mirror's
  struct {
    u64 entries = 0, faults = 0, maps = 0, system_calls = 0, kicks = 0, refused_pages = 0, others = 0, promotions = 0, demotions = 0, drops = 0;
  } stats_;
};

}  // namespace atl::soft::direct
