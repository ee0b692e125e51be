#include "devices/storage/ahci_port.h"

#include <algorithm>

#include "base/endian.h"
#include "block/iovecs.h"

namespace atl::devices {

using namespace ahci;
using ata::Protocol;

AhciPort::~AhciPort() {
  {
    Lock lock(mutex_);
    ++epoch_;
  }
  if (device_) device_->io().drop_kept();
}

void AhciPort::attach(std::unique_ptr<AtaDevice> device) {
  device_ = std::move(device);
  Lock lock(mutex_);
  show_signature();
}

// --- registers ---

u32 AhciPort::read(u32 offset) {
  Lock lock(mutex_);
  switch (offset) {
    case kPxClb: return clb_;
    case kPxClbu: return clbu_;
    case kPxFb: return fb_;
    case kPxFbu: return fbu_;
    case kPxIs: return is_;
    case kPxIe: return ie_;
    case kPxCmd: return cmd_;
    case kPxTfd: return tfd_;
    case kPxSig: return sig_;
    case kPxSsts: return device_ && (sctl_ & kSctlDetect) == 0 ? kLinkUp : 0;
    case kPxSctl: return sctl_;
    case kPxSerr: return serr_;
    case kPxSact: return sact_;
    case kPxCi: return ci_;
    default: return 0;
  }
}

void AhciPort::write(u32 offset, u32 value) {
  bool work = false;
  {
    Lock lock(mutex_);
    switch (offset) {
      case kPxClb: clb_ = value & ~0x3ffu; break;
      case kPxClbu: clbu_ = value; break;
      case kPxFb: fb_ = value & ~0xffu; break;
      case kPxFbu: fbu_ = value; break;
      case kPxIs: is_ &= ~value; break;
      case kPxIe: ie_ = value & kIeMask; break;
      case kPxCmd: write_command(value); break;
      case kPxSctl: write_control(value); break;
      case kPxSerr: serr_ &= ~value; break;
      case kPxSact:
        if (cmd_ & kCmdSt) sact_ |= value;
        break;
      case kPxCi:
        if (cmd_ & kCmdSt) ci_ |= value;
        work = ci_ & ~taken_;
        break;
      default: break;
    }
  }
  if (work) post_serve();
  if (offset == kPxIs || offset == kPxIe) interrupt_();
}

bool AhciPort::wants_interrupt() {
  Lock lock(mutex_);
  return is_ & ie_;
}

void AhciPort::write_command(u32 value) {
  const u32 before = cmd_;
  cmd_ = value & kCmdWritable;
  if (cmd_ & kCmdSt) cmd_ |= kCmdCr;
  if (cmd_ & kCmdFre) cmd_ |= kCmdFr;
  if (value & kCmdClo) tfd_ &= ~u32{ata::kBsy | ata::kDrq};
  if ((before & kCmdSt) && !(cmd_ & kCmdSt)) stop_commands();
  if (!(before & kCmdFre) && (cmd_ & kCmdFre) && device_) {
    ata::TaskFile regs;
    device_->put_signature(regs);
    write_d2h(regs);
  }
}

/// 5.3.2: what is under way is forgotten.
void AhciPort::stop_commands() {
  ci_ = sact_ = taken_ = 0;
  failed_ = false;
  ++epoch_;
  loop_.post([this] {
    running_ = 0;
    exclusive_ = false;
  });
}

/// DET: 1 holds the link in reset; COMRESET ends when it is 0 again (10.4.2).
void AhciPort::write_control(u32 value) {
  const u32 before = std::exchange(sctl_, value & 0xfff);
  if ((before & kSctlDetect) == 1 && (sctl_ & kSctlDetect) == 0 && device_) {
    tfd_ = ata::kBsy;
    stop_commands();
    post_device_reset();
  }
}

void AhciPort::post_device_reset() {
  loop_.post([this] {
    device_->io().drop_kept();
    device_->io().when_idle([this] {
      device_->reset();
      {
        Lock lock(mutex_);
        show_signature();
        serr_ |= kSerrExchanged;
        is_ |= kIsConnect;
      }
      interrupt_();
    });
  });
}

void AhciPort::show_signature() {
  if (!device_) return;
  ata::TaskFile regs;
  device_->put_signature(regs);
  sig_ = u32{regs.lba_high} << 24 | u32{regs.lba_mid} << 16 | u32{regs.lba_low} << 8 | regs.count;
  if (cmd_ & kCmdFre) write_d2h(regs);
}

void AhciPort::clear_registers() {
  stop_commands();
  clb_ = clbu_ = fb_ = fbu_ = is_ = ie_ = cmd_ = sctl_ = serr_ = 0;
  tfd_ = 0x7f;
  sig_ = ~u32{0};
}

void AhciPort::hba_reset() {
  {
    Lock lock(mutex_);
    clear_registers();
  }
  if (device_) post_device_reset();
}

// --- commands ---

void AhciPort::post_serve() {
  loop_.post([this] { serve(); });
}

/// Takes slots in turn. A command that is not queued runs alone.
void AhciPort::serve() {
  for (u32 slot = 0; slot < kSlots; ++slot) {
    {
      Lock lock(mutex_);
      if (failed_ || !(cmd_ & kCmdSt) || !(ci_ & ~taken_ & (1u << slot))) continue;
    }
    if (exclusive_ || !start_slot(slot)) return;
  }
}

/// False: it has to wait for those under way.
bool AhciPort::start_slot(u32 slot) {
  auto job = std::make_shared<Job>();
  {
    Lock lock(mutex_);
    job->header = list_base() + slot * kHeaderBytes;
    job->epoch = epoch_;
  }
  const auto memory = memory_.guest_memory();
  u8 header[kHeaderBytes] = {}, frame[20] = {};
  bool readable = memory->read(job->header, header);
  job->slot = slot;
  job->entries = load_le<u16>(&header[2]);
  job->table = load_le<u64>(&header[8]) & ~u64{0x7f};
  readable = readable && memory->read(job->table, frame);
  const bool is_command = readable && device_ && frame[0] == kFisH2d && (frame[1] & kFisCommand);
  if (!is_command) {
    control_frame(slot, readable && frame[0] == kFisH2d && (frame[15] & 4));
    return true;
  }
  ata::TaskFile& r = job->command.regs;
  r.command = frame[2], r.feature = frame[3], r.lba_low = frame[4], r.lba_mid = frame[5], r.lba_high = frame[6];
  r.device = frame[7], r.hob_low = frame[8], r.hob_mid = frame[9], r.hob_high = frame[10], r.hob_feature = frame[11];
  r.count = frame[12], r.hob_count = frame[13];
  job->queued = r.command == ata::kReadFpdma || r.command == ata::kWriteFpdma;
  if (!job->queued && running_) return false;
  {
    Lock lock(mutex_);
    taken_ |= 1u << slot;
    if (!job->queued) tfd_ = (tfd_ & 0xff00) | ata::kBsy;
    if (job->queued) ci_ &= ~(1u << slot), taken_ &= ~(1u << slot);
  }
  ++running_;
  exclusive_ = !job->queued;
  run(std::move(job));
  return true;
}

/// A frame with the device control register: SRST going low resets the device (SATA 3, 11.4).
void AhciPort::control_frame(u32 slot, bool reset_bit) {
  const bool ends = soft_reset_ && !reset_bit && device_;
  soft_reset_ = reset_bit;
  if (ends) device_->reset();
  {
    Lock lock(mutex_);
    ci_ &= ~(1u << slot);
    if (ends) {
      show_signature();
      is_ |= kIsD2h;
    }
  }
  interrupt_();
}

Detached AhciPort::run(JobPtr job) {
  ata::Command& command = job->command;
  device_->prepare(command);
  if (!command.failed() && command.protocol == Protocol::Packet) {
    write_packet_setup();
    if (!memory_.guest_memory()->read(job->table + kPacketAt, std::span(command.packet.cdb).first(ata::kPacketBytes))) command.abort();
    else device_->prepare_packet(command);
  }
  if (!command.failed() && command.protocol != Protocol::None) static_cast<void>(co_await move_data(*job));
  static_cast<void>(co_await device_->finish(command));
  complete(*job);
}

/// 4.2.3.3: entries of address and size less one.
bool AhciPort::gather(const Job& job, DmaList& list) const {
  const auto memory = memory_.guest_memory();
  for (u32 i = 0; i < job.entries && list.bytes() < job.command.bytes; ++i) {
    u8 entry[kPrdBytes];
    if (!memory->read(job.table + kTableHeader + u64{i} * kPrdBytes, entry)) return false;
    const u32 size = (load_le<u32>(&entry[12]) & 0x3fffff) + 1;
    if (!list.add(load_le<u64>(&entry[0]), size)) return false;
  }
  return true;
}

/// A packet's data may be cut short by its table; anything else must have room.
Task<Status> AhciPort::move_data(Job& job) {
  ata::Command& command = job.command;
  DmaList list(memory_.guest_memory(), command.to_host());
  if (!gather(job, list) || (list.bytes() < command.bytes && !command.is_packet)) {
    command.abort();
    co_return Status{};
  }
  job.moved = std::min(list.bytes(), command.bytes);
  const std::vector<iovec> buffers = block::iovec_slice(list.iovecs(), 0, job.moved);
  Status status = co_await device_->transfer(command, 0, buffers);
  list.wrote();
  co_return status;
}

/// 5.3.8 and 6.2.2: a failed command stays in PxCI (or PxSACT), and nothing more is taken until software stops the port.
void AhciPort::complete(Job& job) {
  {
    Lock lock(mutex_);
    if (job.epoch != epoch_) return;
    --running_;
    if (!job.queued) exclusive_ = false;
    u8 moved[4];
    store_le<u32>(moved, static_cast<u32>(job.moved));
    memory_.guest_memory()->write(job.header + 4, moved);
    const bool pio = job.command.protocol == Protocol::PioIn || job.command.protocol == Protocol::PioOut;
    if (job.queued) {
      write_set_device_bits(job);
    } else {
      if (pio && !job.command.failed()) write_pio_setup(job);
      write_d2h(job.command.regs);
      is_ |= kIsD2h;
      if (!job.command.failed()) {
        ci_ &= ~(1u << job.slot);
        taken_ &= ~(1u << job.slot);
      }
    }
    if (job.command.failed()) {
      is_ |= kIsTaskFileError;
      failed_ = true;
    }
  }
  interrupt_();
  serve();
}

void AhciPort::write_frame(u32 at, std::span<const u8> frame) {
  if (!(cmd_ & kCmdFre)) return;
  memory_.guest_memory()->write((u64{fbu_} << 32 | fb_) + at, frame);
}

/// Of the last block that was moved: there is one such frame a block (SATA 3, 10.5.11). Each interrupts but the one that asks for the
/// first block to a disk (11.9, DPIOO1).
void AhciPort::write_pio_setup(const Job& job) {
  const u64 block = std::max<u64>(job.command.block_bytes, 1), rest = job.moved % block;
  const u64 last = rest ? rest : std::min(job.moved, block);
  const bool interrupts = job.command.to_host() || job.command.is_packet || job.moved > block;
  if (interrupts) is_ |= kIsPioSetup;
  const u8 flags = static_cast<u8>((interrupts ? kFisInterrupt : 0) | (job.command.to_host() ? kFisToHost : 0));
  u8 setup[20] = {kFisPioSetup, flags, ata::kDrdy | ata::kDsc | ata::kDrq};
  setup[15] = job.command.regs.status;
  store_le<u16>(&setup[16], static_cast<u16>(last));
  write_frame(kPioSetupAt, setup);
}

/// Asks for a packet, which the controller has at hand.
void AhciPort::write_packet_setup() {
  u8 setup[20] = {kFisPioSetup, 0, ata::kDrdy | ata::kDsc | ata::kDrq};
  setup[12] = ata::kReasonCommand;
  setup[15] = ata::kDrdy | ata::kDsc;
  setup[16] = ata::kPacketBytes;
  Lock lock(mutex_);
  write_frame(kPioSetupAt, setup);
}

void AhciPort::write_d2h(const ata::TaskFile& r) {
  const u8 frame[20] = {kFisD2h, kFisInterrupt, r.status,  r.error,    r.lba_low, r.lba_mid, r.lba_high,
                        r.device, r.hob_low,     r.hob_mid, r.hob_high, 0,         r.count,   r.hob_count};
  write_frame(kD2hAt, frame);
  tfd_ = u32{r.error} << 8 | r.status;
}

void AhciPort::write_set_device_bits(const Job& job) {
  const ata::TaskFile& r = job.command.regs;
  const u32 tag = 1u << (r.count >> 3 & 31);
  u8 frame[8] = {kFisSetDeviceBits, kFisInterrupt, static_cast<u8>(r.status & 0x77), r.error};
  if (!job.command.failed()) {
    store_le<u32>(&frame[4], tag);
    sact_ &= ~tag;
  }
  write_frame(kSetDeviceBitsAt, frame);
  tfd_ = u32{r.error} << 8 | r.status;
  is_ |= kIsSetDeviceBits;
}

// --- reset and saved state ---

void AhciPort::reset() {
  {
    Lock lock(mutex_);
    clear_registers();
  }
  running_ = 0;
  exclusive_ = soft_reset_ = false;
  if (!device_) return;
  device_->io().drop_kept();
  device_->reset();
  Lock lock(mutex_);
  show_signature();
}

void AhciPort::visit(Archive& archive) {
  if (device_) archive.part(32, "device", [this](Archive& part) { device_->visit(part); });
  archive.field(1, "soft_reset", soft_reset_);
  Lock lock(mutex_);
  u32* const fields[] = {&clb_, &clbu_, &fb_, &fbu_, &is_, &ie_, &cmd_, &tfd_, &sig_, &sctl_, &serr_, &sact_, &ci_, &taken_};
  u32 number = 2;
  for (u32* field : fields) archive.field(number++, "register", *field);
  archive.field(number, "failed", failed_);
  if (!archive.loading()) return;
  clb_ &= ~0x3ffu;
  fb_ &= ~0xffu;
  ++epoch_;
  running_ = 0;
  exclusive_ = false;
}

}  // namespace atl::devices
