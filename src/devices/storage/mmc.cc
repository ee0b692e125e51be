// What a CD/DVD drive has beyond a read-only disk: MMC-6. A medium is one data track; up to 80 minutes it is a CD-ROM, a
// larger one is a DVD-ROM.
#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/iovecs.h"
#include "devices/storage/scsi_unit.h"

namespace atl::devices {

using namespace scsi;

namespace {

constexpr u64 kBlock = 2048, kRawBlock = 2352;
constexpr u64 kMaxCdBlocks = 80 * 60 * 75;
constexpr u32 kLeadIn = 150;  // frames before block 0
constexpr u16 kProfileCdRom = 0x0008, kProfileDvdRom = 0x0010;
constexpr u8 kDataTrack = 0x14;  // Q channel: data, current position

/// Minute, second and frame of a block (MMC-6, annex "LBA to MSF").
void put_msf(u8* at, u64 lba) {
  const u64 frame = lba + kLeadIn;
  at[0] = static_cast<u8>(frame / (60 * 75));
  at[1] = static_cast<u8>(frame / 75 % 60);
  at[2] = static_cast<u8>(frame % 75);
}

void put_address(u8* at, u64 lba, bool msf) {
  if (!msf) return store_be<u32>(at, static_cast<u32>(lba));
  at[0] = 0;
  put_msf(at + 1, lba);
}

std::vector<u8> with_length(std::vector<u8> out) {
  store_be<u16>(out.data(), static_cast<u16>(out.size() - 2));
  return out;
}

constexpr u8 to_bcd(u8 value) { return static_cast<u8>(value / 10 << 4 | value % 10); }

/// Header and user data of a raw mode 1 sector; error correction reads as zeroes, as nobody checks it.
void fill_raw_header(u8* sector, u64 lba) {
  std::fill_n(sector + 1, 10, u8{0xff});
  sector[0] = sector[11] = 0;
  u8 msf[3];
  put_msf(msf, lba);
  for (int i = 0; i < 3; ++i) sector[12 + i] = to_bcd(msf[i]);
  sector[15] = 1;  // mode 1
}

}  // namespace

void ScsiUnit::read_sub_channel(Command& command) {
  const bool msf = command.cdb[1] & 2, wanted = command.cdb[2] & 0x40;
  std::vector<u8> out = {0, 0x15, 0, 0};  // no audio operation
  if (wanted && command.cdb[3] == 1) {
    out.resize(16);
    out[4] = 1;
    out[5] = kDataTrack;
    out[6] = out[7] = 1;
    put_address(&out[8], 0, msf);
    put_address(&out[12], 0, msf);
  }
  store_be<u16>(&out[2], static_cast<u16>(out.size() - 4));
  command.reply(std::move(out), load_be<u16>(&command.cdb[7]));
}

/// MMC-6, 6.25: formats 0 (tracks), 1 (sessions) and 2 (raw).
void ScsiUnit::read_toc(Command& command) {
  const bool msf = command.cdb[1] & 2;
  const u8 format = (command.cdb[2] & 0xf) ? command.cdb[2] & 0xf : command.cdb[9] >> 6;
  const u8 track = command.cdb[6];
  std::vector<u8> out = {0, 0, 1, 1};
  auto entry = [&](u8 number, u64 lba) {
    u8 bytes[8] = {0, kDataTrack, number, 0};
    put_address(&bytes[4], lba, msf);
    out.insert(out.end(), bytes, bytes + sizeof bytes);
  };
  auto raw_entry = [&](u8 point, const u8 (&place)[3]) {
    const u8 bytes[11] = {1, kDataTrack, 0, point, 0, 0, 0, 0, place[0], place[1], place[2]};
    out.insert(out.end(), bytes, bytes + sizeof bytes);
  };
  switch (format) {
    case 0:
      if (track > 1 && track != 0xaa) return command.fail(kInvalidField);
      if (track <= 1) entry(1, 0);
      entry(0xaa, blocks());
      break;
    case 1: entry(1, 0); break;
    case 2: {
      u8 end[3], start[3];
      put_msf(end, blocks());
      put_msf(start, 0);
      raw_entry(0xa0, {1, 0, 0});
      raw_entry(0xa1, {1, 0, 0});
      raw_entry(0xa2, end);
      raw_entry(1, start);
      break;
    }
    default: return command.fail(kInvalidField);
  }
  command.reply(with_length(std::move(out)), load_be<u16>(&command.cdb[7]));
}

/// MMC-6, 6.6: the profile list, core, and removable medium features.
void ScsiUnit::get_configuration(Command& command) {
  const u8 type = command.cdb[1] & 3;
  const u16 first = load_be<u16>(&command.cdb[2]);
  const u16 current = !has_medium() ? u16{0} : blocks() > kMaxCdBlocks ? kProfileDvdRom : kProfileCdRom;
  std::vector<u8> out(8);
  store_be<u16>(&out[6], current);
  auto feature = [&](u16 code, u8 flags, std::vector<u8> body) {
    const bool is_current = flags & 1;
    if (code < first || (type == 2 && code != first) || (type == 1 && !is_current)) return;
    out.insert(out.end(), {static_cast<u8>(code >> 8), static_cast<u8>(code), flags, static_cast<u8>(body.size())});
    out.insert(out.end(), body.begin(), body.end());
  };
  const u8 dvd = current == kProfileDvdRom, cd = current == kProfileCdRom;
  feature(0x0000, 0x03, {0x00, kProfileDvdRom, dvd, 0, 0x00, kProfileCdRom, cd, 0});
  feature(0x0001, 0x0b, {0, 0, 0, static_cast<u8>(options_.atapi ? 2 : 1), 1, 0, 0, 0});  // physical interface
  feature(0x0003, 0x03, {0x29, 0, 0, 0});                                                 // tray, lock, eject
  feature(0x0010, static_cast<u8>(dvd | cd), {0, 0, 0x08, 0, 0, 0x10, 0, 0});             // random readable
  feature(0x001e, cd, {0, 0, 0, 0});                                                      // CD read
  feature(0x001f, dvd, {0, 0, 0, 0});                                                     // DVD read
  store_be<u32>(&out[0], static_cast<u32>(out.size() - 4));
  command.reply(std::move(out), load_be<u16>(&command.cdb[7]));
}

/// MMC-6, 6.7, polled only: media events.
void ScsiUnit::get_event_status(Command& command) {
  constexpr u8 kMediaClass = 4;
  if (!(command.cdb[1] & 1)) return command.fail(kInvalidField);
  std::vector<u8> out = {0, 0, 0x80, 1 << kMediaClass};  // no event
  if (command.cdb[4] & (1 << kMediaClass)) {
    u8 event = 0;
    if (std::exchange(event_eject_request_, false)) event = 1;
    else if (std::exchange(event_new_medium_, false)) event = 2;
    else if (std::exchange(event_removed_, false)) event = 3;
    const u8 state = static_cast<u8>((tray_open_ ? 1 : 0) | (has_medium() ? 2 : 0));
    out[2] = kMediaClass;
    out.insert(out.end(), {event, state, 0, 0});
  }
  command.reply(with_length(std::move(out)), load_be<u16>(&command.cdb[7]));
}

/// MMC-6, 6.22: one complete session, not erasable.
void ScsiUnit::read_disc_information(Command& command) {
  if (command.cdb[1] & 7) return command.fail(kInvalidField);
  std::vector<u8> out(34);
  out[2] = 0x0e;
  out[3] = out[4] = out[5] = out[6] = 1;
  out[7] = 0x20;  // unrestricted use
  command.reply(with_length(std::move(out)), load_be<u16>(&command.cdb[7]));
}

/// MMC-6, 6.26.
void ScsiUnit::read_track_information(Command& command) {
  std::vector<u8> out(36);
  out[2] = out[3] = 1;
  out[5] = 0x04;  // data track
  out[6] = 0x01;  // mode 1
  store_be<u32>(&out[24], static_cast<u32>(std::min<u64>(blocks(), 0xffffffff)));
  command.reply(with_length(std::move(out)), load_be<u16>(&command.cdb[7]));
}

/// MMC-6, 6.23: the physical format and copyright of a DVD.
void ScsiUnit::read_disc_structure(Command& command) {
  const u8 format = command.cdb[7];
  if (blocks() <= kMaxCdBlocks) return command.fail({0x5, 0x30, 0x02});  // incompatible format
  std::vector<u8> out(4);
  if (format == 0) {
    constexpr u32 kFirstSector = 0x30000;
    out.resize(4 + 2048);
    out[4] = 1;            // DVD-ROM, version 1
    out[5] = 0x0f;         // 120 mm, no maximum rate
    out[6] = 1;            // one layer, embossed
    store_be<u32>(&out[8], kFirstSector);
    store_be<u32>(&out[12], static_cast<u32>(kFirstSector + blocks() - 1));
  } else if (format == 1) {
    out.resize(8);         // not protected
  } else {
    return command.fail(kInvalidField);
  }
  command.reply(with_length(std::move(out)), load_be<u16>(&command.cdb[8]));
}

void ScsiUnit::mechanism_status(Command& command) {
  std::vector<u8> out(8);
  if (tray_open_) out[1] = 0x10;
  command.reply(std::move(out), load_be<u16>(&command.cdb[8]));
}

/// MMC-6, 6.20: user data alone, or the whole raw sector.
void ScsiUnit::read_cd(Command& command) {
  const u64 lba = load_be<u32>(&command.cdb[2]);
  const u64 count = u64{command.cdb[6]} << 16 | load_be<u16>(&command.cdb[7]);
  const u8 what = command.cdb[9] & 0xf8;
  if (what == 0 || count == 0) return;
  if (what != 0x10 && what != 0xf8) return command.fail(kInvalidField);
  medium_access(command, lba, count, false);
  if (command.good()) command.bytes = count * (what == 0xf8 ? kRawBlock : kBlock);
}

/// Sector by sector, so that pieces of the data phase may begin and end anywhere.
Task<Status> ScsiUnit::transfer_raw(Command& command, u64 offset, std::span<const iovec> buffers) {
  if ((command.cdb[9] & 0xf8) != 0xf8) co_return co_await io_.read(command.position + offset, buffers);
  const u64 size = block::iovec_bytes(buffers);
  for (u64 done = 0; done < size;) {
    const u64 index = (offset + done) / kRawBlock, within = (offset + done) % kRawBlock;
    const u64 lba = command.position / kBlock + index;
    std::array<u8, kRawBlock> sector{};
    fill_raw_header(sector.data(), lba);
    const iovec user{&sector[16], kBlock};
    Status status = co_await io_.read(lba * kBlock, {&user, 1});
    CO_TRY(std::move(status));
    const u64 step = std::min(size - done, kRawBlock - within);
    const std::vector<iovec> piece = block::iovec_slice(buffers, done, step);
    block::iovec_copy_to(piece, std::span(sector).subspan(within, step));
    done += step;
  }
  co_return Status{};
}

}  // namespace atl::devices
