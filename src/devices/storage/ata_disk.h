// An ATA hard disk: ATA8-ACS.
//
// Supported: PIO, multiple, DMA and queued (NCQ) reads and writes by CHS, LBA28 and LBA48, FUA, flush, verify, IDENTIFY,
// SET FEATURES (transfer mode, write cache), power commands, TRIM, READ LOG EXT of the NCQ error log. SMART, security and
// host protected area are refused, as by a disk that does not announce them.
//
// Threads: the loop of its medium.
#pragma once

#include <string>

#include "devices/storage/ata.h"

namespace atl::devices {

struct AtaDiskOptions {
  std::string serial = "AT00001", model = "ATOLL HARDDISK", version = "1.0";
  u64 wwn = 0;
  u32 physical_block_bytes = 512;  // 512 to 4096 are told
  bool readonly = false;
  bool discard = true;
  DiskIoOptions io;
};

class AtaDisk final : public AtaDevice {
 public:
  AtaDisk(Loop& loop, AtaDiskOptions options);

  std::string_view type() const override { return "ide-hd"; }
  void prepare(ata::Command& command) override;
  void prepare_packet(ata::Command& command) override { command.abort(); }
  Task<Status> transfer(ata::Command& command, u64 offset, std::span<const iovec> buffers) override;
  Task<Status> finish(ata::Command& command) override;
  void put_signature(ata::TaskFile& regs) const override;
  void reset() override;
  void visit(Archive& archive) override;
  DiskIo& io() override { return io_; }

 private:
  struct Row;
  static const Row kRows[];
  using Command = ata::Command;

  u64 sectors() const { return io_.size_bytes() / ata::kSector; }
  const Row* find_row(u8 opcode) const;
  bool place(Command& command, const Row& row);
  void access(Command& command, const Row& row);
  void identify(Command& command);
  void set_features(Command& command);
  void set_multiple(Command& command);
  void set_geometry(Command& command);
  void native_max(Command& command, bool wide);
  void read_log(Command& command);
  std::vector<u8> identify_data() const;
  Task<Status> trim(Command& command);
  void check_failed(Command& command, const Status& status);

  const AtaDiskOptions options_;
  DiskIo io_;
  u8 multiple_ = 0;                  // sectors a block of READ and WRITE MULTIPLE; 0: off
  u8 heads_ = 16, track_sectors_ = 63;
  u16 dma_mode_ = 0x0020;            // word 88: UDMA mode selected
  u8 multiword_mode_ = 0;            // word 63
  u8 failed_tag_ = 0x80;             // NCQ error log: bit 7, nothing to tell
  ata::TaskFile failed_regs_;
};

}  // namespace atl::devices
