// QEMU's firmware configuration device (docs/specs/fw_cfg): named and numbered blobs that firmware reads, at ports 0x510
// (selector), 0x511 (data) and 0x514 (DMA address).
// Supported: numbered items, the file directory, the DMA interface with select, read, skip, and write where an item allows it.
// Threads: registers from vCPU threads; items are added before the first one runs. One mutex.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "devices/device.h"
#include "memory/address_space.h"

namespace atl::devices {

class FwCfg final : public Device, public memory::BusDevice {
 public:
  static constexpr u64 kPorts = 12;  // 0x510 to 0x51b

  /// Numbers of the fixed items.
  enum Key : u16 {
    kSignature = 0x00, kId = 0x01, kUuid = 0x02, kRamSize = 0x03, kNoGraphic = 0x04, kCpuCount = 0x05,
    kKernelAddr = 0x07, kKernelSize = 0x08, kInitrdAddr = 0x0a, kInitrdSize = 0x0b, kBootMenu = 0x0e, kMaxCpus = 0x0f,
    kKernelData = 0x11, kInitrdData = 0x12, kCmdlineAddr = 0x13, kCmdlineSize = 0x14, kCmdlineData = 0x15,
    kSetupAddr = 0x16, kSetupSize = 0x17, kSetupData = 0x18, kFileDirectory = 0x19, kFirstFile = 0x20,
    kIrq0Override = 0x8002,
  };

  explicit FwCfg(memory::AddressSpace& memory);

  std::string_view type() const override { return "fw_cfg"; }
  void reset() override;
  void visit(Archive& archive) override;

  void add(u16 key, std::vector<u8> data);
  void add_u16(u16 key, u16 value);
  void add_u32(u16 key, u32 value);
  /// A named file; names have at most 55 characters. Adding a name again replaces its data.
  void add_file(const std::string& name, std::vector<u8> data);

  /// A file whose data some other object has. Called on vCPU threads, under this device's mutex: they take no lock.
  struct LiveFile {
    size_t size_bytes = 0;
    std::function<std::vector<u8>()> read;                    // when the item is selected, that many bytes
    std::function<void(std::span<const u8> data)> written;    // the whole file; empty: the guest may not write
  };
  void add_live_file(const std::string& name, LiveFile file);

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

 private:
  struct DmaRequest {
    u32 control = 0;
    u32 length = 0;
    u64 address = 0;
  };

  void publish_directory() REQUIRES(mutex_);
  u8 next_byte() REQUIRES(mutex_);
  const std::vector<u8>* selected() const REQUIRES(mutex_);
  void select(u16 key) REQUIRES(mutex_);
  void run_dma(u64 request_address) REQUIRES(mutex_);
  bool execute(const DmaRequest& request, const memory::GuestMemory& memory) REQUIRES(mutex_);
  bool write_from(const memory::GuestMemory& memory, const DmaRequest& request) REQUIRES(mutex_);
  bool read_to(const memory::GuestMemory& memory, const DmaRequest& request) REQUIRES(mutex_);

  memory::AddressSpace& memory_;
  Mutex mutex_;
  std::map<u16, std::vector<u8>> items_ GUARDED_BY(mutex_);
  std::map<std::string, u16> files_ GUARDED_BY(mutex_);
  std::map<u16, LiveFile> live_ GUARDED_BY(mutex_);
  u16 selector_ GUARDED_BY(mutex_) = 0;
  u64 offset_ GUARDED_BY(mutex_) = 0;
  u32 dma_high_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
