// ATA as its controllers (IDE channels, AHCI ports) see it: a task file in, a data phase, a task file out. Names and
// numbers from ATA8-ACS and ATA/ATAPI-7.
//
// A controller fills in `regs`, calls AtaDevice::prepare(), moves `bytes` through transfer(), and calls finish(); then
// `regs` holds what the host reads. For Protocol::Packet it fetches the 12 bytes of `packet.cdb` and calls
// prepare_packet() first. A command that has failed() is over.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/task.h"
#include "devices/storage/disk_io.h"
#include "devices/storage/removable.h"
#include "devices/storage/scsi.h"

namespace atl::devices::ata {

// Status register.
inline constexpr u8 kErr = 0x01, kDrq = 0x08, kDsc = 0x10, kDf = 0x20, kDrdy = 0x40, kBsy = 0x80;
// Error register.
inline constexpr u8 kAbrt = 0x04, kIdnf = 0x10, kUnc = 0x40;
// Device register.
inline constexpr u8 kLba = 0x40, kSecond = 0x10;
// Interrupt reason, in the count register, of packet commands.
inline constexpr u8 kReasonCommand = 0x01, kReasonToHost = 0x02;

inline constexpr u32 kSector = 512;
inline constexpr u32 kPacketBytes = 12;

enum Opcode : u8 {
  kNop = 0x00, kDataSetManagement = 0x06, kDeviceReset = 0x08, kReadLogExt = 0x2f, kDiagnostic = 0x90, kPacket = 0xa0,
  kIdentifyPacket = 0xa1, kReadFpdma = 0x60, kWriteFpdma = 0x61, kIdentify = 0xec, kSetFeatures = 0xef,
};

/// The registers; `hob` are the bytes written before the last ones.
struct TaskFile {
  u8 status = kDrdy | kDsc, error = 0;
  u8 command = 0, device = 0;
  u8 feature = 0, count = 0, lba_low = 0, lba_mid = 0, lba_high = 0;
  u8 hob_feature = 0, hob_count = 0, hob_low = 0, hob_mid = 0, hob_high = 0;

  void visit(Archive& archive);
};

enum class Protocol : u8 { None, PioIn, PioOut, DmaIn, DmaOut, Packet };

struct Command {
  TaskFile regs;
  // Set by prepare().
  Protocol protocol = Protocol::None;
  u64 bytes = 0;          // of the data phase
  u32 block_bytes = 0;    // PIO: how many move before the host is asked again
  bool is_packet = false; // the data phase is that of `packet`

  // The device's own.
  u64 position = 0;       // bytes, on the medium
  std::vector<u8> data;   // a reply, or parameters; empty: the data phase is the medium's
  scsi::Command packet;

  bool failed() const { return regs.status & kErr; }
  void abort(u8 error = kAbrt) {
    regs.status = kDrdy | kDsc | kErr;
    regs.error = error;
  }
  bool to_host() const { return protocol == Protocol::PioIn || protocol == Protocol::DmaIn; }
  void visit(Archive& archive);
};

}  // namespace atl::devices::ata

namespace atl::devices {

/// A disk or a drive behind an ATA interface. On the loop of its medium.
class AtaDevice {
 public:
  virtual ~AtaDevice() = default;
  virtual std::string_view type() const = 0;
  virtual void prepare(ata::Command& command) = 0;
  virtual void prepare_packet(ata::Command& command) = 0;
  /// Moves bytes [offset, offset + length of `buffers`) of the data phase.
  virtual Task<Status> transfer(ata::Command& command, u64 offset, std::span<const iovec> buffers) = 0;
  virtual Task<Status> finish(ata::Command& command) = 0;
  /// What the registers hold after a reset or a diagnostic (ATA/ATAPI-7, 9.12).
  virtual void put_signature(ata::TaskFile& regs) const = 0;
  virtual void reset() = 0;
  virtual void visit(Archive& archive) = 0;
  virtual DiskIo& io() = 0;
  /// nullptr: the medium stays.
  virtual RemovableDrive* removable() { return nullptr; }
  virtual void size_changed() {}
};

/// ATA strings: bytes swapped in each word, padded with spaces (ATA8-ACS, 3.3.10).
void put_ata_text(std::span<u8> field, std::string_view text);

/// A controller with places for ATA devices. Attaching and taking off: control thread, with the machine stopped.
class AtaHost {
 public:
  virtual ~AtaHost() = default;
  virtual unsigned ata_ports() const = 0;
  virtual unsigned ata_units() const = 0;  // a port
  virtual AtaDevice* ata_device(unsigned port, unsigned unit) = 0;
  /// The place is free.
  virtual void attach_ata(unsigned port, unsigned unit, std::unique_ptr<AtaDevice> device) = 0;
};

}  // namespace atl::devices
