#include "devices/legacy/tpm_crb.h"

#include "base/endian.h"
#include "base/log.h"

namespace atl::devices {
namespace {

// 6.5.3.1 and following. Offsets in the page.
enum Register : u64 { kLocState = 0x00, kLocControl = 0x08, kLocStatus = 0x0c, kInterfaceId = 0x30, kRequest = 0x40, kStatus = 0x44,
                      kCancel = 0x48, kStart = 0x4c, kCommandSize = 0x58, kCommandLow = 0x5c, kCommandHigh = 0x60, kResponseSize = 0x64,
                      kResponseLow = 0x68, kBuffer = 0x80 };
enum LocState : u32 { kEstablished = 1 << 0, kAssigned = 1 << 1, kValid = 1 << 7 };
enum LocControl : u8 { kRequestAccess = 1 << 0, kRelinquish = 1 << 1 };
constexpr u32 kGranted = 1;
enum RequestBit : u8 { kCommandReady = 1 << 0, kGoIdle = 1 << 1 };
enum StatusBit : u32 { kFatal = 1 << 0, kIdle = 1 << 1 };
// CRB interface, version 1, both interfaces' capabilities as 1.2 section 6.5.2.6 has them; vendor and device as QEMU's.
constexpr u32 kInterface = 1 | 1 << 4 | 3 << 11 | 1 << 14 | 1 << 17, kVendor = 0x1014 | 1 << 16;
constexpr size_t kHeaderBytes = 10;

}  // namespace

TpmCrb::TpmCrb(std::unique_ptr<TpmBackend> backend) : backend_(std::move(backend)) {
  Lock lock(mutex_);
  reset_registers();
}

TpmCrb::~TpmCrb() = default;

void TpmCrb::reset_registers() {
  registers_.fill(0);
  buffer_.fill(0);
  at(kLocState) = kEstablished | kValid;
  at(kInterfaceId) = kInterface;
  at(kInterfaceId + 4) = kVendor;
  at(kStatus) = kIdle;
  at(kCommandSize) = at(kResponseSize) = static_cast<u32>(buffer_.size());
  at(kCommandLow) = at(kResponseLow) = static_cast<u32>(kBase + kBuffer);
}

void TpmCrb::reset() {
  if (auto started = backend_->restart(); !started) log_error("{}", started.error().text());
  Lock lock(mutex_);
  running_ = false;
  reset_registers();
}

/// The TPM's own state stays with its process.
void TpmCrb::visit(Archive& archive) {
  Lock lock(mutex_);
  std::array<u8, sizeof registers_> raw{};
  for (size_t i = 0; i < registers_.size(); ++i) store_le(&raw[4 * i], registers_[i]);
  archive.bytes(1, "registers", raw);
  archive.bytes(2, "buffer", buffer_);
  if (!archive.loading()) return;
  for (u64 offset : {kLocState, kLocStatus, kRequest, kStatus}) at(offset) = load_le<u32>(&raw[offset]);
}

u8 TpmCrb::read_byte(u64 offset) {
  Lock lock(mutex_);
  if (offset >= kBuffer) return buffer_[offset - kBuffer];
  return static_cast<u8>(registers_[offset / 4] >> (8 * (offset % 4)));
}

void TpmCrb::write_byte(u64 offset, u8 value) {
  Lock lock(mutex_);
  if (offset < kBuffer) write_register(offset, value);
  else if (!running_ && at(kLocStatus) & kGranted) buffer_[offset - kBuffer] = value;
}

/// All bits that matter are in the lowest byte of their register.
void TpmCrb::write_register(u64 offset, u8 value) {
  if (offset == kLocControl) {
    if (value & kRequestAccess) {
      at(kLocState) |= kAssigned;
      at(kLocStatus) |= kGranted;
    }
    if (value & kRelinquish) {
      at(kLocState) &= ~u32{kAssigned};
      at(kLocStatus) &= ~kGranted;
    }
  }
  if (!(at(kLocStatus) & kGranted) || running_) return;
  if (offset == kRequest && value & kCommandReady) at(kStatus) &= ~u32{kIdle};
  if (offset == kRequest && value & kGoIdle) {
    at(kStatus) |= kIdle;
    buffer_.fill(0);
  }
  if (offset == kStart && value & 1) start_command();
}

/// A command that says it is longer than the buffer is an error of the interface.
void TpmCrb::start_command() {
  const size_t size = load_be<u32>(&buffer_[2]);
  if (size < kHeaderBytes || size > buffer_.size()) {
    at(kStatus) |= kFatal;
    return;
  }
  running_ = true;
  at(kStart) = 1;
  backend_->execute({buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(size)}, [this](std::vector<u8> response) { finish(std::move(response)); });
}

void TpmCrb::finish(std::vector<u8> response) {
  std::vector<std::function<void()>> done;
  {
    Lock lock(mutex_);
    if (!running_) return;  // the machine was reset meanwhile
    running_ = false;
    at(kStart) = 0;
    if (response.empty() || response.size() > buffer_.size()) at(kStatus) |= kFatal;
    else std::copy(response.begin(), response.end(), buffer_.begin());
    done.swap(waiting_);
  }
  for (auto& call : done) call();
}

void TpmCrb::quiesce(std::function<void()> done) {
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
