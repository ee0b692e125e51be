// The FIFO interface of a TPM 2.0 (TCG PC Client Platform TPM Profile 1.05, section 6.5.2; "TIS 1.3"): five localities of one page each
// from 0xfed40000 on.
// Supported: requesting, seizing and relinquishing localities, commands and responses of up to 4096 bytes, response retry, the ACPI
// device and TPM2 table by start method 6. Missing: interrupts, cancellation of a command.
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

class TpmTis final : public Device, public BytePorts {
 public:
  static constexpr GuestAddr kBase = 0xfed40000;
  static constexpr u64 kBytes = 0x5000;

  explicit TpmTis(std::unique_ptr<TpmBackend> backend) : backend_(std::move(backend)) {}
  ~TpmTis() override;

  std::string_view type() const override { return "tpm-tis"; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;

 private:
  static constexpr u8 kLocalities = 5, kNobody = 0xff;
  static constexpr size_t kBufferBytes = 4096;
  enum class State : u8 { Idle, Ready, Reception, Execution, Completion };

  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  u8 access_of(u8 locality) const REQUIRES(mutex_);
  void write_access(u8 locality, u8 value) REQUIRES(mutex_);
  u32 status() const REQUIRES(mutex_);
  void write_status(u8 value) REQUIRES(mutex_);
  u8 take_byte() REQUIRES(mutex_);
  void add_byte(u8 value) REQUIRES(mutex_);
  /// Bytes of the command as its header says; 0 as long as that is unknown.
  size_t command_bytes() const REQUIRES(mutex_);
  void hand_over(u8 locality) REQUIRES(mutex_);
  void start_command() REQUIRES(mutex_);
  void finish(std::vector<u8> response);
  void forget() REQUIRES(mutex_);

  const std::unique_ptr<TpmBackend> backend_;
  Mutex mutex_;
  State state_ GUARDED_BY(mutex_) = State::Idle;
  u8 active_ GUARDED_BY(mutex_) = kNobody;
  u8 requests_ GUARDED_BY(mutex_) = 0, seized_ GUARDED_BY(mutex_) = 0;  // a bit a locality
  std::vector<u8> buffer_ GUARDED_BY(mutex_);                            // command or response
  size_t taken_ GUARDED_BY(mutex_) = 0;                                  // of the response
  u64 command_ GUARDED_BY(mutex_) = 0;                                   // number of the one under way
  bool running_ GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> waiting_ GUARDED_BY(mutex_);
};

}  // namespace atl::devices
