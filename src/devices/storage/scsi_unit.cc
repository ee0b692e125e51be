#include "devices/storage/scsi_unit.h"

#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/iovecs.h"

namespace atl::devices {

using namespace scsi;

void Command::visit(Archive& archive) {
  constexpr u64 kMaxData = 128 * kKiB;
  archive.bytes(1, "cdb", cdb);
  archive.field(2, "direction", direction);
  archive.field(3, "bytes", bytes);
  archive.field(4, "status", status);
  archive.field(5, "sense_key", sense.key);
  archive.field(6, "asc", sense.asc);
  archive.field(7, "ascq", sense.ascq);
  archive.field(8, "kind", kind);
  archive.field(9, "position", position);
  archive.blob(10, "data", data, kMaxData);
  if (direction > Direction::ToDevice || kind > Kind::MediumWrite) archive.fail("SCSI command of no known kind");
}

std::array<u8, 18> scsi::fixed_sense(const Sense& sense) {
  std::array<u8, 18> out{};
  out[0] = 0x70;
  out[2] = sense.key;
  out[7] = 10;
  out[12] = sense.asc;
  out[13] = sense.ascq;
  return out;
}

/// One operation: for whom, whether it needs a medium, and what prepares it.
struct ScsiUnit::Row {
  enum Flags : u8 { Disk = 1, Cd = 2, Both = 3, Medium = 4, NoAttention = 8 };
  u8 opcode;
  u8 flags;
  void (ScsiUnit::*prepare)(Command&);
};

const ScsiUnit::Row ScsiUnit::kRows[] = {
    {kTestUnitReady, Row::Both | Row::Medium, &ScsiUnit::test_ready},
    {kRequestSense, Row::Both | Row::NoAttention, &ScsiUnit::request_sense},
    {kInquiry, Row::Both | Row::NoAttention, &ScsiUnit::inquiry},
    {kReportLuns, Row::Both | Row::NoAttention, &ScsiUnit::report_luns},
    {kModeSense6, Row::Both, &ScsiUnit::mode_sense},
    {kModeSense10, Row::Both, &ScsiUnit::mode_sense},
    {kModeSelect6, Row::Both, &ScsiUnit::mode_select},
    {kModeSelect10, Row::Both, &ScsiUnit::mode_select},
    {kStartStop, Row::Both, &ScsiUnit::start_stop},
    {kPreventAllow, Row::Both, &ScsiUnit::prevent_allow},
    {kSendDiagnostic, Row::Both, &ScsiUnit::nothing},
    {kReserve6, Row::Disk, &ScsiUnit::nothing},
    {kRelease6, Row::Disk, &ScsiUnit::nothing},
    {kReserve10, Row::Disk, &ScsiUnit::nothing},
    {kRelease10, Row::Disk, &ScsiUnit::nothing},
    {kReadCapacity10, Row::Both | Row::Medium, &ScsiUnit::read_capacity10},
    {kServiceActionIn, Row::Both | Row::Medium, &ScsiUnit::service_action_in},
    {kRead6, Row::Disk | Row::Medium, &ScsiUnit::read_blocks},
    {kRead10, Row::Both | Row::Medium, &ScsiUnit::read_blocks},
    {kRead12, Row::Both | Row::Medium, &ScsiUnit::read_blocks},
    {kRead16, Row::Disk | Row::Medium, &ScsiUnit::read_blocks},
    {kWrite6, Row::Disk | Row::Medium, &ScsiUnit::write_blocks},
    {kWrite10, Row::Disk | Row::Medium, &ScsiUnit::write_blocks},
    {kWrite12, Row::Disk | Row::Medium, &ScsiUnit::write_blocks},
    {kWrite16, Row::Disk | Row::Medium, &ScsiUnit::write_blocks},
    {kWriteVerify10, Row::Disk | Row::Medium, &ScsiUnit::write_blocks},
    {kWriteVerify16, Row::Disk | Row::Medium, &ScsiUnit::write_blocks},
    {kVerify10, Row::Both | Row::Medium, &ScsiUnit::verify},
    {kVerify12, Row::Both | Row::Medium, &ScsiUnit::verify},
    {kVerify16, Row::Disk | Row::Medium, &ScsiUnit::verify},
    {kSeek10, Row::Both | Row::Medium, &ScsiUnit::nothing},
    {kPrefetch10, Row::Disk | Row::Medium, &ScsiUnit::nothing},
    {kSyncCache10, Row::Disk | Row::Medium, &ScsiUnit::nothing},
    {kSyncCache16, Row::Disk | Row::Medium, &ScsiUnit::nothing},
    {kUnmap, Row::Disk | Row::Medium, &ScsiUnit::unmap},
    {kWriteSame10, Row::Disk | Row::Medium, &ScsiUnit::write_same},
    {kWriteSame16, Row::Disk | Row::Medium, &ScsiUnit::write_same},
    {kReadSubChannel, Row::Cd | Row::Medium, &ScsiUnit::read_sub_channel},
    {kReadToc, Row::Cd | Row::Medium, &ScsiUnit::read_toc},
    {kGetConfiguration, Row::Cd | Row::NoAttention, &ScsiUnit::get_configuration},
    {kGetEventStatus, Row::Cd | Row::NoAttention, &ScsiUnit::get_event_status},
    {kReadDiscInformation, Row::Cd | Row::Medium, &ScsiUnit::read_disc_information},
    {kReadTrackInformation, Row::Cd | Row::Medium, &ScsiUnit::read_track_information},
    {kReadDiscStructure, Row::Cd | Row::Medium, &ScsiUnit::read_disc_structure},
    {kMechanismStatus, Row::Cd, &ScsiUnit::mechanism_status},
    {kSetCdSpeed, Row::Cd, &ScsiUnit::nothing},
    {kReadCd, Row::Cd | Row::Medium, &ScsiUnit::read_cd},
};

ScsiUnit::ScsiUnit(Loop& loop, ScsiUnitOptions options) : options_(std::move(options)), io_(loop, options_.io) { reset(); }

const ScsiUnit::Row* ScsiUnit::find_row(u8 opcode) const {
  const u8 kind = is_cd() ? Row::Cd : Row::Disk;
  for (const Row& row : kRows)
    if (row.opcode == opcode && (row.flags & kind)) return &row;
  return nullptr;
}

/// Unit attention and the medium, in the order of SAM-5, 5.14 and SPC-4, 5.2.
bool ScsiUnit::check_unit(Command& command, const Row& row) {
  if (attention_ && !(row.flags & Row::NoAttention)) {
    command.fail(*std::exchange(attention_, std::nullopt));
    return false;
  }
  if ((row.flags & Row::Medium) && !has_medium()) {
    command.fail(tray_open_ ? kTrayOpen : kNotReadyNoMedium);
    return false;
  }
  return true;
}

void ScsiUnit::prepare(Command& command) {
  const Row* row = find_row(command.cdb[0]);
  if (!row) command.fail(kInvalidOpcode);
  else if (check_unit(command, *row)) (this->*row->prepare)(command);
  if (!command.good()) sense_ = command.sense;
}

/// What the host reports becomes the guest's sense data; the command has ended then.
Status ScsiUnit::check_failed(Command& command, const Status& status) {
  if (status) return {};
  const bool write = command.kind != Command::Kind::MediumRead;
  if (status.error().kind() == ErrorKind::Cancelled) command.fail(kAborted);
  else if (status.error().kind() == ErrorKind::NotFound) command.fail(kNotReadyNoMedium);
  else if (status.error().kind() == ErrorKind::Invalid) command.fail(kLbaOutOfRange);
  else if (status.error().os_errno() == ENOSPC) command.fail(kSpaceExhausted);
  else command.fail(write ? kWriteError : kReadError);
  sense_ = command.sense;
  return status;
}

Task<Status> ScsiUnit::transfer(Command& command, u64 offset, std::span<const iovec> buffers) {
  const u64 size = block::iovec_bytes(buffers);
  if (!range_fits(offset, size, command.bytes)) co_return check_failed(command, Error(ErrorKind::Invalid, "outside the data phase"));
  Status status;
  switch (command.kind) {
    case Command::Kind::MediumRead:
      if (command.cdb[0] == kReadCd) status = co_await transfer_raw(command, offset, buffers);
      else status = co_await io_.read(command.position + offset, buffers);
      break;
    case Command::Kind::MediumWrite: status = co_await io_.write(command.position + offset, buffers); break;
    case Command::Kind::Reply:
      if (range_fits(offset, size, command.data.size())) block::iovec_copy_to(buffers, std::span(command.data).subspan(offset, size));
      break;
    case Command::Kind::Parameters:
      if (range_fits(offset, size, command.data.size())) block::iovec_copy_from(buffers, std::span(command.data).subspan(offset, size));
      break;
  }
  co_return check_failed(command, status);
}

Task<Status> ScsiUnit::finish(Command& command) {
  if (!command.good()) co_return Status{};
  const u8 opcode = command.cdb[0];
  Status status;
  if (command.kind == Command::Kind::Parameters) {
    status = co_await finish_parameters(command);
  } else if (!is_cd() && (opcode == kSyncCache10 || opcode == kSyncCache16)) {
    status = co_await io_.flush();
  } else if (command.kind == Command::Kind::MediumWrite && opcode != kWrite6 && (command.cdb[1] & 8)) {
    status = co_await io_.flush();  // FUA
  }
  co_return check_failed(command, status);
}

Task<Status> ScsiUnit::finish_parameters(Command& command) {
  switch (command.cdb[0]) {
    case kUnmap: return is_cd() ? io_.flush() : finish_unmap(command);
    case kWriteSame10:
    case kWriteSame16: return finish_write_same(command);
    default: break;
  }
  // MODE SELECT: the header and a block descriptor before the pages.
  const bool wide = command.cdb[0] == kModeSelect10;
  const size_t header = wide ? 8 : 4;
  bool accepted = command.data.empty();
  if (command.data.size() >= header) {
    const size_t descriptors = wide ? load_be<u16>(&command.data[6]) : command.data[3];
    const auto rest = std::span<const u8>(command.data).subspan(header);
    accepted = descriptors <= rest.size() && set_mode(rest.subspan(descriptors));
  }
  if (!accepted) command.fail(kInvalidParameter);
  return [](DiskIo& io, bool flush) -> Task<Status> {
    if (flush && io.node()) co_return co_await io.flush();  // the cache may have been switched off
    co_return Status{};
  }(io_, accepted && !is_cd() && !io_.write_cache());
}

void ScsiUnit::reset() {
  attention_.reset();
  if (!options_.atapi) attention_ = kPowerOn;
  sense_ = kNoSense;
  locked_ = false;
  event_new_medium_ = event_removed_ = event_eject_request_ = false;
  io_.reset_write_cache();
}

void ScsiUnit::size_changed() {
  if (!is_cd()) attention_ = kCapacityChanged;
}

void ScsiUnit::visit(Archive& archive) {
  if (io_.has_kept()) archive.fail("disk requests that failed are waiting for another try");
  bool attention = attention_.has_value(), open = tray_open_, locked = locked_, cache = io_.write_cache();
  Sense pending = attention_.value_or(Sense{});
  archive.field(1, "attention", attention);
  archive.field(2, "attention_key", pending.key);
  archive.field(3, "attention_asc", pending.asc);
  archive.field(4, "attention_ascq", pending.ascq);
  archive.field(5, "sense_key", sense_.key);
  archive.field(6, "sense_asc", sense_.asc);
  archive.field(7, "sense_ascq", sense_.ascq);
  archive.field(8, "tray_open", open);
  archive.field(9, "locked", locked);
  archive.field(10, "event_new_medium", event_new_medium_);
  archive.field(11, "event_removed", event_removed_);
  archive.field(12, "event_eject_request", event_eject_request_);
  archive.field(13, "write_cache", cache);
  if (!archive.loading()) return;
  attention_.reset();
  if (attention) attention_ = pending;
  tray_open_ = open && is_removable();
  locked_ = locked;
  io_.set_write_cache(cache);
}

// --- the tray ---

void ScsiUnit::request_eject() { event_eject_request_ = true; }

void ScsiUnit::move_tray(bool open) {
  if (tray_open_.exchange(open) == open) return;
  if (open) {
    locked_ = false;
    event_removed_ = true;
    event_new_medium_ = false;
  } else if (io_.node()) {
    attention_ = kMediumChanged;
    event_new_medium_ = true;
    event_removed_ = false;
  }
  if (options_.on_tray) options_.on_tray(open);
}

void ScsiUnit::set_medium(block::Node* node) {
  const bool before = io_.node() != nullptr;
  io_.set_node(node);
  if (!is_removable() || tray_open_) return;
  if (node) {
    attention_ = kMediumChanged;
    event_new_medium_ = true;
  } else if (before) {
    event_removed_ = true;
  }
}

void ScsiUnit::start_stop(Command& command) {
  const bool eject = command.cdb[4] & 2, start = command.cdb[4] & 1;
  if (!eject || !is_removable()) return;
  if (!start && locked_ && !tray_open_) return command.fail(kRemovalPrevented);
  event_eject_request_ = false;
  move_tray(!start);
}

void ScsiUnit::prevent_allow(Command& command) { locked_ = is_removable() && (command.cdb[4] & 1); }

}  // namespace atl::devices
