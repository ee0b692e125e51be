// Reading, writing and clearing blocks: SBC-3 chapter 5.
#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/iovecs.h"
#include "devices/storage/scsi_unit.h"

namespace atl::devices {

using namespace scsi;

namespace {

constexpr u32 kMaxUnmapBytes = 8 + 255 * 16;
constexpr u64 kMaxClearBlocks = 0x3fffff;

struct Extent {
  u64 lba = 0, count = 0;
};

/// Where each CDB length has its logical block address and its number of blocks (SPC-4, 4.2.5).
Extent extent_of(const std::array<u8, 16>& cdb) {
  switch (cdb[0] >> 5) {
    case 0: {
      const u64 lba = (cdb[1] & 0x1fu) << 16 | load_be<u16>(&cdb[2]);
      return {lba, cdb[4] ? cdb[4] : u64{256}};
    }
    case 4: return {load_be<u64>(&cdb[2]), load_be<u32>(&cdb[10])};
    case 5: return {load_be<u32>(&cdb[2]), load_be<u32>(&cdb[6])};
    default: return {load_be<u32>(&cdb[2]), load_be<u16>(&cdb[7])};
  }
}

}  // namespace

void ScsiUnit::medium_access(Command& command, u64 lba, u64 count, bool write) {
  if (!range_fits(lba, count, blocks())) return command.fail(kLbaOutOfRange);
  if (write && options_.readonly) return command.fail(kWriteProtected);
  command.kind = write ? Command::Kind::MediumWrite : Command::Kind::MediumRead;
  command.direction = !count ? Command::Direction::None : write ? Command::Direction::ToDevice : Command::Direction::FromDevice;
  command.position = lba * block_bytes();
  command.bytes = count * block_bytes();
}

void ScsiUnit::read_blocks(Command& command) {
  const Extent extent = extent_of(command.cdb);
  medium_access(command, extent.lba, extent.count, false);
}

void ScsiUnit::write_blocks(Command& command) {
  const Extent extent = extent_of(command.cdb);
  medium_access(command, extent.lba, extent.count, true);
}

/// The medium is taken to be as good as its checksums: only the range is looked at. A comparison is refused.
void ScsiUnit::verify(Command& command) {
  if (command.cdb[1] & 6) return command.fail(kInvalidField);
  const Extent extent = extent_of(command.cdb);
  if (!range_fits(extent.lba, extent.count, blocks())) command.fail(kLbaOutOfRange);
}

void ScsiUnit::unmap(Command& command) {
  const u16 size = load_be<u16>(&command.cdb[7]);
  if (!options_.discard) return command.fail(kInvalidOpcode);
  if (options_.readonly) return command.fail(kWriteProtected);
  if (size > kMaxUnmapBytes || (command.cdb[1] & 1)) return command.fail(kInvalidField);
  command.take_parameters(size);
}

/// SBC-3, 5.28.
Task<Status> ScsiUnit::finish_unmap(Command& command) {
  const std::vector<u8>& list = command.data;
  const size_t listed = list.size() < 8 ? 0 : load_be<u16>(&list[2]);
  if (list.empty()) co_return Status{};
  if (list.size() < 8 || listed > list.size() - 8) {
    command.fail(kInvalidParameter);
    co_return Status{};
  }
  for (size_t at = 8; at + 16 <= 8 + listed; at += 16) {
    const u64 lba = load_be<u64>(&list[at]), count = load_be<u32>(&list[at + 8]);
    if (!range_fits(lba, count, blocks())) {
      command.fail(kLbaOutOfRange);
      co_return Status{};
    }
    if (count == 0) continue;
    Status status = co_await io_.discard(lba * block_bytes(), count * block_bytes());
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

/// SBC-3, 5.44. Data that is not all zeroes is written out, so its range is kept small.
void ScsiUnit::write_same(Command& command) {
  const Extent extent = extent_of(command.cdb);
  const bool no_data = command.cdb[0] == kWriteSame16 && (command.cdb[1] & 1);
  if (options_.readonly) return command.fail(kWriteProtected);
  if ((command.cdb[1] & 6) || extent.count == 0 || extent.count > kMaxClearBlocks) return command.fail(kInvalidField);
  if (!range_fits(extent.lba, extent.count, blocks())) return command.fail(kLbaOutOfRange);
  command.take_parameters(no_data ? 0 : block_bytes());
}

Task<Status> ScsiUnit::finish_write_same(Command& command) {
  const Extent extent = extent_of(command.cdb);
  const u64 offset = extent.lba * block_bytes(), size = extent.count * block_bytes();
  if (!range_fits(extent.lba, extent.count, blocks())) co_return Error(ErrorKind::Invalid, "outside the medium");
  const bool zero = std::ranges::all_of(command.data, [](u8 byte) { return byte == 0; });
  if (zero) co_return co_await io_.write_zeroes(offset, size, options_.discard && (command.cdb[1] & 8));
  std::vector<u8> chunk;
  const u64 chunk_bytes = std::min<u64>(size, 256 * kKiB);
  while (chunk.size() < chunk_bytes) chunk.insert(chunk.end(), command.data.begin(), command.data.end());
  for (u64 done = 0; done < size;) {
    const iovec piece{chunk.data(), std::min<u64>(size - done, chunk.size())};
    Status status = co_await io_.write(offset + done, {&piece, 1});
    CO_TRY(std::move(status));
    done += piece.iov_len;
  }
  co_return Status{};
}

}  // namespace atl::devices
