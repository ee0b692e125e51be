#include "machine/boards/flash.h"

#include <fmt/core.h>

#include "base/thread.h"
#include "machine/loaders/e820.h"

namespace atl::machine {
namespace {

using devices::Pflash;

constexpr u64 kMaxBytes = 8 * kMiB;

/// Reads the whole image; on the thread of the image's loop.
Status read_image(const FlashDrive& drive, memory::RamBlock& ram, u64 size) {
  const iovec all = {ram.data(), size};
  return finish_on(*drive.thread, [&] { return drive.image->read(0, std::span(&all, 1)); });
}

}  // namespace

Result<std::unique_ptr<SystemFlash>> SystemFlash::create(const BoardContext& context) {
  auto flash = std::make_unique<SystemFlash>();
  GuestAddr end = kHighRamBase;
  for (const FlashDrive& drive : context.flash) {
    end = TRY(flash->add(context, drive, end).context(fmt::format("flash drive '{}'", drive.id)));
  }
  return flash;
}

/// Puts a chip below `end`; gives its base.
Result<GuestAddr> SystemFlash::add(const BoardContext& context, const FlashDrive& drive, GuestAddr end) {
  const u64 size = drive.image->size_bytes();
  if (size == 0 || size % Pflash::kBlockBytes != 0) {
    return Error(ErrorKind::Invalid, fmt::format("system firmware image has {} bytes, not a multiple of {}", size, Pflash::kBlockBytes));
  }
  if (size > kMaxBytes || kHighRamBase - end + size > kMaxBytes) {
    return Error(ErrorKind::Invalid, fmt::format("combined size of system firmware exceeds {} bytes", kMaxBytes));
  }
  const std::string name = fmt::format("system.flash{}", chips_.size());
  auto ram = TRY(memory::RamBlock::create(name, size, {}));
  TRY(read_image(drive, *ram, size));
  if (!code_) code_ = ram;
  chips_.push_back(TRY(Pflash::create(context.memory, {.name = name,
                                                       .base = end - size,
                                                       .ram = std::move(ram),
                                                       .readonly = drive.readonly,
                                                       .secure = context.config.boot.flash_secure,
                                                       .image = drive.image,
                                                       .loop = &drive.thread->loop()})));
  return end - size;
}

std::vector<devices::Device*> SystemFlash::devices() {
  std::vector<devices::Device*> all;
  for (auto& chip : chips_) all.push_back(chip.get());
  return all;
}

}  // namespace atl::machine
