#include "cpu/soft/irq/pic.h"

#include <bit>

#include "cpu/irqchip_text.h"

namespace atl::soft {

namespace {

// Initialization and operation command words, datasheet figures 7 and 8.
constexpr u8 kIcw1 = 0x10, kIcw1NeedsIcw4 = 1, kIcw1Single = 2;
constexpr u8 kIcw4AutoEoi = 2, kIcw4SpecialNested = 0x10;
constexpr u8 kOcw3 = 0x08;
constexpr u32 kCascadeLine = 2;
// Lines that the chipset wires edge-triggered: timer, keyboard, cascade; RTC, FPU.
constexpr std::array<u8, 2> kElcrWritable = {0xf8, 0xde};

}  // namespace

void Pic8259::set_line(u32 line, bool level) {
  auto bit = static_cast<u8>(1u << line);
  bool was = levels_ & bit;
  levels_ = static_cast<u8>(level ? levels_ | bit : levels_ & ~bit);
  if (elcr_ & bit) {
    request_ = static_cast<u8>(level ? request_ | bit : request_ & ~bit);
  } else if (level && !was) {
    request_ |= bit;
  }
}

void Pic8259::set_cascade(bool slave_output) {
  constexpr u8 bit = 1u << kCascadeLine;
  request_ = static_cast<u8>(slave_output ? request_ | bit : request_ & ~bit);
}

u32 Pic8259::rank(u8 lines) const {
  return lines ? static_cast<u32>(std::countr_zero(std::rotr(lines, priority_add_))) : 8;
}

int Pic8259::pending_line() const {
  if (init_state_ != 0) return -1;
  u32 best = rank(static_cast<u8>(request_ & ~mask_));
  if (best == 8) return -1;
  u8 blocking = service_;
  if (special_mask_) blocking &= static_cast<u8>(~mask_);
  // Special fully nested: the master goes on taking the slave's requests while one of the slave is in service.
  if (special_nested_ && master_) blocking &= static_cast<u8>(~(1u << kCascadeLine));
  if (best >= rank(blocking)) return -1;
  return static_cast<int>((best + priority_add_) & 7);
}

u32 Pic8259::acknowledge() {
  int line = pending_line();
  if (line < 0) return 7;
  auto bit = static_cast<u8>(1u << line);
  if (!auto_eoi_) {
    service_ |= bit;
  } else if (rotate_auto_) {
    priority_add_ = static_cast<u8>((line + 1) & 7);
  }
  if (!(elcr_ & bit)) request_ &= static_cast<u8>(~bit);
  return static_cast<u32>(line);
}

void Pic8259::write_command(u8 value) {
  if (value & kIcw1) {
    start_initialization(value);
  } else if (value & kOcw3) {
    command_ocw3(value);
  } else {
    command_ocw2(value);
  }
}

void Pic8259::start_initialization(u8 icw1) {
  request_ &= elcr_;  // edges are forgotten, levels stay
  service_ = mask_ = 0;
  priority_add_ = 0;
  read_service_ = poll_ = special_mask_ = auto_eoi_ = rotate_auto_ = special_nested_ = false;
  init_four_words_ = icw1 & kIcw1NeedsIcw4;
  single_ = icw1 & kIcw1Single;
  init_state_ = 1;
}

void Pic8259::command_ocw2(u8 value) {
  bool specific = value & 0x40, rotate = value & 0x80, eoi = value & 0x20;
  auto line = static_cast<u32>(value & 7);
  if (!eoi && !specific) {
    rotate_auto_ = rotate;
    return;
  }
  if (!eoi) {
    if (rotate) priority_add_ = static_cast<u8>((line + 1) & 7);  // set priority
    return;
  }
  if (!specific) {
    u32 best = rank(service_);
    if (best == 8) return;
    line = (best + priority_add_) & 7;
  }
  service_ &= static_cast<u8>(~(1u << line));
  if (rotate) priority_add_ = static_cast<u8>((line + 1) & 7);
}

void Pic8259::command_ocw3(u8 value) {
  if (value & 4) poll_ = true;
  if (value & 2) read_service_ = value & 1;
  if (value & 0x40) special_mask_ = value & 0x20;
}

void Pic8259::write_data(u8 value) {
  switch (init_state_) {
    case 0: mask_ = value; return;
    case 1:
      vector_base_ = value & 0xf8;
      init_state_ = single_ ? (init_four_words_ ? 3 : 0) : 2;
      return;
    case 2: init_state_ = init_four_words_ ? 3 : 0; return;  // which line cascades is wired
    default:
      special_nested_ = value & kIcw4SpecialNested;
      auto_eoi_ = value & kIcw4AutoEoi;
      init_state_ = 0;
  }
}

u8 Pic8259::read_command() {
  if (!poll_) return read_service_ ? service_ : request_;
  poll_ = false;
  if (pending_line() < 0) return 0;
  return static_cast<u8>(0x80 | acknowledge());
}

void Pic8259::set_elcr(u8 value) { elcr_ = value & kElcrWritable[!master_]; }

void Pic8259::reset() {
  u8 levels = levels_;
  *this = Pic8259(master_);
  levels_ = levels;
}

void Pic8259::visit(Archive& a) {
  a.field(1, "request", request_);
  a.field(2, "service", service_);
  a.field(3, "mask", mask_);
  a.field(4, "levels", levels_);
  a.field(5, "elcr", elcr_);
  a.field(6, "vector_base", vector_base_);
  a.field(7, "priority_add", priority_add_);
  a.field(8, "init_state", init_state_);
  a.field(9, "init_four_words", init_four_words_);
  a.field(10, "single", single_);
  a.field(11, "read_service", read_service_);
  a.field(12, "poll", poll_);
  a.field(13, "special_mask", special_mask_);
  a.field(14, "auto_eoi", auto_eoi_);
  a.field(15, "rotate_auto", rotate_auto_);
  a.field(16, "special_nested", special_nested_);
  if (!a.loading()) return;
  if (init_state_ > 3 || priority_add_ > 7) a.fail("PIC state out of range");
  priority_add_ &= 7;
  init_state_ &= 3;
}

std::string Pic8259::describe(u32 number) const {
  return cpu::describe_pic(number, {.request = request_,
                                    .mask = mask_,
                                    .service = service_,
                                    .highest_priority = priority_add_,
                                    .vector_base = vector_base_,
                                    .edge_level = elcr_,
                                    .read_service = read_service_,
                                    .special_nested = special_nested_});
}

// -- the pair ------------------------------------------------------------------------------------------------------------

PicPair::PicPair(std::function<void(bool)> on_output, std::function<void()> on_end)
    : on_output_(std::move(on_output)), on_end_(std::move(on_end)), chips_{Pic8259(true), Pic8259(false)} {
  for (u32 chip = 0; chip < 2; ++chip) {
    chip_ports_[chip].pair = this;
    chip_ports_[chip].chip = chip;
  }
  elcr_ports_.pair = this;
}

bool PicPair::cascade() {
  chips_[0].set_cascade(chips_[1].output());
  return chips_[0].output();
}

void PicPair::publish() {
  bool before = false, now = false;
  {
    Lock lock(mutex_);
    now = cascade();
    before = output_.exchange(now);  // under the lock, so that the last change wins
  }
  if (now) on_output_(!before);
}

void PicPair::set_line(u32 irq, bool level) {
  if (irq == kCascadeLine) return;  // taken by the slave
  {
    Lock lock(mutex_);
    chips_[irq / 8].set_line(irq % 8, level);
  }
  publish();
}

int PicPair::acknowledge() {
  u8 vector = 0;
  {
    Lock lock(mutex_);
    u32 line = chips_[0].acknowledge();
    vector = chips_[0].vector(line);
    if (line == kCascadeLine) vector = chips_[1].vector(chips_[1].acknowledge());
  }
  publish();
  return vector;
}

bool PicPair::waits(u32 irq) const {
  Lock lock(mutex_);
  return chips_[irq / 8].waits(irq % 8);
}

u64 PicPair::ChipPorts::bus_read(u64 offset, unsigned) {
  u8 value = 0;
  {
    Lock lock(pair->mutex_);
    Pic8259& pic = pair->chips_[chip];
    value = offset == 0 ? pic.read_command() : pic.read_mask();
  }
  pair->publish();  // a poll acknowledges
  return value;
}

void PicPair::ChipPorts::bus_write(u64 offset, u64 value, unsigned) {
  {
    Lock lock(pair->mutex_);
    Pic8259& pic = pair->chips_[chip];
    offset == 0 ? pic.write_command(static_cast<u8>(value)) : pic.write_data(static_cast<u8>(value));
  }
  pair->publish();
  constexpr u64 kOcwForm = 0x18, kOcw2End = 0x20;
  const bool ends = chip == 0 && offset == 0 && (value & (kOcwForm | kOcw2End)) == kOcw2End;
  if (ends && pair->on_end_) pair->on_end_();
}

u64 PicPair::ElcrPorts::bus_read(u64 offset, unsigned) {
  Lock lock(pair->mutex_);
  return pair->chips_[offset & 1].elcr();
}

void PicPair::ElcrPorts::bus_write(u64 offset, u64 value, unsigned) {
  {
    Lock lock(pair->mutex_);
    pair->chips_[offset & 1].set_elcr(static_cast<u8>(value));
  }
  pair->publish();
}

void PicPair::reset() {
  {
    Lock lock(mutex_);
    for (Pic8259& chip : chips_) chip.reset();
  }
  publish();
}

void PicPair::visit(Archive& archive) {
  {
    Lock lock(mutex_);
    Pic8259 &master = chips_[0], &slave = chips_[1];
    archive.part(1, "master", [&](Archive& a) { master.visit(a); });
    archive.part(2, "slave", [&](Archive& a) { slave.visit(a); });
  }
  if (archive.loading()) publish();
}

std::string PicPair::describe() const {
  Lock lock(mutex_);
  return chips_[1].describe(1) + chips_[0].describe(0);
}

}  // namespace atl::soft
