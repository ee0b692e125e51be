// An ATAPI CD/DVD drive: ATA/ATAPI-7's packet interface in front of a ScsiUnit.
//
// Supported: PACKET with PIO and DMA, IDENTIFY PACKET DEVICE, DEVICE RESET, SET FEATURES (transfer mode), power commands.
// Missing: overlap and queuing.
//
// Threads: the loop of its medium.
#pragma once

#include <string>

#include "devices/storage/ata.h"
#include "devices/storage/scsi_unit.h"

namespace atl::devices {

struct AtapiDriveOptions {
  std::string serial = "AT00002", model = "ATOLL DVD-ROM", version = "1.0";
  u64 wwn = 0;
  std::function<void(bool open)> on_tray;
  DiskIoOptions io;
};

class AtapiDrive final : public AtaDevice {
 public:
  AtapiDrive(Loop& loop, const AtapiDriveOptions& options);

  std::string_view type() const override { return "ide-cd"; }
  void prepare(ata::Command& command) override;
  void prepare_packet(ata::Command& command) override;
  Task<Status> transfer(ata::Command& command, u64 offset, std::span<const iovec> buffers) override;
  Task<Status> finish(ata::Command& command) override;
  void put_signature(ata::TaskFile& regs) const override;
  void reset() override;
  void visit(Archive& archive) override;
  DiskIo& io() override { return unit_.io(); }
  RemovableDrive* removable() override { return &unit_; }

 private:
  std::vector<u8> identify_data() const;
  void set_features(ata::Command& command);
  void check_failed(ata::Command& command);

  const std::string serial_, model_, version_;
  const u64 wwn_;
  ScsiUnit unit_;
  u16 dma_mode_ = 0x0004;
};

}  // namespace atl::devices
