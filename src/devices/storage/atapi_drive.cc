#include "devices/storage/atapi_drive.h"

#include "base/endian.h"
#include "base/math.h"
#include "block/iovecs.h"

namespace atl::devices {

using namespace ata;

namespace {

constexpr u8 kFeatureDma = 0x01;
constexpr u32 kMaxByteCount = 0xfffe;

ScsiUnitOptions unit_options(const AtapiDriveOptions& options) {
  ScsiUnitOptions unit;
  unit.kind = ScsiUnitOptions::Kind::Cd;
  unit.atapi = true;
  unit.vendor = options.model.substr(0, options.model.find(' '));
  unit.product = options.model.substr(std::min(options.model.size(), unit.vendor.size() + 1));
  unit.version = options.version;
  unit.serial = options.serial;
  unit.wwn = options.wwn;
  unit.readonly = true;
  unit.on_tray = options.on_tray;
  unit.io = options.io;
  return unit;
}

}  // namespace

AtapiDrive::AtapiDrive(Loop& loop, const AtapiDriveOptions& options)
    : serial_(options.serial), model_(options.model), version_(options.version), wwn_(options.wwn), unit_(loop, unit_options(options)) {}

void AtapiDrive::prepare(ata::Command& command) {
  command.regs.status = kDrdy | kDsc;
  command.regs.error = 0;
  switch (command.regs.command) {
    case kPacket:
      command.protocol = Protocol::Packet;
      command.is_packet = true;
      return;
    case kIdentifyPacket:
      command.data = identify_data();
      command.protocol = Protocol::PioIn;
      command.bytes = command.block_bytes = kSector;
      return;
    case kDeviceReset:
      reset();
      put_signature(command.regs);
      command.regs.status = 0;
      return;
    case kDiagnostic: return put_signature(command.regs);
    case kSetFeatures: return set_features(command);
    case 0xe5: command.regs.count = 0xff; return;
    case 0xe0: case 0xe1: case 0xe2: case 0xe3: case 0xe6: case 0xe7: return;
    case kIdentify: case 0x20:  // 9.12: such a command shows what is here
      put_signature(command.regs);
      return command.abort();
    default: return command.abort();
  }
}

void AtapiDrive::set_features(ata::Command& command) {
  const u8 count = command.regs.count;
  if (command.regs.feature != 0x03) return command.abort();
  if ((count >> 3) == 8 && (count & 7) <= 5) dma_mode_ = static_cast<u16>(1 << (count & 7));
  else if ((count >> 3) > 4) command.abort();
}

/// The packet decides how the data phase goes; the features register whether by DMA.
void AtapiDrive::prepare_packet(ata::Command& command) {
  unit_.prepare(command.packet);
  if (!command.packet.good()) return check_failed(command);
  command.bytes = command.packet.bytes;
  const bool dma = command.regs.feature & kFeatureDma, in = command.packet.direction == scsi::Command::Direction::FromDevice;
  if (command.packet.direction == scsi::Command::Direction::None) command.protocol = Protocol::None;
  else if (dma) command.protocol = in ? Protocol::DmaIn : Protocol::DmaOut;
  else command.protocol = in ? Protocol::PioIn : Protocol::PioOut;
  u32 limit = u32{command.regs.lba_mid} | u32{command.regs.lba_high} << 8;
  if (limit == 0 || limit > kMaxByteCount) limit = kMaxByteCount;
  command.block_bytes = std::max(limit & ~1u, 2u);
}

/// Sense key in the error register (ATA/ATAPI-7, 6.34).
void AtapiDrive::check_failed(ata::Command& command) {
  if (command.packet.good()) return;
  command.abort(static_cast<u8>(command.packet.sense.key << 4 | kAbrt));
  command.regs.count = kReasonCommand | kReasonToHost;
}

Task<Status> AtapiDrive::transfer(ata::Command& command, u64 offset, std::span<const iovec> buffers) {
  if (!command.is_packet) {
    const u64 size = block::iovec_bytes(buffers);
    if (!range_fits(offset, size, command.data.size())) command.abort();
    else block::iovec_copy_to(buffers, std::span(command.data).subspan(offset, size));
    co_return Status{};
  }
  Status status = co_await unit_.transfer(command.packet, offset, buffers);
  check_failed(command);
  co_return status;
}

Task<Status> AtapiDrive::finish(ata::Command& command) {
  if (!command.is_packet || command.failed()) co_return Status{};
  Status status = co_await unit_.finish(command.packet);
  command.regs.count = kReasonCommand | kReasonToHost;
  check_failed(command);
  co_return status;
}

void AtapiDrive::put_signature(TaskFile& regs) const {
  regs.error = regs.count = regs.lba_low = 1;
  regs.lba_mid = 0x14;
  regs.lba_high = 0xeb;
  regs.hob_count = regs.hob_low = regs.hob_mid = regs.hob_high = 0;
  regs.device &= kSecond;
  regs.status = 0;
}

/// ATA/ATAPI-7, 6.18.
std::vector<u8> AtapiDrive::identify_data() const {
  std::vector<u8> page(kSector);
  auto word = [&](unsigned index, u64 value) { store_le<u16>(&page[2 * index], static_cast<u16>(value)); };
  word(0, 0x85c0);  // CD-ROM, removable, DRQ within 50 us, 12-byte packets
  put_ata_text(std::span(page).subspan(20, 20), serial_);
  put_ata_text(std::span(page).subspan(46, 8), version_);
  put_ata_text(std::span(page).subspan(54, 40), model_);
  word(48, 1);
  word(49, 0x0b00);  // DMA, LBA, IORDY
  word(53, 0x0007);
  word(63, 0x0007);
  word(64, 0x0003);
  for (unsigned index = 65; index <= 68; ++index) word(index, 120);
  word(80, 0x00f0);
  word(82, 0x4210);  // NOP, DEVICE RESET, PACKET
  word(83, 0x4000);
  word(84, 0x4000 | (wwn_ ? 0x0100 : 0));
  word(85, 0x4210);
  word(87, 0x4000 | (wwn_ ? 0x0100 : 0));
  word(88, 0x003f | dma_mode_ << 8);
  word(93, 0x600b);
  for (unsigned i = 0; wwn_ && i < 4; ++i) word(108 + i, wwn_ >> (48 - 16 * i));
  return page;
}

void AtapiDrive::reset() {
  unit_.reset();
  dma_mode_ = 0x0004;
}

void AtapiDrive::visit(Archive& archive) {
  archive.field(1, "dma_mode", dma_mode_);
  archive.part(2, "unit", [this](Archive& part) { unit_.visit(part); });
}

}  // namespace atl::devices
