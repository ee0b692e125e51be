// A SCSI logical unit: a disk (SBC-3) or a CD/DVD drive (MMC-6), whatever its transport is.
//
// Supported: what Linux, Windows and PC firmware send. Disks: INQUIRY with VPD pages 00, 80, 83, b0, b1, b2, READ and WRITE
// 6 to 16, VERIFY, SYNCHRONIZE CACHE, UNMAP, WRITE SAME, READ CAPACITY 10 and 16, MODE SENSE and SELECT (caching page).
// Drives: READ, READ CD (user data and raw), TOC, sub-channel, configuration, events, disc and track information, tray and
// lock. Missing: audio, recording, reservations of several initiators (accepted, there is one), log pages.
//
// Threads: the loop of its DiskIo; the tray's state may be asked for from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "devices/storage/disk_io.h"
#include "devices/storage/removable.h"
#include "devices/storage/scsi.h"

namespace atl::devices {

struct ScsiUnitOptions {
  enum class Kind : u8 { Disk, Cd } kind = Kind::Disk;
  bool atapi = false;             // no unit attention after power-on, as ATAPI drives have it
  bool removable = false;         // a disk whose medium may go (USB sticks); drives always are
  std::string vendor = "ATOLL", product, version = "1.0", serial;
  std::string device_id;          // vendor's identifier of VPD page 83; the serial number if empty
  u64 wwn = 0;                    // NAA identifier; 0: none
  u32 block_bytes = 512;          // disks: 512 to 4096, a power of two
  u32 physical_block_bytes = 512;
  bool readonly = false;
  bool discard = true;
  std::function<void(bool open)> on_tray;  // the guest or the monitor moved the tray; on the loop. May be null
  DiskIoOptions io;
};

class ScsiUnit final : public RemovableDrive {
 public:
  ScsiUnit(Loop& loop, ScsiUnitOptions options);

  DiskIo& io() { return io_; }
  bool is_cd() const { return options_.kind == ScsiUnitOptions::Kind::Cd; }
  const ScsiUnitOptions& options() const { return options_; }
  u32 block_bytes() const { return is_cd() ? 2048 : options_.block_bytes; }
  u64 blocks() const { return io_.size_bytes() / block_bytes(); }

  /// Decodes the command. What has no data phase and needs no disk is done after it.
  void prepare(scsi::Command& command);
  /// Moves bytes [offset, offset + length of `buffers`) of the data phase. Buffers stay valid until completion.
  Task<Status> transfer(scsi::Command& command, u64 offset, std::span<const iovec> buffers);
  Task<Status> finish(scsi::Command& command);

  /// Power-on or bus reset: caches of the drive's state go, the tray stays as it is.
  void reset();
  void visit(Archive& archive);
  /// The medium has another size now.
  void size_changed();
  /// What the guest would be told by REQUEST SENSE of the transport.
  void note_sense(const scsi::Sense& sense) { sense_ = sense; }

  // RemovableDrive, on the loop.
  bool is_removable() const override { return is_cd() || options_.removable; }
  bool tray_is_open() const override { return tray_open_.load(); }
  bool is_locked() const override { return locked_.load(); }
  void request_eject() override;
  void open_tray() override { move_tray(true); }
  void close_tray() override { move_tray(false); }
  void set_medium(block::Node* node) override;
  DiskIo& medium_io() override { return io_; }

 private:
  struct Row;
  static const Row kRows[];
  using Command = scsi::Command;

  const Row* find_row(u8 opcode) const;
  bool has_medium() const { return io_.node() && !tray_open_.load(); }
  void move_tray(bool open);
  bool check_unit(Command& command, const Row& row);

  // prepare() of one operation each.
  void nothing(Command&) {}
  void test_ready(Command&) {}
  void request_sense(Command&);
  void inquiry(Command&);
  void mode_sense(Command&);
  void mode_select(Command&);
  void start_stop(Command&);
  void prevent_allow(Command&);
  void report_luns(Command&);
  void read_capacity10(Command&);
  void service_action_in(Command&);
  void read_blocks(Command&);
  void write_blocks(Command&);
  void verify(Command&);
  void unmap(Command&);
  void write_same(Command&);
  void read_sub_channel(Command&);
  void read_toc(Command&);
  void get_configuration(Command&);
  void get_event_status(Command&);
  void read_disc_information(Command&);
  void read_track_information(Command&);
  void read_disc_structure(Command&);
  void mechanism_status(Command&);
  void read_cd(Command&);

  // scsi_inquiry.cc, scsi_mode.cc
  std::vector<u8> standard_inquiry() const;
  std::optional<std::vector<u8>> vital_page(u8 page) const;
  std::vector<u8> device_identification() const;
  std::vector<u8> block_limits() const;
  std::vector<u8> mode_pages(u8 page, bool changeable) const;
  bool set_mode(std::span<const u8> pages);

  void medium_access(Command& command, u64 lba, u64 count, bool write);
  Task<Status> transfer_raw(Command& command, u64 offset, std::span<const iovec> buffers);
  Task<Status> finish_parameters(Command& command);
  Task<Status> finish_unmap(Command& command);
  Task<Status> finish_write_same(Command& command);
  Status check_failed(Command& command, const Status& status);

  const ScsiUnitOptions options_;
  DiskIo io_;
  std::optional<scsi::Sense> attention_;   // unit attention that the guest has not been told yet
  scsi::Sense sense_;                      // of the last command that failed, for REQUEST SENSE
  std::atomic<bool> tray_open_{false}, locked_{false};
  bool event_new_medium_ = false, event_removed_ = false, event_eject_request_ = false;  // GET EVENT STATUS
};

}  // namespace atl::devices
