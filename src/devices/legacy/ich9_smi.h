// System management interrupts of the ICH9 (Intel 316972, sections 13.8.3.13 and 13.8.3.14): SMI_EN and SMI_STS, which stand at PMBASE +
// 0x30, and how QEMU's firmware asks by fw_cfg that a write to the command port 0xb2 interrupts all processors (docs/specs/smi of
// QEMU: etc/smi/supported-features, requested-features, features-ok; bit 0: broadcast).
// Supported: the command port's interrupt, GBL_SMI_EN's lock. Missing: all other sources; CPU hotplug.
//
// Threads: registers from vCPU threads; one mutex. The fw_cfg part takes no lock.
#pragma once

#include <atomic>
#include <functional>

#include "base/sync.h"
#include "devices/device.h"
#include "devices/legacy/byte_ports.h"
#include "devices/legacy/fw_cfg.h"

namespace atl::devices {

class Ich9Smi final : public Device, public BytePorts {
 public:
  static constexpr u64 kPorts = 8;

  /// `raise` interrupts the first processor or all; empty: there is no system management mode, and SMI_EN says that it is set up, so
  /// that firmware leaves it alone.
  explicit Ich9Smi(std::function<void(bool all)> raise);
  std::string_view type() const override { return "ich9-smi"; }
  void reset() override;
  void visit(Archive& archive) override;

  u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  /// A write to port 0xb2.
  void command_written();
  /// GEN_PMCON_1.SMI_LOCK: GBL_SMI_EN keeps its value until reset.
  void set_locked(bool locked);
  /// Adds the files of the negotiation; before the vCPUs run.
  void offer_features(FwCfg& config);

 private:
  std::vector<u8> check_features();

  const std::function<void(bool)> raise_;
  std::atomic<u64> requested_ = 0, negotiated_ = 0;
  std::atomic<bool> features_ok_ = false;
  Mutex mutex_;
  u32 enable_ GUARDED_BY(mutex_) = 0, status_ GUARDED_BY(mutex_) = 0;
  bool locked_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
