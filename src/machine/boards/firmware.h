// A firmware image (SeaBIOS, OVMF) at the top of 4 GiB, and the fw_cfg items that it reads: memory map, ACPI tables, boot
// order, kernel.
#pragma once

#include <memory>
#include <optional>

#include "devices/legacy/fw_cfg.h"
#include "machine/acpi/tables.h"
#include "machine/boards/board.h"
#include "machine/loaders/kernel.h"

namespace atl::machine {

using BootOrder = std::map<u32, std::string>;
/// Adds a device's path; the error says that the index is taken.
Status add_to_boot_order(BootOrder& order, const PlugRequest& request, std::string path);

class Firmware {
 public:
  /// `name` is a path, or the name of a file in the places where distributions put firmware.
  static Result<std::unique_ptr<Firmware>> create(const BoardContext& context, const RamLayout& ram, const std::string& name,
                                                  const std::optional<DirectBoot>& kernel);

  devices::FwCfg& config_device() { return config_; }
  /// Copies the image's end below 1 MiB, as at power-on, and offers the tables. The first processor starts at reset.
  Result<BootEntry> load(const std::optional<AcpiBlob>& acpi);
  void offer_acpi(const AcpiBlob& blob);
  /// `devices` are Open Firmware paths by boot index.
  void offer_boot_order(const BootOrder& devices);

 private:
  Firmware(const BoardContext& context) : context_(context), config_(context.memory) {}
  Status map_image(const std::string& name);
  Status offer_configuration(const RamLayout& ram);
  Status offer_option_rom(const std::string& name);
  Status offer_kernel(const DirectBoot& kernel, const RamLayout& ram);

  const BoardContext context_;
  devices::FwCfg config_;
  std::shared_ptr<memory::RamBlock> rom_;
  u64 image_bytes_ = 0;
};

/// What the CMOS tells firmware about memory, processors and the order of boot devices ("cdn").
struct CmosSettings {
  RamLayout ram;
  u32 cpus = 1;
  std::string boot_order;
};
std::vector<std::pair<u8, u8>> cmos_values(const CmosSettings& settings);

}  // namespace atl::machine
