#include "devices/storage/floppy.h"

#include <algorithm>

namespace atl::devices {

namespace {

constexpr u32 kSector = 512;
constexpr u8 kSizeCode = 2;  // N: 128 << 2 bytes

// Digital output register.
constexpr u8 kNotReset = 0x04, kDmaGate = 0x08;
// Main status register.
constexpr u8 kRequest = 0x80, kToHost = 0x40, kBusy = 0x10;
// ST0 to ST3.
constexpr u8 kAbnormal = 0x40, kInvalid = 0x80, kSeekEnd = 0x20, kPolled = 0xc0;
constexpr u8 kEndOfCylinder = 0x80, kNoData = 0x04, kNotWritable = 0x02, kDataError = 0x20, kMissingMark = 0x01;
constexpr u8 kWrongCylinder = 0x10;
constexpr u8 kImpliedSeek = 0x40;  // CONFIGURE

constexpr FloppyGeometry kGeometries[] = {
    {160, 40, 1, 8, 1},  {180, 40, 1, 9, 1},   {320, 40, 2, 8, 1},   {360, 40, 2, 9, 1},
    {720, 80, 2, 9, 3},  {1200, 80, 2, 15, 2}, {1440, 80, 2, 18, 4}, {2880, 80, 2, 36, 5},
};

/// How many bytes each command has; the low five bits of most choose it (data sheet, table 5-1).
unsigned command_bytes(u8 opcode) {
  switch (opcode & 0x1f) {
    case 0x05: case 0x06: case 0x09: case 0x0c: case 0x02: return 9;
    case 0x0d: return 6;
    case 0x03: case 0x0f: return 3;
    case 0x04: case 0x07: case 0x0a: case 0x12: return 2;
    case 0x13: return 4;
    default: return 1;
  }
}

}  // namespace

// --- drives ---

void FloppyDrive::open_tray() { open_ = true; }

void FloppyDrive::close_tray() {
  if (open_.exchange(false)) changed_ = true;
}

void FloppyDrive::set_medium(block::Node* node) {
  io_.set_node(node);
  changed_ = true;
}

const FloppyGeometry* FloppyDrive::geometry() const {
  if (open_ || !io_.node()) return nullptr;
  const u64 size = io_.size_bytes();
  for (const FloppyGeometry& geometry : kGeometries)
    if (size == geometry.kib * kKiB) return &geometry;
  return nullptr;
}

u8 FloppyDrive::cmos_type() const {
  constexpr u8 k144 = 4;
  const FloppyGeometry* geometry = this->geometry();
  return geometry ? geometry->cmos_type : k144;
}

void FloppyDrive::step() {
  if (geometry()) changed_ = false;
}

// --- registers ---

FloppyController::~FloppyController() {
  {
    Lock lock(mutex_);
    ++epoch_;
  }
  for (DiskIo* io : media()) io->drop_kept();
}

std::vector<DiskIo*> FloppyController::media() {
  std::vector<DiskIo*> all;
  for (auto& drive : drives_)
    if (drive) all.push_back(&drive->medium_io());
  return all;
}

u8 FloppyController::read(u16 port) {
  Lock lock(mutex_);
  switch (port) {
    case 0x3f2: return output_;
    case 0x3f3: return tape_;
    case 0x3f4: return main_status();
    case 0x3f5: return read_fifo();
    case 0x3f7: {
      const unsigned unit = output_ & 3;
      return unit < kDrives && drives_[unit] && drives_[unit]->has_changed() ? 0x80 : 0x00;
    }
    default: return 0xff;
  }
}

void FloppyController::write(u16 port, u8 value) {
  Lock lock(mutex_);
  switch (port) {
    case 0x3f2: return write_output(value);
    case 0x3f3: tape_ = value & 3; return;
    case 0x3f4:
      rate_ = value & 3;
      if (value & 0x80) soft_reset();  // clears itself
      return;
    case 0x3f5: return write_fifo(value);
    case 0x3f7: rate_ = value & 3; return;
    default: return;
  }
}

void FloppyController::write_output(u8 value) {
  const u8 before = std::exchange(output_, value);
  if (!(value & kNotReset) && (before & kNotReset)) {
    ++epoch_;
    phase_ = Phase::Command;
    fifo_.clear();
    set_irq(false);
  } else if ((value & kNotReset) && !(before & kNotReset)) {
    soft_reset();
  }
}

/// 4.4: the controller polls its four drives, and interrupts.
void FloppyController::soft_reset() {
  ++epoch_;
  phase_ = Phase::Command;
  fifo_.clear();
  seek_interrupt_ = false;
  if (!locked_) configure_ = precompensation_ = 0;
  interrupts_ = 4;
  set_irq(true);
}

void FloppyController::set_irq(bool level) {
  irq_level_ = level;
  irq_.set(level && (output_ & kDmaGate));
}

u8 FloppyController::main_status() {
  if (!(output_ & kNotReset)) return 0;
  switch (phase_) {
    case Phase::Command: return static_cast<u8>(kRequest | (fifo_.empty() ? 0 : kBusy));
    case Phase::Busy: return kBusy;
    case Phase::Result: return kRequest | kToHost | kBusy;
  }
  return 0;
}

u8 FloppyController::read_fifo() {
  if (phase_ != Phase::Result || fifo_.empty()) return 0;
  const u8 value = fifo_.front();
  fifo_.erase(fifo_.begin());
  if (!fifo_.empty()) return value;
  set_irq(false);
  phase_ = Phase::Command;
  return value;
}

void FloppyController::write_fifo(u8 value) {
  if (phase_ != Phase::Command || !(output_ & kNotReset)) return;
  fifo_.push_back(value);
  if (fifo_.size() == command_bytes(fifo_[0])) execute();
}

void FloppyController::result(std::vector<u8> bytes) {
  fifo_ = std::move(bytes);
  phase_ = fifo_.empty() ? Phase::Command : Phase::Result;
}

/// Commands that need no disk are done at once.
void FloppyController::execute() {
  const std::vector<u8> command = std::exchange(fifo_, {});
  const u8 unit = command.size() > 1 ? command[1] & 3 : 0;
  FloppyDrive* drive = unit < kDrives ? drives_[unit].get() : nullptr;
  switch (command[0] & 0x1f) {
    case 0x05: case 0x06: case 0x09: case 0x0c: case 0x0d:
      fifo_ = command;
      return start_transfer();
    case 0x0a: fifo_ = command; return read_id();
    case 0x03: specify_[0] = command[1], specify_[1] = command[2]; return result({});
    case 0x04: {
      u8 st3 = static_cast<u8>(unit | (command[1] & 4) | 0x28);  // two sides, ready
      if (drive && drive->track == 0) st3 |= 0x10;
      if (drive && drive->write_protected()) st3 |= 0x40;
      return result({st3});
    }
    case 0x07: return seek_done(unit, 0);
    case 0x0f: return seek_done(unit, seek_target(command, drive));
    case 0x12: perpendicular_ = command[1]; return result({});
    case 0x13: configure_ = command[2], precompensation_ = command[3]; return result({});
    case 0x08: if (command[0] == 0x08) return sense_interrupt(); break;
    case 0x14: locked_ = command[0] & 0x80; return result({static_cast<u8>(locked_ ? 0x10 : 0)});
    case 0x0e:
      return result({drives_[0] ? drives_[0]->track : u8{0}, drives_[1] ? drives_[1]->track : u8{0}, 0, 0, specify_[0], specify_[1], 18,
                     static_cast<u8>((locked_ ? 0x80 : 0) | (perpendicular_ & 0x3f)), configure_, precompensation_});
    case 0x10: return result({0x90});  // 82077AA
    case 0x18: return result({0x41});  // part: 82078, 64 pins
    default: break;
  }
  result({kInvalid});
}

/// Data sheet, 5.2.7: with bit 7 set the track number counts from where the head is, inward with bit 6.
u8 FloppyController::seek_target(const std::vector<u8>& command, const FloppyDrive* drive) {
  constexpr u8 kRelative = 0x80, kInward = 0x40, kLastTrack = 79;
  const u8 tracks = command[2], now = drive ? drive->track : u8{0};
  if (!(command[0] & kRelative)) return tracks;
  if (command[0] & kInward) return static_cast<u8>(std::min<unsigned>(now + tracks, kLastTrack));
  return static_cast<u8>(now - std::min(now, tracks));
}

void FloppyController::seek_done(u8 unit, u8 track) {
  FloppyDrive* drive = unit < kDrives ? drives_[unit].get() : nullptr;
  if (drive && std::exchange(drive->track, track) != track) drive->step();
  seek_st0_ = static_cast<u8>(kSeekEnd | unit | (drive ? 0 : kAbnormal | 0x10));
  seek_track_ = track;
  seek_interrupt_ = true;
  result({});
  set_irq(true);
}

void FloppyController::sense_interrupt() {
  if (interrupts_) {
    const u8 unit = static_cast<u8>(4 - interrupts_--);
    set_irq(false);
    const u8 track = unit < kDrives && drives_[unit] ? drives_[unit]->track : 0;
    return result({static_cast<u8>(kPolled | unit), track});
  }
  if (!std::exchange(seek_interrupt_, false)) return result({kInvalid});
  set_irq(false);
  result({seek_st0_, seek_track_});
}

// --- transfers ---

void FloppyController::start_transfer() {
  auto transfer = std::make_shared<Transfer>();
  transfer->command = std::exchange(fifo_, {});
  const std::vector<u8>& c = transfer->command;
  const u8 kind = c[0] & 0x1f;
  transfer->epoch = epoch_;
  transfer->unit = c[1] & 3;
  transfer->head = c[1] >> 2 & 1;
  transfer->write = kind == 0x05 || kind == 0x09 || kind == 0x0d;
  if (kind != 0x0d) {
    transfer->multi_track = c[0] & 0x80;
    transfer->track = c[2];
    transfer->sector = c[4];
    transfer->last = c[6];
    FloppyDrive* drive = transfer->unit < kDrives ? drives_[transfer->unit].get() : nullptr;
    if (drive && (configure_ & kImpliedSeek)) drive->track = c[2];
  } else {
    FloppyDrive* drive = transfer->unit < kDrives ? drives_[transfer->unit].get() : nullptr;
    transfer->track = drive ? drive->track : 0;
  }
  if (specify_[1] & 1) transfer->st0 = kAbnormal, transfer->st1 = kNoData;  // programmed transfers are not offered
  phase_ = Phase::Busy;
  loop_.post([this, transfer] { move(transfer); });
}

/// READ ID answers with the head's place, if there is a readable track.
void FloppyController::read_id() {
  const u8 unit = fifo_[1] & 3, head = fifo_[1] >> 2 & 1;
  fifo_.clear();
  FloppyDrive* drive = unit < kDrives ? drives_[unit].get() : nullptr;
  const FloppyGeometry* geometry = drive ? drive->geometry() : nullptr;
  const bool found = geometry && drive->track < geometry->tracks && head < geometry->heads;
  const u8 st0 = static_cast<u8>(unit | head << 2 | (found ? 0 : kAbnormal));
  result({st0, found ? u8{0} : kMissingMark, 0, drive ? drive->track : u8{0}, head, 1, kSizeCode});
  set_irq(true);
}

/// What the medium says to the command's address.
void FloppyController::check(Transfer& t) const {
  const FloppyDrive* drive = t.unit < kDrives ? drives_[t.unit].get() : nullptr;
  const FloppyGeometry* geometry = drive ? drive->geometry() : nullptr;
  const bool formats = (t.command[0] & 0x1f) == 0x0d;
  if (!geometry) t.st1 |= kMissingMark;
  else if (t.write && drive->write_protected()) t.st1 |= kNotWritable;
  else if (t.head >= geometry->heads || t.track >= geometry->tracks) t.st1 |= kNoData;
  else if (formats) t.st1 |= t.command[2] == kSizeCode && t.command[3] == geometry->sectors ? 0 : kNoData;
  else if (t.sector == 0 || t.sector > geometry->sectors || t.command[5] != kSizeCode) t.st1 |= kNoData;
  else if (drive->track != t.track) t.st1 |= kNoData, t.st2 |= kWrongCylinder;
  if (t.st1) t.st0 |= kAbnormal;
}

Detached FloppyController::move(TransferPtr transfer) {
  Transfer& t = *transfer;
  check(t);
  if (!t.st0) {
    const FloppyGeometry geometry = *drives_[t.unit]->geometry();
    Status status;
    bool more = true;
    if ((t.command[0] & 0x1f) == 0x0d) {
      status = co_await format(t, geometry);
      more = false;
    }
    while (status && more) status = co_await move_run(t, geometry, more);
    if (!status) {
      t.st0 |= kAbnormal;
      t.st1 |= kDataError;
      t.st2 |= kDataError;
    }
  }
  complete(t);
}

/// The rest of one side of the track, as far as the DMA channel goes. Afterwards the address is that of the next sector.
Task<Status> FloppyController::move_run(Transfer& t, const FloppyGeometry& geometry, bool& more) {
  DiskIo& io = drives_[t.unit]->medium_io();
  const u8 end = std::min(t.last, geometry.sectors);
  const u64 wanted = dma_.available(kDmaChannel);
  const u64 sectors = std::min<u64>((wanted + kSector - 1) / kSector, end >= t.sector ? end - t.sector + 1u : 0u);
  more = false;
  if (sectors == 0) {
    t.st0 |= kAbnormal;
    t.st1 |= kNoData;
    co_return Status{};
  }
  const u64 offset = ((u64{t.track} * geometry.heads + t.head) * geometry.sectors + t.sector - 1) * kSector;
  std::vector<u8> buffer(sectors * kSector);
  const iovec block{buffer.data(), buffer.size()};
  bool done = false;
  Status status;
  if (t.write) {
    dma_.from_memory(kDmaChannel, buffer, done);
    status = co_await io.write(offset, {&block, 1});
  } else {
    status = co_await io.read(offset, {&block, 1});
    if (status) dma_.to_memory(kDmaChannel, buffer, done);
  }
  CO_TRY(std::move(status));
  t.sector = static_cast<u8>(t.sector + sectors);
  if (t.sector > end) {
    t.sector = 1;
    if (t.multi_track && t.head == 0 && geometry.heads == 2) {
      t.head = 1;
      more = !done;
    } else {
      if (t.multi_track) t.head = 0;
      ++t.track;
      if (!done) t.st0 |= kAbnormal, t.st1 |= kEndOfCylinder;
    }
  } else if (!done) {
    t.st0 |= kAbnormal;
    t.st1 |= kEndOfCylinder;
  }
  co_return Status{};
}

/// FORMAT TRACK: four bytes of address a sector come by DMA; each named sector is filled.
Task<Status> FloppyController::format(Transfer& t, const FloppyGeometry& geometry) {
  std::vector<u8> ids(size_t{4} * t.command[3]);
  bool done = false;
  dma_.from_memory(kDmaChannel, ids, done);
  std::vector<u8> fill(kSector, t.command[5]);
  const iovec block{fill.data(), fill.size()};
  for (size_t at = 0; at < ids.size(); at += 4) {
    const u8 sector = ids[at + 2];
    if (ids[at] != t.track || ids[at + 1] != t.head || sector == 0 || sector > geometry.sectors) continue;
    const u64 offset = ((u64{t.track} * geometry.heads + t.head) * geometry.sectors + sector - 1) * kSector;
    Status status = co_await drives_[t.unit]->medium_io().write(offset, {&block, 1});
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

void FloppyController::complete(const Transfer& t) {
  Lock lock(mutex_);
  if (t.epoch != epoch_) return;
  result({static_cast<u8>(t.st0 | t.unit | t.head << 2), t.st1, t.st2, t.track, t.head, t.sector, kSizeCode});
  set_irq(true);
}

// --- pause, reset, saved state ---

void FloppyController::quiesce(std::function<void()> done) {
  loop_.post([this, done = std::move(done)]() mutable { when_all_idle(media(), std::move(done)); });
}

void FloppyController::resume() {
  loop_.post([this] {
    for (DiskIo* io : media()) io->retry_kept();
  });
}

void FloppyController::reset() {
  {
    Lock lock(mutex_);
    ++epoch_;
    phase_ = Phase::Command;
    fifo_.clear();
    output_ = 0x0c;
    rate_ = tape_ = interrupts_ = seek_st0_ = seek_track_ = specify_[0] = specify_[1] = 0;
    configure_ = precompensation_ = perpendicular_ = 0;
    seek_interrupt_ = locked_ = false;
    set_irq(false);
  }
  for (auto& drive : drives_)
    if (drive) drive->track = 0;
  for (DiskIo* io : media()) io->drop_kept();
}

void FloppyController::visit(Archive& archive) {
  for (DiskIo* io : media())
    if (io->has_kept()) archive.fail("disk requests that failed are waiting for another try");
  Lock lock(mutex_);
  archive.field(1, "phase", phase_);
  archive.blob(2, "fifo", fifo_, 16);
  u8* const fields[] = {&output_, &rate_, &tape_, &interrupts_, &seek_st0_, &seek_track_, &specify_[0], &specify_[1], &configure_,
                        &precompensation_, &perpendicular_};
  u32 number = 3;
  for (u8* field : fields) archive.field(number++, "register", *field);
  archive.field(32, "seek_interrupt", seek_interrupt_);
  archive.field(33, "irq", irq_level_);
  archive.field(34, "locked", locked_);
  for (unsigned unit = 0; unit < kDrives; ++unit)
    if (drives_[unit]) archive.field(40 + unit, "track", drives_[unit]->track);
  if (!archive.loading()) return;
  const bool partial = phase_ == Phase::Command && (fifo_.empty() || fifo_.size() < command_bytes(fifo_[0]));
  if (!partial && !(phase_ == Phase::Result && !fifo_.empty())) {
    archive.fail("floppy controller in an impossible phase");
    phase_ = Phase::Command;
    fifo_.clear();
  }
  interrupts_ = std::min<u8>(interrupts_, 4);
  ++epoch_;
  set_irq(irq_level_);
}

}  // namespace atl::devices
