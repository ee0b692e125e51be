// A firmware image (SeaBIOS, OVMF) at the top of 4 GiB, in ROM or flash, and the fw_cfg items that it reads: memory map, ACPI tables, boot
// order, kernel.
#pragma once

#include <memory>
#include <optional>

#include "devices/legacy/fw_cfg.h"
#include "machine/acpi/tables.h"
#include "machine/boards/board.h"
#include "machine/boards/flash.h"
#include "machine/loaders/kernel.h"

namespace atl::machine {

using BootOrder = std::map<u32, std::string>;
/// Adds a device's path; the error says that the index is taken.
Status add_to_boot_order(BootOrder& order, std::optional<u32> index, std::string path);

class Firmware {
 public:
  /// `name` is a path, or the name of a file in the places where distributions put firmware.
  static Result<std::unique_ptr<Firmware>> create(const BoardContext& context, const RamLayout& ram, const std::string& name,
                                                  const std::optional<DirectBoot>& kernel);

  /// Whether the firmware `name`, with the option ROM that it needs, is there and can start this kernel.
  static bool can_start(const std::string& name, const DirectBoot& kernel);

  devices::FwCfg& config_device() { return config_; }
  /// fw_cfg and the flash chips.
  std::vector<devices::Device*> devices();
  /// Copies the image's end below 1 MiB, as at power-on, and offers the tables. The first processor starts at reset.
  Result<BootEntry> load(const std::optional<AcpiBlob>& acpi);
  void offer_acpi(const AcpiBlob& blob);
  /// `devices` are Open Firmware paths by boot index.
  void offer_boot_order(const BootOrder& devices);

 private:
  Firmware(const BoardContext& context) : context_(context), config_(context.memory) {}
  Status map_image(const std::string& name);
  Status map_flash();
  Status offer_configuration(const RamLayout& ram);
  Status offer_files();
  Status offer_option_rom(const std::string& folder, const std::string& name);
  Status offer_kernel(const DirectBoot& kernel, const RamLayout& ram);

  const BoardContext context_;
  devices::FwCfg config_;
  u64 tables_bytes_ = 0, script_bytes_ = 0;  // of the files that give the ACPI tables
  bool kernel_rom_ = false;                  // the option ROM that loads -kernel is offered
  std::unique_ptr<SystemFlash> flash_;       // or
  std::shared_ptr<memory::RamBlock> rom_;    // what is at the top of 4 GiB, in flash too
};

/// What the CMOS tells firmware about memory, processors and the order of boot devices ("cdn").
struct CmosSettings {
  RamLayout ram;
  u32 cpus = 1;
  std::string boot_order = "cad";
  bool floppy_check = true;
};
std::vector<std::pair<u8, u8>> cmos_values(const CmosSettings& settings);
/// The types and geometries of up to four IDE disks, 0 sectors: none.
std::vector<std::pair<u8, u8>> disk_cmos_values(std::span<const u64> sectors);

}  // namespace atl::machine
