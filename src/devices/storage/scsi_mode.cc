// MODE SENSE and MODE SELECT (SPC-4, 6.11 and 6.9): the caching page of disks (SBC-3, 6.4.5), error recovery, and the
// capabilities page of CD drives (MMC-3, 5.5.10).
#include <algorithm>

#include "base/endian.h"
#include "devices/storage/scsi_unit.h"

namespace atl::devices {

using namespace scsi;

namespace {

constexpr u8 kErrorRecovery = 0x01, kGeometry = 0x04, kCaching = 0x08, kAudioControl = 0x0e, kCapabilities = 0x2a, kAllPages = 0x3f;
constexpr u8 kWriteCacheEnable = 1 << 2;
constexpr u16 kSpeed = 706;  // kB/s: 4x

}  // namespace

std::vector<u8> ScsiUnit::mode_pages(u8 wanted, bool changeable) const {
  std::vector<u8> out;
  auto add = [&](u8 code, u8 length) -> u8* {
    if (wanted != code && wanted != kAllPages) return nullptr;
    const size_t at = out.size();
    out.resize(at + 2 + length);
    out[at] = code;
    out[at + 1] = length;
    return &out[at];
  };
  if (u8* page = add(kErrorRecovery, is_cd() ? 6 : 10); page && !changeable) {
    page[2] = is_cd() ? 0x00 : 0x80;  // automatic write reallocation
    if (is_cd()) page[3] = 5;         // retries
  }
  if (!is_cd()) {
    if (u8* page = add(kGeometry, 0x16); page && !changeable) {
      const u64 cylinders = std::min<u64>(blocks() / (16 * 63), 0xffffff);
      page[2] = static_cast<u8>(cylinders >> 16);
      store_be<u16>(&page[3], static_cast<u16>(cylinders));
      page[5] = 16;
      store_be<u16>(&page[20], 5400);
    }
    if (u8* page = add(kCaching, 0x12); page && (changeable || io_.write_cache())) page[2] = kWriteCacheEnable;
    return out;
  }
  if (u8* page = add(kAudioControl, 0x0e); page && !changeable) page[2] = 4;
  if (u8* page = add(kCapabilities, 0x14); page && !changeable) {
    page[2] = 0x3b;  // reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R
    page[4] = 0x70;  // mode 2 form 1 and 2, multi-session
    page[6] = static_cast<u8>(0x29 | (locked_ ? 2 : 0));  // tray, can lock, can eject
    store_be<u16>(&page[8], kSpeed);
    store_be<u16>(&page[10], 2);    // volume levels
    store_be<u16>(&page[12], 512);  // KiB of buffer
    store_be<u16>(&page[14], kSpeed);
  }
  return out;
}

void ScsiUnit::mode_sense(Command& command) {
  const bool wide = command.cdb[0] == kModeSense10;
  const u8 control = command.cdb[2] >> 6, wanted = command.cdb[2] & 0x3f;
  if (control == 3) return command.fail(kSavingNotSupported);
  std::vector<u8> pages = mode_pages(wanted, control == 1);
  if (pages.empty() && wanted != kAllPages) return command.fail(kInvalidField);
  const bool descriptor = !is_cd() && !(command.cdb[1] & 8) && has_medium();
  std::vector<u8> out(wide ? 8 : 4);
  const u8 specific = is_cd() ? 0 : static_cast<u8>((options_.readonly ? 0x80 : 0) | 0x10);  // write protected; DPO and FUA
  out[wide ? 3 : 2] = specific;
  if (is_cd() && wide) out[2] = has_medium() ? 0x01 : 0x70;  // medium: 120 mm data disc; none
  if (descriptor) {
    out[wide ? 7 : 3] = 8;
    u8 block[8] = {};
    store_be<u32>(&block[0], static_cast<u32>(std::min<u64>(blocks(), 0xffffff)));
    store_be<u32>(&block[4], block_bytes());
    out.insert(out.end(), block, block + sizeof block);
  }
  out.insert(out.end(), pages.begin(), pages.end());
  if (wide) store_be<u16>(&out[0], static_cast<u16>(out.size() - 2));
  else out[0] = static_cast<u8>(out.size() - 1);
  command.reply(std::move(out), wide ? load_be<u16>(&command.cdb[7]) : command.cdb[4]);
}

void ScsiUnit::mode_select(Command& command) {
  if (command.cdb[1] & 1) return command.fail(kInvalidField);  // nothing can be saved
  command.take_parameters(command.cdb[0] == kModeSelect10 ? load_be<u16>(&command.cdb[7]) : command.cdb[4]);
}

/// Only the write cache can be changed; the rest must be what it is, and is not looked at.
bool ScsiUnit::set_mode(std::span<const u8> pages) {
  while (pages.size() >= 2) {
    const u8 code = pages[0] & 0x3f;
    const size_t size = size_t{2} + pages[1];
    if (size > pages.size() || mode_pages(code, false).empty()) return false;
    if (code == kCaching && size >= 3) io_.set_write_cache(pages[2] & kWriteCacheEnable);
    pages = pages.subspan(size);
  }
  return pages.empty();
}

}  // namespace atl::devices
