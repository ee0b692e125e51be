#include "devices/usb/storage.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices::usb {
namespace {

constexpr u8 kInEndpoint = 1, kOutEndpoint = 2;
constexpr u8 kScsiTransparent = 6, kBulkOnly = 0x50;
constexpr u16 kVendor = 0x46f4, kProduct = 0x0001;  // QEMU's
enum ClassRequest : u16 { kReset = 0x21ff, kGetMaxLun = 0xa1fe };

// Command block wrapper (5.1) and status wrapper (5.2).
constexpr u32 kCommandSignature = 0x43425355, kStatusSignature = 0x53425355;
constexpr size_t kCommandBytes = 31, kStatusBytes = 13;
constexpr u8 kPassed = 0, kFailed = 1, kPhaseError = 2;
constexpr u64 kChunk = 64 * kKiB;

}  // namespace

Storage::Storage(std::unique_ptr<ScsiUnit> unit, std::string serial)
    : unit_(std::move(unit)), serial_(std::move(serial)), loop_(unit_->io().loop()) {}

Storage::~Storage() {
  *alive_ = false;
  unit_->io().drop_kept();
}

std::string Storage::text(u8 number) const {
  switch (number) {
    case 1: return "QEMU";
    case 2: return "QEMU USB HARDDRIVE";
    case 3: return serial_.empty() ? "1-0000:00:00.0-1" : serial_;
    default: return {};
  }
}

Descriptors Storage::describe(Speed speed) const {
  const bool high = speed == Speed::High;
  const u16 packet = high ? 512 : 64;
  Descriptors d;
  d.device = {18, kDescriptorDevice, 0x00, static_cast<u8>(high ? 2 : 1), 0, 0, 0, static_cast<u8>(high ? 64 : 8), kVendor & 0xff, kVendor >> 8,
              kProduct & 0xff, kProduct >> 8, 0, 0, 1, 2, 3, 1};
  std::vector<u8> body = interface_descriptor({kClassStorage, kScsiTransparent, kBulkOnly}, 2);
  for (u8 address : {u8{kDirectionIn | kInEndpoint}, kOutEndpoint}) {
    const EndpointSpec endpoint = {address, kEndpointBulk, packet, 0};
    std::ranges::copy(endpoint_descriptor(endpoint), std::back_inserter(body));
  }
  d.configuration = configuration_descriptor(kAttributeSelfPowered, 0, body);
  return d;
}

Outcome Storage::control(const Setup& setup, std::span<u8> data) {
  switch (setup.code()) {
    case kReset: {
      Lock lock(mutex_);
      forget();
      return {};
    }
    case kGetMaxLun:
      if (data.empty()) return {};
      data[0] = 0;
      return {Answer::Ok, 1};
    default: return {Answer::Stall, 0};
  }
}

void Storage::reset_state() {
  Lock lock(mutex_);
  forget();
}

/// What the loop works on ends unheard.
void Storage::forget() {
  phase_ = Phase::Command;
  seen_ = 0;
  forgotten_ = busy_;
  if (busy_) return;
  buffer_.clear();
  given_ = total_ = moved_ = 0;
}

Outcome Storage::data_out(u8 endpoint, std::span<const u8> data) {
  Lock lock(mutex_);
  if (endpoint != kOutEndpoint || phase_ == Phase::Broken) return {Answer::Stall, 0};
  if (busy_) return {Answer::Nak, 0};
  if (phase_ == Phase::Command) return take_command(data);
  if (phase_ == Phase::DataOut) return take_data(data);
  return {Answer::Stall, 0};
}

Outcome Storage::data_in(u8 endpoint, std::span<u8> buffer) {
  Lock lock(mutex_);
  if (endpoint != kInEndpoint || phase_ == Phase::Broken) return {Answer::Stall, 0};
  if (busy_ || phase_ == Phase::Command) return {Answer::Nak, 0};
  if (phase_ == Phase::DataIn) return give_data(buffer);
  if (phase_ == Phase::Status) return give_status(buffer);
  return {Answer::Stall, 0};
}

/// One that is not valid stops both pipes until a reset (6.6.1).
Outcome Storage::take_command(std::span<const u8> block) {
  const bool valid = block.size() == kCommandBytes && load_le<u32>(&block[0]) == kCommandSignature && block[13] == 0 && block[14] >= 1 && block[14] <= 16;
  if (!valid) {
    phase_ = Phase::Broken;
    return {Answer::Stall, 0};
  }
  tag_ = load_le<u32>(&block[4]);
  host_bytes_ = load_le<u32>(&block[8]);
  host_reads_ = block[12] & 0x80;
  command_ = {};
  std::copy_n(&block[15], block[14], command_.cdb.begin());
  buffer_.clear();
  given_ = seen_ = total_ = moved_ = 0;
  status_ = kPassed;
  start(Work::Begin);
  return {Answer::Ok, kCommandBytes};
}

void Storage::start(Work work) {
  busy_ = true;
  loop_.post([this, alive = alive_, work] {
    if (*alive) run(work);
  });
}

Detached Storage::run(Work work) {
  if (work == Work::Begin) {
    unit_->prepare(command_);
    if (command_.good() && command_.bytes == 0) static_cast<void>(co_await unit_->finish(command_));
  } else {
    const u64 before = work == Work::Fetch ? buffer_.size() : 0;
    if (work == Work::Fetch) buffer_.resize(before + std::min(kChunk, total_ - moved_));
    const iovec part = {buffer_.data() + before, buffer_.size() - before};
    const std::vector<iovec> parts = {part};
    static_cast<void>(co_await unit_->transfer(command_, moved_, parts));
    if (command_.good()) moved_ += part.iov_len;
    if (command_.good() && moved_ == total_) static_cast<void>(co_await unit_->finish(command_));
    if (work == Work::Fetch && !command_.good() && moved_ != total_) buffer_.resize(before);
    if (work == Work::Store) buffer_.clear();
  }
  if (!command_.good()) unit_->note_sense(command_.sense);
  finished(work);
}

void Storage::finished(Work work) {
  {
    Lock lock(mutex_);
    busy_ = false;
    if (std::exchange(forgotten_, false)) {
      forget();
    } else {
      if (work == Work::Begin) choose_phase();
      if (!command_.good()) {
        if (status_ == kPassed) status_ = kFailed;
        total_ = moved_;  // no more of it
      }
      if (phase_ == Phase::DataOut && seen_ == host_bytes_) phase_ = Phase::Status;
    }
  }
  wake();
}

/// By what the host announced, and what the command wants (6.7).
void Storage::choose_phase() {
  using Direction = scsi::Command::Direction;
  const u64 wanted = command_.good() ? command_.bytes : 0;
  const bool device_sends = command_.direction == Direction::FromDevice;
  phase_ = host_bytes_ == 0 ? Phase::Status : host_reads_ ? Phase::DataIn : Phase::DataOut;
  if (wanted == 0) return;
  const bool agree = host_bytes_ != 0 && device_sends == host_reads_ && (device_sends || wanted <= host_bytes_);
  if (agree) total_ = std::min<u64>(wanted, host_bytes_);
  else status_ = kPhaseError;
}

Outcome Storage::take_data(std::span<const u8> data) {
  const u64 fits = std::min<u64>(data.size(), host_bytes_ - seen_);
  const u64 useful = std::min(fits, total_ - moved_ - std::min(total_ - moved_, u64{buffer_.size()}));
  buffer_.insert(buffer_.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(useful));
  seen_ += fits;
  const bool all = moved_ + buffer_.size() == total_;
  if (!buffer_.empty() && (all || buffer_.size() >= kChunk)) start(Work::Store);
  else if (seen_ == host_bytes_) phase_ = Phase::Status;
  return {Answer::Ok, data.size()};
}

/// A packet that is not full ends the transfer, so it must be the last one.
Outcome Storage::give_data(std::span<u8> buffer) {
  if (left_in_buffer() < buffer.size() && moved_ < total_) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(given_));
    given_ = 0;
    start(Work::Fetch);
    return {Answer::Nak, 0};
  }
  const u64 bytes = std::min<u64>(left_in_buffer(), buffer.size());
  std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(given_), bytes, buffer.begin());
  given_ += bytes;
  seen_ += bytes;
  if (bytes < buffer.size() || seen_ >= host_bytes_) phase_ = Phase::Status;
  return {Answer::Ok, bytes};
}

Outcome Storage::give_status(std::span<u8> buffer) {
  if (buffer.size() < kStatusBytes) return {Answer::Babble, 0};
  store_le(&buffer[0], kStatusSignature);
  store_le(&buffer[4], tag_);
  store_le(&buffer[8], static_cast<u32>(host_bytes_ - std::min<u64>(moved_, host_bytes_)));
  buffer[12] = status_;
  phase_ = Phase::Command;
  return {Answer::Ok, kStatusBytes};
}

void Storage::visit_state(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "phase", phase_);
  archive.field(2, "tag", tag_);
  archive.field(3, "host_bytes", host_bytes_);
  archive.field(4, "host_reads", host_reads_);
  archive.field(5, "status", status_);
  archive.field(6, "seen", seen_);
  archive.field(7, "given", given_);
  archive.field(8, "total", total_);
  archive.field(9, "moved", moved_);
  archive.blob(10, "buffer", buffer_, 4 * kMiB);
  archive.part(11, "command", [this](Archive& part) { command_.visit(part); });
  archive.part(12, "unit", [this](Archive& part) { unit_->visit(part); });
  if (!archive.loading()) return;
  const bool sane = phase_ <= Phase::Broken && given_ <= buffer_.size() && moved_ <= total_ && total_ <= host_bytes_ && seen_ <= host_bytes_;
  if (sane) return;
  busy_ = false;
  forget();
  archive.fail("a USB disk's transfer is in no possible state");
}

void Storage::Pausable::reset() {
  owner_.loop_.post([alive = owner_.alive_, owner = &owner_] {
    if (!*alive) return;
    owner->unit_->io().drop_kept();
    owner->unit_->reset();
  });
}

void Storage::Pausable::quiesce(std::function<void()> done) {
  owner_.loop_.post([alive = owner_.alive_, owner = &owner_, done = std::move(done)] {
    if (!*alive) return done();
    when_all_idle({&owner->unit_->io()}, done);
  });
}

void Storage::Pausable::resume() {
  owner_.loop_.post([alive = owner_.alive_, owner = &owner_] {
    if (*alive) owner->unit_->io().retry_kept();
  });
}

}  // namespace atl::devices::usb
