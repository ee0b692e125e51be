#include "devices/storage/ide_channel.h"

#include <algorithm>

#include "base/endian.h"
#include "block/iovecs.h"

namespace atl::devices {

using namespace ata;

namespace {

// Device control register.
constexpr u8 kNoInterrupt = 0x02, kSoftReset = 0x04, kHighOrder = 0x80;
// Bus master command and status.
constexpr u8 kStart = 0x01, kToMemory = 0x08;
constexpr u8 kActive = 0x01, kMasterError = 0x02, kMasterInterrupt = 0x04, kDmaCapable = 0x60;
constexpr u16 kEndOfTable = 0x8000;
constexpr unsigned kMaxEntries = 8192;  // of 64 KiB of table
constexpr size_t kMaxBlock = 64 * kKiB;

}  // namespace

IdeChannel::~IdeChannel() {
  {
    Lock lock(mutex_);
    job_ = nullptr;
  }
  for (DiskIo* io : media()) io->drop_kept();
}

void IdeChannel::attach(unsigned unit, std::unique_ptr<AtaDevice> device) {
  devices_[unit] = std::move(device);
  Lock lock(mutex_);
  put_signatures();
}

std::vector<DiskIo*> IdeChannel::media() {
  std::vector<DiskIo*> list;
  for (auto& device : devices_)
    if (device) list.push_back(&device->io());
  return list;
}

// --- registers ---

u64 IdeChannel::CommandBlock::bus_read(u64 offset, unsigned width) {
  Lock lock(owner_.mutex_);
  if (offset == 0) return owner_.read_data(width);
  u64 value = 0;
  for (unsigned i = 0; i < width; ++i) value |= u64{owner_.read_register(offset + i)} << (8 * i);
  return value;
}

void IdeChannel::CommandBlock::bus_write(u64 offset, u64 value, unsigned width) {
  Lock lock(owner_.mutex_);
  if (offset == 0) return owner_.write_data(value, width);
  for (unsigned i = 0; i < width; ++i) owner_.write_register(offset + i, static_cast<u8>(value >> (8 * i)));
}

/// A channel without devices floats low, as one with pull-down resistors does, and so does a missing second device.
u8 IdeChannel::read_register(u64 offset) {
  if (!is_present()) return 0;
  const TaskFile& r = regs();
  const bool high = control_ & kHighOrder;
  switch (offset) {
    case 1: return r.error;
    case 2: return high ? r.hob_count : r.count;
    case 3: return high ? r.hob_low : r.lba_low;
    case 4: return high ? r.hob_mid : r.lba_mid;
    case 5: return high ? r.hob_high : r.lba_high;
    case 6: return r.device | 0xa0;
    case 7: lower_irq(); return r.status;
    default: return 0;
  }
}

/// Both devices see what is written; a busy one only listens to commands that reset it.
void IdeChannel::write_register(u64 offset, u8 value) {
  control_ &= static_cast<u8>(~kHighOrder);
  if (offset == 7) return start_command(value);
  if (phase_ == Phase::Busy) return;
  for (TaskFile& r : regs_) {
    switch (offset) {
      case 1: r.hob_feature = std::exchange(r.feature, value); break;
      case 2: r.hob_count = std::exchange(r.count, value); break;
      case 3: r.hob_low = std::exchange(r.lba_low, value); break;
      case 4: r.hob_mid = std::exchange(r.lba_mid, value); break;
      case 5: r.hob_high = std::exchange(r.lba_high, value); break;
      case 6: r.device = value; break;
      default: break;
    }
  }
}

u8 IdeChannel::ControlBlock::read_byte(u64) {
  Lock lock(owner_.mutex_);
  return owner_.is_present() ? owner_.regs().status : 0;
}

void IdeChannel::ControlBlock::write_byte(u64, u8 value) { owner_.write_control(value); }

void IdeChannel::write_control(u8 value) {
  Lock lock(mutex_);
  const u8 before = std::exchange(control_, value);
  irq_line_.set(irq_ && !(control_ & kNoInterrupt));
  if ((value & kSoftReset) && !(before & kSoftReset)) {
    job_ = nullptr;
    phase_ = Phase::Busy;
    if (!(master_command_ & kStart)) master_status_ &= static_cast<u8>(~kActive);
    lower_irq();
    for (TaskFile& r : regs_) r.status = kBsy;
  }
  if (!(value & kSoftReset) && (before & kSoftReset)) loop_.post([this] { reset_devices(); });
}

/// The devices answer once what they were doing has ended.
void IdeChannel::reset_devices() {
  for (DiskIo* io : media()) io->drop_kept();
  when_all_idle(media(), [this] {
    for (auto& device : devices_)
      if (device) device->reset();
    Lock lock(mutex_);
    put_signatures();
    if (!job_ && phase_ == Phase::Busy) phase_ = Phase::Idle;
  });
}

void IdeChannel::put_signatures() {
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    if (devices_[unit]) devices_[unit]->put_signature(regs_[unit]);
    regs_[unit].device = 0;
  }
}

void IdeChannel::raise_irq() {
  if (!irq_) master_status_ |= kMasterInterrupt;
  irq_ = true;
  irq_line_.set(!(control_ & kNoInterrupt));
}

void IdeChannel::lower_irq() {
  irq_ = false;
  irq_line_.set(false);
}

/// Gives the job to the loop: the guest sees a busy device until a step there says otherwise.
void IdeChannel::hand_over(void (IdeChannel::*step)(JobPtr)) {
  phase_ = Phase::Busy;
  regs_[job_->unit].status = kBsy | kDrdy;
  loop_.post([this, step, job = job_] { (this->*step)(job); });
}

void IdeChannel::start_command(u8 opcode) {
  if (!is_present() || (control_ & kSoftReset)) return;
  const bool resets = opcode == kDeviceReset;
  if (phase_ == Phase::Busy && !resets) return;
  lower_irq();
  job_ = std::make_shared<Job>();
  job_->unit = static_cast<u8>(selected());
  job_->command.regs = regs();
  job_->command.regs.command = opcode;
  if (opcode == kDiagnostic)
    for (TaskFile& r : regs_) r.status = kBsy;
  hand_over(&IdeChannel::begin);
}

u64 IdeChannel::read_data(unsigned width) {
  if (phase_ != Phase::PioIn) return 0;
  Job& job = *job_;
  const auto step = static_cast<unsigned>(std::min<size_t>(width, job.buffer.size() - job.at));
  const u64 value = load_le_n(&job.buffer[job.at], step);
  job.at += step;
  if (job.at == job.buffer.size()) block_drained();
  return value;
}

void IdeChannel::write_data(u64 value, unsigned width) {
  if (phase_ != Phase::PioOut && phase_ != Phase::PacketOut) return;
  Job& job = *job_;
  const auto step = static_cast<unsigned>(std::min<size_t>(width, job.buffer.size() - job.at));
  store_le_n(&job.buffer[job.at], value, step);
  job.at += step;
  if (job.at == job.buffer.size()) block_filled();
}

/// A disk's last block ends the command without another interrupt; a packet command still has its status to give.
void IdeChannel::block_drained() {
  Job& job = *job_;
  if (job.position < job.command.bytes) return hand_over(&IdeChannel::run_block_in);
  if (job.command.is_packet) return hand_over(&IdeChannel::run_finish);
  regs_[job.unit] = job.command.regs;
  phase_ = Phase::Idle;
  job_ = nullptr;
}

void IdeChannel::block_filled() {
  if (phase_ == Phase::PioOut) return hand_over(&IdeChannel::run_block_out);
  std::copy_n(job_->buffer.begin(), kPacketBytes, job_->command.packet.cdb.begin());
  hand_over(&IdeChannel::packet_arrived);
}

// --- the bus master's registers ---

u8 IdeChannel::BusMaster::read_byte(u64 offset) {
  Lock lock(owner_.mutex_);
  switch (offset) {
    case 0: return owner_.master_command_;
    case 2: return owner_.master_status_;
    case 4: case 5: case 6: case 7: return static_cast<u8>(owner_.master_table_ >> (8 * (offset - 4)));
    default: return 0;
  }
}

void IdeChannel::BusMaster::write_byte(u64 offset, u8 value) {
  Lock lock(owner_.mutex_);
  if (offset == 0) owner_.write_master_command(value);
  if (offset == 2) {
    const u8 kept = owner_.master_status_ & static_cast<u8>(~(value & (kMasterError | kMasterInterrupt)) & ~kDmaCapable);
    owner_.master_status_ = static_cast<u8>(kept | (value & kDmaCapable));
  }
  if (offset < 4 || offset >= kMasterPorts) return;  // a wide access may begin inside and end behind
  const unsigned shift = 8 * static_cast<unsigned>(offset - 4);
  owner_.master_table_ = ((owner_.master_table_ & ~(0xffu << shift)) | u32{value} << shift) & ~3u;
}

void IdeChannel::write_master_command(u8 value) {
  const u8 before = std::exchange(master_command_, static_cast<u8>(value & (kStart | kToMemory)));
  const bool moves = phase_ == Phase::Busy && job_ && job_->started;
  if (!(value & kStart)) {
    if (!moves) master_status_ &= static_cast<u8>(~kActive);
    return;
  }
  if (before & kStart) return;
  master_status_ |= kActive;
  if (job_) job_->started = true;
  if (phase_ == Phase::DmaWait) hand_over(&IdeChannel::run_dma);
}

// --- commands, on the loop ---

void IdeChannel::begin(JobPtr job) {
  if (job->command.regs.command == kDiagnostic) return diagnose(job);
  device_of(*job).prepare(job->command);
  go_on(job);
}

void IdeChannel::diagnose(const JobPtr& job) {
  Lock lock(mutex_);
  if (job_ != job) return;
  put_signatures();
  job_ = nullptr;
  phase_ = Phase::Idle;
  raise_irq();
}

void IdeChannel::packet_arrived(JobPtr job) {
  device_of(*job).prepare_packet(job->command);
  go_on(job);
}

/// The data phase that the device has chosen.
void IdeChannel::go_on(JobPtr job) {
  if (job->command.failed()) return complete(job);
  switch (job->command.protocol) {
    case Protocol::None: finish(job); return;
    case Protocol::PioIn: read_block(job); return;
    case Protocol::PioOut: return offer_block(job);
    case Protocol::DmaIn:
    case Protocol::DmaOut: return await_dma(job);
    case Protocol::Packet: break;
  }
  Lock lock(mutex_);
  if (job_ != job) return;
  job->buffer.assign(kPacketBytes, 0);
  job->at = 0;
  phase_ = Phase::PacketOut;
  regs_[job->unit].status = kDrdy | kDsc | kDrq;
  regs_[job->unit].count = kReasonCommand;
}

/// DMA begins once both the device and the bus master have been told to.
void IdeChannel::await_dma(const JobPtr& job) {
  {
    Lock lock(mutex_);
    if (job_ != job) return;
    if (!(master_command_ & kStart) && !job->started) {
      phase_ = Phase::DmaWait;
      regs_[job->unit].status = kDrdy | kDsc | kDrq;
      return;
    }
  }
  move_by_dma(job);
}

Detached IdeChannel::read_block(JobPtr job) {
  const u64 size = std::min<u64>(job->command.block_bytes, job->command.bytes - job->position);
  job->buffer.assign(size, 0);
  job->at = 0;
  const iovec block{job->buffer.data(), size};
  static_cast<void>(co_await device_of(*job).transfer(job->command, job->position, {&block, 1}));
  if (job->command.failed()) {
    complete(job);
    co_return;
  }
  job->position += size;
  Lock lock(mutex_);
  if (job_ != job) co_return;
  TaskFile& r = regs_[job->unit];
  if (job->command.is_packet) {
    r.count = kReasonToHost;
    r.lba_mid = static_cast<u8>(size);
    r.lba_high = static_cast<u8>(size >> 8);
  }
  r.status = kDrdy | kDsc | kDrq;
  phase_ = Phase::PioIn;
  raise_irq();
}

/// Asks the host for a block. A disk's first one is expected without an interrupt.
void IdeChannel::offer_block(const JobPtr& job) {
  Lock lock(mutex_);
  if (job_ != job) return;
  const u64 size = std::min<u64>(job->command.block_bytes, job->command.bytes - job->position);
  job->buffer.assign(size, 0);
  job->at = 0;
  TaskFile& r = regs_[job->unit];
  if (job->command.is_packet) {
    r.count = 0;
    r.lba_mid = static_cast<u8>(size);
    r.lba_high = static_cast<u8>(size >> 8);
  }
  r.status = kDrdy | kDsc | kDrq;
  phase_ = Phase::PioOut;
  if (job->position > 0 || job->command.is_packet) raise_irq();
}

Detached IdeChannel::write_block(JobPtr job) {
  const iovec block{job->buffer.data(), job->buffer.size()};
  static_cast<void>(co_await device_of(*job).transfer(job->command, job->position, {&block, 1}));
  job->position += block.iov_len;
  if (job->command.failed()) complete(job);
  else if (job->position < job->command.bytes) offer_block(job);
  else finish(job);
}

/// Bus Master IDE 1.0, section 1.2: entries of address and size, 0 meaning 64 KiB.
IdeChannel::Room IdeChannel::gather(u32 table, u64 bytes, DmaList& list) const {
  const auto memory = memory_.guest_memory();
  for (unsigned i = 0; i < kMaxEntries && list.bytes() < bytes; ++i) {
    u8 entry[8];
    if (!memory->read(u64{table} + 8 * i, entry)) return Room::None;
    const u32 size = load_le<u16>(&entry[4]) & 0xfffe;
    if (!list.add(load_le<u32>(&entry[0]) & ~1u, size ? size : 0x10000)) return Room::None;
    if (!(load_le<u16>(&entry[6]) & kEndOfTable)) continue;
    return list.bytes() < bytes ? Room::TooLittle : list.bytes() == bytes ? Room::Exact : Room::More;
  }
  return list.bytes() < bytes ? Room::TooLittle : Room::More;
}

Detached IdeChannel::move_by_dma(JobPtr job) {
  u32 table = 0;
  {
    Lock lock(mutex_);
    if (job_ != job) co_return;
    phase_ = Phase::Busy;
    job->started = true;
    regs_[job->unit].status = kBsy | kDrdy;
    table = master_table_;
  }
  DmaList list(memory_.guest_memory(), job->command.to_host());
  const Room room = gather(table, job->command.bytes, list);
  if (room == Room::None || room == Room::TooLittle) {
    refuse_dma(job, room);
    co_return;
  }
  job->more_room = room == Room::More;
  const std::vector<iovec> buffers = block::iovec_slice(list.iovecs(), 0, job->command.bytes);
  static_cast<void>(co_await device_of(*job).transfer(job->command, 0, buffers));
  list.wrote();
  finish(job);
}

/// Nothing is moved. A table that ends before the command does leaves the host without an interrupt (section 3.1).
void IdeChannel::refuse_dma(const JobPtr& job, Room room) {
  if (room == Room::None) {
    job->command.abort();
    {
      Lock lock(mutex_);
      master_status_ |= kMasterError;
    }
    return complete(job);
  }
  Lock lock(mutex_);
  if (job_ != job) return;
  regs_[job->unit] = job->command.regs;
  job_ = nullptr;
  phase_ = Phase::Idle;
  master_status_ &= static_cast<u8>(~kActive);
}

Detached IdeChannel::finish(JobPtr job) {
  static_cast<void>(co_await device_of(*job).finish(job->command));
  complete(job);
}

void IdeChannel::complete(const JobPtr& job) {
  Lock lock(mutex_);
  if (job_ != job) return;
  regs_[job->unit] = job->command.regs;
  job_ = nullptr;
  phase_ = Phase::Idle;
  if (!job->more_room || !(master_command_ & kStart)) master_status_ &= static_cast<u8>(~kActive);
  raise_irq();
}

// --- reset and saved state ---

void IdeChannel::reset() {
  {
    Lock lock(mutex_);
    job_ = nullptr;
    phase_ = Phase::Idle;
    control_ = master_command_ = master_status_ = 0;
    master_table_ = 0;
    regs_ = {};
    lower_irq();
  }
  for (DiskIo* io : media()) io->drop_kept();
  for (auto& device : devices_)
    if (device) device->reset();
  Lock lock(mutex_);
  put_signatures();
}

void IdeChannel::visit(Archive& archive) {
  u32 number = 16;
  for (auto& device : devices_) {
    if (device) archive.part(number, "device", [&](Archive& part) { device->visit(part); });
    ++number;
  }
  Lock lock(mutex_);
  for (TaskFile& r : regs_) archive.part(number++, "registers", [&](Archive& part) { r.visit(part); });
  archive.field(1, "phase", phase_);
  archive.field(2, "control", control_);
  archive.field(3, "irq", irq_);
  archive.field(4, "master_command", master_command_);
  archive.field(5, "master_status", master_status_);
  archive.field(6, "master_table", master_table_);
  if (archive.loading()) job_ = phase_ == Phase::Idle ? nullptr : std::make_shared<Job>();
  if (job_) {
    auto& command = job_->command;
    archive.part(7, "command", [&command](Archive& part) { command.visit(part); });
    archive.field(8, "unit", job_->unit);
    archive.field(9, "position", job_->position);
    archive.blob(10, "buffer", job_->buffer, kMaxBlock);
    u64 at = job_->at;
    archive.field(11, "at", at);
    job_->at = at;
  }
  if (!archive.loading()) return;
  const bool moves = phase_ == Phase::PioIn || phase_ == Phase::PioOut || phase_ == Phase::PacketOut;
  bool sane = phase_ <= Phase::DmaWait && phase_ != Phase::Busy;
  if (sane && job_) sane = job_->unit < kUnits && devices_[job_->unit] && job_->position <= job_->command.bytes;
  if (sane && job_) sane = job_->command.block_bytes <= kMaxBlock;
  if (sane && moves) sane = job_->at < job_->buffer.size() && (job_->command.block_bytes > 0 || phase_ == Phase::PacketOut);
  if (sane && phase_ == Phase::PacketOut) sane = job_->buffer.size() == kPacketBytes;
  if (!sane) {
    archive.fail("IDE channel in an impossible phase");
    job_ = nullptr;
    phase_ = Phase::Idle;
  }
  irq_line_.set(irq_ && !(control_ & kNoInterrupt));
}

}  // namespace atl::devices
