#include "devices/legacy/ich9_smi.h"

#include "base/endian.h"

namespace atl::devices {
namespace {

enum SmiEnable : u32 { kGlobal = 1 << 0, kCommandPort = 1 << 5 };
constexpr u32 kCommandStatus = 1 << 5;
constexpr u64 kBroadcast = 1 << 0, kSupported = kBroadcast;

std::vector<u8> bytes_of(u64 value) {
  std::vector<u8> out(8);
  store_le(out.data(), value);
  return out;
}

u32 with_byte(u32 old, u8 value, u64 offset) {
  const unsigned shift = 8 * (offset & 3);
  return (old & ~(u32{0xff} << shift)) | u32{value} << shift;
}

}  // namespace

Ich9Smi::Ich9Smi(std::function<void(bool)> raise) : raise_(std::move(raise)) { reset(); }

void Ich9Smi::reset() {
  requested_ = negotiated_ = 0;
  features_ok_ = false;
  Lock lock(mutex_);
  enable_ = raise_ ? 0 : u32{kCommandPort};
  status_ = 0;
  locked_ = false;
}

void Ich9Smi::visit(Archive& archive) {
  u64 requested = requested_, negotiated = negotiated_;
  bool ok = features_ok_;
  archive.field(1, "requested", requested);
  archive.field(2, "negotiated", negotiated);
  archive.field(3, "features_ok", ok);
  if (archive.loading()) {
    requested_ = requested;
    negotiated_ = negotiated & kSupported;
    features_ok_ = ok;
  }
  Lock lock(mutex_);
  archive.field(4, "enable", enable_);
  archive.field(5, "status", status_);
  archive.field(6, "locked", locked_);
}

u8 Ich9Smi::read_byte(u64 offset) {
  Lock lock(mutex_);
  return static_cast<u8>((offset < 4 ? enable_ : status_) >> 8 * (offset & 3));
}

void Ich9Smi::write_byte(u64 offset, u8 value) {
  Lock lock(mutex_);
  if (offset >= 4) {
    status_ &= ~with_byte(0, value, offset);  // write one to clear
    return;
  }
  if (!raise_) return;
  const u32 kept = locked_ ? enable_ & kGlobal : 0;
  enable_ = with_byte(enable_, value, offset);
  if (locked_) enable_ = (enable_ & ~u32{kGlobal}) | kept;
}

void Ich9Smi::command_written() {
  {
    Lock lock(mutex_);
    constexpr u32 kBoth = kGlobal | kCommandPort;
    if (!raise_ || (enable_ & kBoth) != kBoth) return;
    status_ |= kCommandStatus;
  }
  raise_(negotiated_ & kBroadcast);
}

void Ich9Smi::set_locked(bool locked) {
  Lock lock(mutex_);
  locked_ |= locked;
}

void Ich9Smi::offer_features(FwCfg& config) {
  if (!raise_) return;
  config.add_file("etc/smi/supported-features", bytes_of(kSupported));
  config.add_live_file("etc/smi/requested-features",
                       {.size_bytes = 8,
                        .read = [this] { return bytes_of(requested_); },
                        .written = [this](std::span<const u8> data) { requested_ = load_le<u64>(data.data()); }});
  config.add_live_file("etc/smi/features-ok", {.size_bytes = 1, .read = [this] { return check_features(); }, .written = {}});
}

/// Asked for, the answer is final until reset.
std::vector<u8> Ich9Smi::check_features() {
  const u64 requested = requested_;
  if (!features_ok_ && (requested & ~kSupported) == 0) {
    negotiated_ = requested;
    features_ok_ = true;
  }
  return {static_cast<u8>(features_ok_)};
}

}  // namespace atl::devices
