#include "devices/legacy/tpm_tis.h"

#include <bit>

#include "base/endian.h"
#include "base/log.h"

namespace atl::devices {
namespace {

// Offsets in a locality's page (6.5.2, table 13).
enum Register : u64 { kAccess = 0x00, kCapability = 0x14, kStatus = 0x18, kFifo = 0x24, kInterfaceId = 0x30, kFastFifo = 0x80, kVendor = 0xf00, kRevision = 0xf04 };
enum Access : u8 { kNotEstablished = 1 << 0, kRequestUse = 1 << 1, kPending = 1 << 2, kSeize = 1 << 3, kSeized = 1 << 4, kActive = 1 << 5, kAccessValid = 1 << 7 };
enum Status : u32 { kRetry = 1 << 1, kSelfTested = 1 << 2, kExpect = 1 << 3, kDataAvailable = 1 << 4, kGo = 1 << 5, kCommandReady = 1 << 6,
                    kStatusValid = 1 << 7, kFamily2 = 1 << 26 };
constexpr unsigned kBurstShift = 8;
constexpr u32 kMaxBurst = 0xffff;
// Interface version 1.3, transfers of 64 bytes; FIFO of a TPM 2.0 with five localities.
constexpr u32 kCapabilities = 3u << 28 | 3 << 9, kInterface = 1 << 13 | 1 << 8, kVendorAndDevice = 0x1014 | 1 << 16;
constexpr size_t kHeaderBytes = 10;

/// TPM_RC_FAILURE, without a session.
std::vector<u8> failure() { return {0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01}; }

}  // namespace

TpmTis::~TpmTis() = default;

void TpmTis::forget() {
  state_ = State::Idle;
  active_ = kNobody;
  requests_ = seized_ = 0;
  buffer_.clear();
  taken_ = 0;
}

void TpmTis::reset() {
  if (auto started = backend_->restart(); !started) log_error("{}", started.error().text());
  Lock lock(mutex_);
  running_ = false;
  ++command_;
  forget();
}

/// The TPM's own state stays with its process.
void TpmTis::visit(Archive& archive) {
  Lock lock(mutex_);
  if (archive.loading()) forget();
  u64 taken = taken_;
  archive.field(1, "state", state_);
  archive.field(2, "active", active_);
  archive.field(3, "requests", requests_);
  archive.field(4, "seized", seized_);
  archive.blob(5, "buffer", buffer_, kBufferBytes);
  archive.field(6, "taken", taken);
  if (!archive.loading()) return;
  const bool sane = state_ <= State::Completion && state_ != State::Execution && (active_ < kLocalities || active_ == kNobody) && taken <= buffer_.size();
  if (!sane) {
    forget();
    return archive.fail("the TPM's registers make no sense");
  }
  taken_ = taken;
}

u8 TpmTis::access_of(u8 locality) const {
  const u8 own = static_cast<u8>(1 << locality);
  u8 value = kAccessValid | kNotEstablished;
  if (active_ == locality) value |= kActive;
  if (requests_ & own) value |= kRequestUse;
  if (requests_ & ~own) value |= kPending;
  if (seized_ & own) value |= kSeized;
  return value;
}

/// Whoever has it now gets the TPM in idle state.
void TpmTis::hand_over(u8 locality) {
  active_ = locality;
  if (locality != kNobody) requests_ &= static_cast<u8>(~(1 << locality));
  if (state_ != State::Execution) state_ = State::Idle;
}

void TpmTis::write_access(u8 locality, u8 value) {
  const u8 own = static_cast<u8>(1 << locality);
  if (value & kSeized) seized_ &= static_cast<u8>(~own);
  if (value & kActive) {
    requests_ &= static_cast<u8>(~own);
    if (active_ == locality) hand_over(requests_ ? static_cast<u8>(std::bit_width(requests_) - 1) : kNobody);
  } else if (value & kSeize && active_ != kNobody && locality > active_) {
    seized_ |= static_cast<u8>(1 << active_);
    hand_over(locality);
  } else if (value & kRequestUse && active_ != locality) {
    if (active_ == kNobody) hand_over(locality);
    else requests_ |= own;
  }
}

size_t TpmTis::command_bytes() const { return buffer_.size() >= 6 ? load_be<u32>(&buffer_[2]) : 0; }

u32 TpmTis::status() const {
  u32 value = kFamily2 | kSelfTested | kStatusValid;
  size_t burst = 0;
  switch (state_) {
    case State::Idle:
    case State::Execution: break;
    case State::Ready:
      value |= kCommandReady;
      burst = kBufferBytes;
      break;
    case State::Reception:
      if (buffer_.size() < kHeaderBytes || buffer_.size() < command_bytes()) value |= kExpect;
      burst = kBufferBytes - buffer_.size();
      break;
    case State::Completion:
      if (taken_ < buffer_.size()) value |= kDataAvailable;
      burst = buffer_.size() - taken_;
      break;
  }
  return value | std::min(static_cast<u32>(burst), kMaxBurst) << kBurstShift;
}

void TpmTis::write_status(u8 value) {
  if (state_ == State::Execution) return;  // there is no way to stop it
  if (value & kCommandReady) {
    state_ = State::Ready;
    buffer_.clear();
    taken_ = 0;
  } else if (value & kGo) {
    if (state_ == State::Reception && !(status() & kExpect)) start_command();
  } else if (value & kRetry && state_ == State::Completion) {
    taken_ = 0;
  }
}

void TpmTis::add_byte(u8 value) {
  if (state_ == State::Ready) state_ = State::Reception;
  if (state_ != State::Reception || buffer_.size() == kBufferBytes || !(status() & kExpect)) return;
  buffer_.push_back(value);
}

u8 TpmTis::take_byte() { return state_ == State::Completion && taken_ < buffer_.size() ? buffer_[taken_++] : 0xff; }

u8 TpmTis::read_byte(u64 offset) {
  const u8 locality = static_cast<u8>(offset >> 12);
  const u64 at = offset & 0xfff, byte = 8 * (at & 3);
  Lock lock(mutex_);
  const bool mine = locality == active_;
  switch (at & ~u64{3}) {
    case kAccess: return at == kAccess ? access_of(locality) : 0;
    case kCapability: return static_cast<u8>(kCapabilities >> byte);
    case kStatus: return mine ? static_cast<u8>(status() >> byte) : 0xff;
    case kFifo:
    case kFastFifo: return mine ? take_byte() : 0xff;
    case kInterfaceId: return static_cast<u8>(kInterface >> byte);
    case kVendor: return static_cast<u8>(kVendorAndDevice >> byte);
    case kRevision: return at == kRevision;
    default: return 0;
  }
}

void TpmTis::write_byte(u64 offset, u8 value) {
  const u8 locality = static_cast<u8>(offset >> 12);
  const u64 at = offset & 0xfff;
  Lock lock(mutex_);
  if (at == kAccess) return write_access(locality, value);
  if (locality != active_) return;
  if (at == kStatus) write_status(value);
  if ((at & ~u64{3}) == kFifo || (at & ~u64{3}) == kFastFifo) add_byte(value);
}

void TpmTis::start_command() {
  state_ = State::Execution;
  running_ = true;
  backend_->execute(buffer_, [this, number = ++command_](std::vector<u8> response) {
    {
      Lock lock(mutex_);
      if (number != command_) return;  // the machine was reset meanwhile
    }
    finish(std::move(response));
  });
}

void TpmTis::finish(std::vector<u8> response) {
  std::vector<std::function<void()>> done;
  {
    Lock lock(mutex_);
    if (!running_) return;
    running_ = false;
    const bool fits = response.size() >= kHeaderBytes && response.size() <= kBufferBytes;
    buffer_ = fits ? std::move(response) : failure();
    taken_ = 0;
    state_ = active_ == kNobody ? State::Idle : State::Completion;
    done.swap(waiting_);
  }
  for (auto& call : done) call();
}

void TpmTis::quiesce(std::function<void()> done) {
  {
    Lock lock(mutex_);
    if (running_) {
      waiting_.push_back(std::move(done));
      return;
    }
  }
  done();
}

}  // namespace atl::devices
