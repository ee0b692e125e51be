// The command response buffer interface of a TPM 2.0 (TCG PC Client Platform TPM Profile 1.05, section 6.5.3): registers and
// buffer in one page at 0xfed40000.
// Supported: locality 0, idle and ready states, commands and responses of up to 3968 bytes, TPM2 ACPI table by start method 7.
// Missing: cancellation, interrupts, other localities.
//
// Threads: registers from vCPU threads, responses from the back end's thread; one mutex.
#pragma once

#include <array>
#include <memory>

#include "base/sync.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/tpm_backend.h"

namespace atl::devices {

class TpmCrb final : public Device, public BytePorts {
 public:
  static constexpr GuestAddr kBase = 0xfed40000;
  static constexpr u64 kBytes = 0x1000;
  static constexpr u64 kControlArea = 0x40;  // what the TPM2 table points at

  explicit TpmCrb(std::unique_ptr<TpmBackend> backend);
  ~TpmCrb() override;

  std::string_view type() const override { return "tpm-crb"; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;

 private:
  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  void write_register(u64 offset, u8 value) REQUIRES(mutex_);
  void start_command() REQUIRES(mutex_);
  void finish(std::vector<u8> response);
  u32& at(u64 offset) REQUIRES(mutex_) { return registers_[offset / 4]; }
  void reset_registers() REQUIRES(mutex_);

  const std::unique_ptr<TpmBackend> backend_;
  Mutex mutex_;
  std::array<u32, 32> registers_ GUARDED_BY(mutex_){};   // up to the buffer
  std::array<u8, kBytes - 0x80> buffer_ GUARDED_BY(mutex_){};
  bool running_ GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> waiting_ GUARDED_BY(mutex_);
};

}  // namespace atl::devices
