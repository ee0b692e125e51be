#include "devices/storage/ata_disk.h"

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "base/math.h"
#include "block/iovecs.h"

namespace atl::devices {

using namespace ata;

namespace {

constexpr u8 kMaxMultiple = 16;
constexpr u32 kMaxLogBytes = 64 * kKiB;
constexpr u64 kMaxLba28 = 0x0fffffff;
constexpr u8 kNoTag = 0x80;

u64 lba28(const TaskFile& r) {
  return u64{r.lba_low} | u64{r.lba_mid} << 8 | u64{r.lba_high} << 16 | u64{r.device & 0xfu} << 24;
}
u64 lba48(const TaskFile& r) {
  return u64{r.lba_low} | u64{r.lba_mid} << 8 | u64{r.lba_high} << 16 | u64{r.hob_low} << 24 | u64{r.hob_mid} << 32 |
         u64{r.hob_high} << 40;
}

}  // namespace

void TaskFile::visit(Archive& archive) {
  u8* const fields[] = {&status,  &error,    &command,     &device,    &feature, &count,   &lba_low,
                        &lba_mid, &lba_high, &hob_feature, &hob_count, &hob_low, &hob_mid, &hob_high};
  u32 number = 1;
  for (u8* field : fields) archive.field(number++, "register", *field);
}

void Command::visit(Archive& archive) {
  constexpr u64 kMaxData = 128 * kKiB;
  archive.part(1, "registers", [this](Archive& part) { regs.visit(part); });
  archive.field(2, "protocol", protocol);
  archive.field(3, "bytes", bytes);
  archive.field(4, "block_bytes", block_bytes);
  archive.field(5, "is_packet", is_packet);
  archive.field(6, "position", position);
  archive.blob(7, "data", data, kMaxData);
  archive.part(8, "packet", [this](Archive& part) { packet.visit(part); });
  if (protocol > Protocol::Packet) archive.fail("ATA command of no known protocol");
}

void put_ata_text(std::span<u8> field, std::string_view text) {
  for (size_t i = 0; i < field.size(); ++i) field[i ^ 1] = static_cast<u8>(i < text.size() ? text[i] : ' ');
}

/// One opcode: how its data moves and how it addresses.
struct AtaDisk::Row {
  enum Flags : u16 { Wide = 1, Write = 2, Multiple = 4, Dma = 8, Fua = 16, Queued = 32, NoData = 64 };
  u8 first, last;
  u16 flags;
};

const AtaDisk::Row AtaDisk::kRows[] = {
    {0x20, 0x21, 0},
    {0x24, 0x24, Row::Wide},
    {0x25, 0x25, Row::Wide | Row::Dma},
    {0x29, 0x29, Row::Wide | Row::Multiple},
    {0x30, 0x31, Row::Write},
    {0x34, 0x34, Row::Wide | Row::Write},
    {0x35, 0x35, Row::Wide | Row::Write | Row::Dma},
    {0x39, 0x39, Row::Wide | Row::Write | Row::Multiple},
    {0x3d, 0x3d, Row::Wide | Row::Write | Row::Dma | Row::Fua},
    {0x40, 0x41, Row::NoData},
    {0x42, 0x42, Row::NoData | Row::Wide},
    {0x60, 0x60, Row::Wide | Row::Dma | Row::Queued},
    {0x61, 0x61, Row::Wide | Row::Write | Row::Dma | Row::Queued},
    {0x70, 0x70, Row::NoData},
    {0xc4, 0xc4, Row::Multiple},
    {0xc5, 0xc5, Row::Multiple | Row::Write},
    {0xc8, 0xc9, Row::Dma},
    {0xca, 0xcb, Row::Dma | Row::Write},
    {0xce, 0xce, Row::Wide | Row::Multiple | Row::Write | Row::Fua},
};

AtaDisk::AtaDisk(Loop& loop, AtaDiskOptions options) : options_(std::move(options)), io_(loop, options_.io) {}

const AtaDisk::Row* AtaDisk::find_row(u8 opcode) const {
  for (const Row& row : kRows)
    if (opcode >= row.first && opcode <= row.last) return &row;
  return nullptr;
}

/// Where the command works: `position` and `bytes`. ATA8-ACS, 4.2 to 4.4; CHS as ATA-3 had it.
bool AtaDisk::place(Command& command, const Row& row) {
  const TaskFile& r = command.regs;
  const bool queued = row.flags & Row::Queued;
  const u8 low = queued ? r.feature : r.count, high = queued ? r.hob_feature : r.hob_count;
  u64 count = row.flags & Row::Wide ? u64{low} | u64{high} << 8 : low;
  if (count == 0) count = row.flags & Row::Wide ? 65536 : 256;
  u64 lba = row.flags & Row::Wide ? lba48(r) : lba28(r);
  if (!(row.flags & Row::Wide) && !(r.device & kLba)) {
    const u64 cylinder = u64{r.lba_mid} | u64{r.lba_high} << 8;
    if (r.lba_low == 0) return false;
    lba = (cylinder * heads_ + (r.device & 0xf)) * track_sectors_ + r.lba_low - 1;
  }
  if (r.command == 0x70) count = 0;
  if (!range_fits(lba, count, sectors())) return false;
  command.position = lba * kSector;
  command.bytes = count * kSector;
  return true;
}

void AtaDisk::access(Command& command, const Row& row) {
  if (!place(command, row)) return command.abort(kIdnf | kAbrt);
  if (row.flags & Row::NoData) {
    command.bytes = 0;
    return;
  }
  const bool write = row.flags & Row::Write;
  if (write && options_.readonly) return command.abort();
  if ((row.flags & Row::Multiple) && multiple_ == 0) return command.abort();
  command.block_bytes = kSector * (row.flags & Row::Multiple ? multiple_ : 1u);
  if (row.flags & Row::Dma) command.protocol = write ? Protocol::DmaOut : Protocol::DmaIn;
  else command.protocol = write ? Protocol::PioOut : Protocol::PioIn;
}

void AtaDisk::prepare(Command& command) {
  command.regs.status = kDrdy | kDsc;
  command.regs.error = 0;
  const u8 opcode = command.regs.command;
  if (const Row* row = find_row(opcode)) return access(command, *row);
  switch (opcode) {
    case kIdentify: return identify(command);
    case kSetFeatures: return set_features(command);
    case 0xc6: return set_multiple(command);
    case 0x91: return set_geometry(command);
    case 0x27: return native_max(command, true);
    case 0xf8: return native_max(command, false);
    case kReadLogExt: return read_log(command);
    case kDataSetManagement:
      if (!options_.discard || options_.readonly || !(command.regs.feature & 1) || !command.regs.count)
        return command.abort();
      command.protocol = Protocol::DmaOut;
      command.bytes = u64{command.regs.count} * kSector;
      command.data.assign(command.bytes, 0);
      return;
    case 0xe5: case 0x98: command.regs.count = 0xff; return;  // CHECK POWER MODE: active
    case 0xe7: case 0xea:                                     // FLUSH CACHE
    case 0xe0: case 0xe1: case 0xe2: case 0xe3: case 0xe6:    // power modes change nothing here
    case 0x94: case 0x95: case 0x96: case 0x97: case 0x99: return;
    case kDiagnostic: return put_signature(command.regs);
    default: break;
  }
  if (opcode >= 0x10 && opcode <= 0x1f) return;  // RECALIBRATE
  command.abort();
}

void AtaDisk::set_features(Command& command) {
  const u8 count = command.regs.count;
  switch (command.regs.feature) {
    case 0x02: return io_.set_write_cache(true);
    case 0x82: return io_.set_write_cache(false);  // finish() flushes
    case 0x03:
      if ((count >> 3) == 4 && (count & 7) <= 2) {
        multiword_mode_ = static_cast<u8>(1 << (count & 7));
        dma_mode_ = 0;
      } else if ((count >> 3) == 8 && (count & 7) <= 5) {
        dma_mode_ = static_cast<u16>(1 << (count & 7));
        multiword_mode_ = 0;
      } else if ((count >> 3) > 1) {
        command.abort();
      }
      return;
    case 0xaa: case 0x55: case 0x66: case 0xcc: case 0x67: return;  // look-ahead, defaults: nothing changes
    default: return command.abort();
  }
}

void AtaDisk::set_multiple(Command& command) {
  const u8 count = command.regs.count;
  if (count > kMaxMultiple || (count && !is_power_of_two(count))) return command.abort();
  multiple_ = count;
}

void AtaDisk::set_geometry(Command& command) {
  if (command.regs.count == 0) return command.abort();
  track_sectors_ = command.regs.count;
  heads_ = static_cast<u8>((command.regs.device & 0xf) + 1);
}

void AtaDisk::native_max(Command& command, bool wide) {
  if (sectors() == 0) return command.abort();
  const u64 last = wide ? sectors() - 1 : std::min(sectors() - 1, kMaxLba28);
  TaskFile& r = command.regs;
  r.lba_low = static_cast<u8>(last);
  r.lba_mid = static_cast<u8>(last >> 8);
  r.lba_high = static_cast<u8>(last >> 16);
  if (!wide) {
    r.device = static_cast<u8>((r.device & 0xf0) | (last >> 24 & 0xf));
    return;
  }
  r.hob_low = static_cast<u8>(last >> 24);
  r.hob_mid = static_cast<u8>(last >> 32);
  r.hob_high = static_cast<u8>(last >> 40);
}

/// ATA8-ACS, annex A: the directory and the queued error log.
void AtaDisk::read_log(Command& command) {
  const u8 log = command.regs.lba_low;
  const u64 size = (u64{command.regs.count} | u64{command.regs.hob_count} << 8) * kSector;
  if ((log != 0 && log != 0x10) || size == 0 || size > kMaxLogBytes) return command.abort();
  command.data.assign(size, 0);
  u8* page = command.data.data();
  if (log == 0) {
    page[0] = 1;
    page[0x20] = 1;
  } else {
    page[0] = failed_tag_;
    page[2] = failed_regs_.status;
    page[3] = failed_regs_.error;
    page[4] = failed_regs_.lba_low;
    page[5] = failed_regs_.lba_mid;
    page[6] = failed_regs_.lba_high;
    page[7] = failed_regs_.device;
    page[8] = failed_regs_.hob_low;
    page[9] = failed_regs_.hob_mid;
    page[10] = failed_regs_.hob_high;
    u8 sum = 0;
    for (int i = 0; i < 511; ++i) sum = static_cast<u8>(sum + page[i]);
    page[511] = static_cast<u8>(-sum);
    failed_tag_ = kNoTag;
  }
  command.protocol = Protocol::PioIn;
  command.bytes = size;
  command.block_bytes = kSector;
}

void AtaDisk::identify(Command& command) {
  command.data = identify_data();
  command.protocol = Protocol::PioIn;
  command.bytes = command.block_bytes = kSector;
}

/// ATA8-ACS, 7.16.7.
std::vector<u8> AtaDisk::identify_data() const {
  std::vector<u8> page(kSector);
  auto word = [&](unsigned index, u64 value) { store_le<u16>(&page[2 * index], static_cast<u16>(value)); };
  auto text = [&](unsigned index, unsigned words, std::string_view value) { put_ata_text(std::span(page).subspan(2 * index, 2 * words), value); };
  const u64 total = sectors(), small = std::min(total, kMaxLba28);
  const u64 cylinders = std::min<u64>(total / (16 * 63), 16383);
  const u64 current_cylinders = std::min<u64>(total / (u64{heads_} * track_sectors_), 65535);
  const u64 chs = current_cylinders * heads_ * track_sectors_;
  word(0, 0x0040);
  word(1, cylinders);
  word(3, 16);
  word(4, 63 * kSector);  // words 4 and 5 are retired, and still looked at
  word(5, kSector);
  word(6, 63);
  text(10, 10, options_.serial);
  text(23, 4, options_.version);
  text(27, 20, options_.model);
  word(47, 0x8000 | kMaxMultiple);
  word(49, 0x0f00);  // DMA, LBA, IORDY
  word(50, 0x4000);
  word(51, 0x0200);
  word(52, 0x0200);
  word(53, 0x0007);
  word(54, current_cylinders);
  word(55, heads_);
  word(56, track_sectors_);
  word(57, chs);
  word(58, chs >> 16);
  word(59, multiple_ ? 0x0100 | multiple_ : 0);
  word(60, small);
  word(61, small >> 16);
  word(63, 0x0007 | multiword_mode_ << 8);
  word(64, 0x0003);  // PIO modes 3 and 4
  for (unsigned index = 65; index <= 68; ++index) word(index, 120);  // ns a cycle
  word(75, 31);      // queue depth 32
  word(76, 0x0106);  // SATA 1.5 and 3 Gbit/s, NCQ
  word(80, 0x01f0);  // up to ATA8-ACS
  word(82, 0x4020);  // NOP, write cache
  word(83, 0x7400);  // FLUSH CACHE and EXT, LBA48
  word(84, 0x4020 | (options_.wwn ? 0x0100 : 0));  // general purpose logs, world wide name
  word(85, 0x4000 | (io_.write_cache() ? 0x0020 : 0));
  word(86, 0x3400);
  word(87, 0x4020 | (options_.wwn ? 0x0100 : 0));
  word(88, 0x003f | dma_mode_ << 8);
  word(93, 0x600b);  // reset result: device 0, 80-conductor cable
  for (unsigned i = 0; i < 4; ++i) word(100 + i, total >> (16 * i));
  const u32 ratio = std::max(1u, options_.physical_block_bytes / kSector);
  word(106, 0x4000 | (ratio > 1 ? 0x2000u | static_cast<u32>(std::countr_zero(ratio)) : 0u));
  for (unsigned i = 0; options_.wwn && i < 4; ++i) word(108 + i, options_.wwn >> (48 - 16 * i));
  if (options_.discard && !options_.readonly) word(169, 1);
  return page;
}

Task<Status> AtaDisk::transfer(Command& command, u64 offset, std::span<const iovec> buffers) {
  const u64 size = block::iovec_bytes(buffers);
  Status status;
  if (!range_fits(offset, size, command.bytes)) {
    status = Error(ErrorKind::Invalid, "outside the data phase");
  } else if (!command.data.empty()) {
    if (!range_fits(offset, size, command.data.size())) command.abort();
    else if (command.to_host()) block::iovec_copy_to(buffers, std::span(command.data).subspan(offset, size));
    else block::iovec_copy_from(buffers, std::span(command.data).subspan(offset, size));
  } else if (command.to_host()) {
    status = co_await io_.read(command.position + offset, buffers);
  } else {
    status = co_await io_.write(command.position + offset, buffers);
  }
  check_failed(command, status);
  co_return status;
}

/// Queued commands: the tag is in the count register.
void AtaDisk::check_failed(Command& command, const Status& status) {
  if (status) return;
  command.abort(status.error().kind() == ErrorKind::Invalid ? kIdnf : command.to_host() ? kUnc : kAbrt);
  const u8 opcode = command.regs.command;
  if (opcode != kReadFpdma && opcode != kWriteFpdma) return;
  failed_tag_ = command.regs.count >> 3;
  failed_regs_ = command.regs;
}

Task<Status> AtaDisk::finish(Command& command) {
  const u8 opcode = command.regs.command;
  if (command.failed()) co_return Status{};
  const bool fua = opcode == 0x3d || opcode == 0xce || (opcode == kWriteFpdma && (command.regs.device & 0x80));
  const bool cache_off = opcode == kSetFeatures && command.regs.feature == 0x82;
  const bool put_away = opcode == 0xe7 || opcode == 0xea || opcode == 0xe0 || opcode == 0xe2 || opcode == 0xe6;
  Status status;
  if (opcode == kDataSetManagement) status = co_await trim(command);
  else if (fua || cache_off || put_away) status = co_await io_.flush();
  check_failed(command, status);
  co_return status;
}

/// ATA8-ACS-2, 7.10.3: entries of 48 bits of address and 16 of length.
Task<Status> AtaDisk::trim(Command& command) {
  for (size_t at = 0; at + 8 <= command.data.size(); at += 8) {
    const u64 entry = load_le<u64>(&command.data[at]);
    const u64 lba = entry & 0xffffffffffff, count = entry >> 48;
    if (count == 0) continue;
    if (!range_fits(lba, count, sectors())) {
      command.abort(kIdnf | kAbrt);
      co_return Status{};
    }
    Status status = co_await io_.discard(lba * kSector, count * kSector);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

void AtaDisk::put_signature(TaskFile& regs) const {
  regs.error = regs.count = regs.lba_low = 1;
  regs.lba_mid = regs.lba_high = 0;
  regs.hob_count = regs.hob_low = regs.hob_mid = regs.hob_high = 0;
  regs.device &= kSecond;
  regs.status = kDrdy | kDsc;
}

void AtaDisk::reset() {
  multiple_ = 0;
  heads_ = 16;
  track_sectors_ = 63;
  dma_mode_ = 0x0020;
  multiword_mode_ = 0;
  failed_tag_ = kNoTag;
  io_.reset_write_cache();
}

void AtaDisk::visit(Archive& archive) {
  if (io_.has_kept()) archive.fail("disk requests that failed are waiting for another try");
  bool cache = io_.write_cache();
  archive.field(1, "multiple", multiple_);
  archive.field(2, "heads", heads_);
  archive.field(3, "track_sectors", track_sectors_);
  archive.field(4, "dma_mode", dma_mode_);
  archive.field(5, "multiword_mode", multiword_mode_);
  archive.field(6, "write_cache", cache);
  archive.field(7, "failed_tag", failed_tag_);
  archive.part(8, "failed_registers", [this](Archive& part) { failed_regs_.visit(part); });
  if (!archive.loading()) return;
  io_.set_write_cache(cache);
  if (multiple_ > kMaxMultiple || heads_ == 0 || heads_ > 16 || track_sectors_ == 0) archive.fail("impossible disk geometry");
}

}  // namespace atl::devices
