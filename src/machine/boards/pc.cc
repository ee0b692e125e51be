// Boards "pc" and "q35": Intel 440FX with PIIX3/PIIX4, and Q35 with ICH9 (pci_chipset.h), with the order of devices that
// QEMU's machines of these names have. This is "pc":
//   00.0 host bridge   01.0 ISA bridge   01.1 IDE   01.3 power management   from 02.0 on what -device brings
//   ports  0x60, 0x64 keyboard controller   0x70 clock   0x92 reset   0xb2 SMI command   0x3f8 ... serial ports
//          0x00, 0x81, 0xc0 DMA   0x170, 0x1f0, 0x376, 0x3f6 IDE   0x3f2 floppy disks
//          0x510 fw_cfg (with firmware)   0x600 power management   0xae00 PCI hotplug   0xafe0 GPE0   0xcf8 PCI
//   memory RAM, PCI devices up to 0xfec00000, I/O APIC, local APICs, firmware at the top of 4 GiB, RAM above 4 GiB
// On "q35" the LPC bridge is at 1f.0, AHCI at 1f.2, GPE0 in the power management block, and hotplug a matter of root ports.
// Slots and what is plugged into them: pci_slots.h. Missing: parallel port, SMBus; PAM registers are stored but 0xc0000 to 0xfffff is
// always writable RAM.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/strings.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/reset_ports.h"
#include "devices/legacy/tpm_crb.h"
#include "devices/legacy/tpm_tis.h"
#include "devices/legacy/vm_generation.h"
#include "devices/pci/bus.h"
#include "devices/storage/ahci.h"
#include "devices/storage/piix_ide.h"
#include "machine/acpi/dsdt.h"
#include "machine/acpi/numa.h"
#include "machine/acpi/spec.h"
#include "machine/boards/chipset.h"
#include "machine/boards/firmware.h"
#include "machine/boards/pci_chipset.h"
#include "machine/boards/pci_slots.h"
#include "machine/boards/ram.h"
#include "machine/property_reader.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr u8 kKeyboardIrq = 1, kMouseIrq = 12;
constexpr const char* kDefaultFirmware = "bios-256k.bin";
constexpr PciAddress kIdePlace{1, 1}, kAhciPlace{0x1f, 2};
constexpr GuestAddr kPciHoleEnd = 0xfec00000;
constexpr GuestAddr kHighPciEnd = u64{1} << 40;  // of what 64-bit BARs may have
constexpr GuestAddr kPciHoleMin = 0xc0000000;   // BARs stay in the fourth GiB, as far as RAM allows

u16 panic_port(const Config& config) {
  for (const DeviceConfig& device : config.devices) {
    if (device.type == "pvpanic") return static_cast<u16>(PropertyReader(device).number("ioport"));
  }
  return 0;
}

bool has_device(const Config& config, std::string_view type) {
  return std::ranges::any_of(config.devices, [type](const DeviceConfig& device) { return device.type == type; });
}

MmioDevice tpm_of(const Config& config) {
  if (has_device(config, "tpm-crb")) return {.base = static_cast<u32>(TpmCrb::kBase), .size = static_cast<u32>(TpmCrb::kBytes)};
  if (has_device(config, "tpm-tis")) return {.base = static_cast<u32>(TpmTis::kBase), .size = static_cast<u32>(TpmTis::kBytes)};
  return {};
}

class Pc final : public Board {
 public:
  static Result<std::unique_ptr<Board>> create(const BoardContext& context);

  Result<Device*> plug(std::unique_ptr<VirtioDevice> device, const PlugRequest& request) override {
    return slots_->plug(std::move(device), request);
  }
  Result<Device*> plug_pci(std::unique_ptr<PciDevice> device, const PlugRequest& request) override {
    return slots_->plug_pci(std::move(device), request);
  }
  Status request_unplug(Device& device) override { return slots_->request_unplug(device); }
  std::unique_ptr<Device> unplug(Device& device) override { return slots_->unplug(device); }
  std::optional<DiskController> disk_controller() override;
  FloppyController* floppy() override { return floppy_.get(); }
  FwCfg* config_device() override { return firmware_ ? &firmware_->config_device() : nullptr; }
  void attach_floppy(unsigned unit, std::unique_ptr<FloppyDrive> drive) override;
  std::vector<Device*> devices() override;
  void reset() override;
  Result<BootEntry> load() override;
  void press_power_button() override { chipset_->pm().power_button(); }
  bool can_suspend() override { return firmware_ && context_.config.suspend_to_ram; }
  void wake(WakeReason reason) override;
  std::string describe() override;
  std::vector<PciFunctionInfo> pci_functions() override { return slots_->functions(); }
  Status set_boot_order(const std::string& order) override;
  void drop_missed_ticks() override { chipset_->rtc().drop_missed_ticks(); }
  std::string place_of(const Device& device) override { return slots_->place_of(device); }
  Result<std::string> firmware_path(const Device& device, std::string_view name) override;
  Status add_boot_device(u32 index, std::string path) override {
    return add_to_boot_order(boot_order_, index, std::move(path));
  }

 private:
  explicit Pc(const BoardContext& context)
      : context_(context), ram_(ram_layout(context.config.board, context.config.ram_bytes)) {}
  Status add_bridges();
  Status add_ports();
  Status add_disks();
  Status add_floppy();
  Status add_boot();
  void set_cmos(const std::string& boot_order);
  void set_disk_cmos();
  void move_power_management(u16 base);
  bool has_q35() const { return context_.config.board == BoardKind::Q35; }
  void offer_tables();
  u64 hole_base() const { return std::max<u64>(kPciHoleMin, ram_.low_bytes); }
  u64 hole64_base() const { return kHighRamBase + ram_.high_bytes; }
  AcpiBlob acpi_tables() const;

  const BoardContext context_;
  const RamLayout ram_;
  std::unique_ptr<Chipset> chipset_;
  std::unique_ptr<PciChipset> chips_;
  PciBus* bus_ = nullptr;  // the root
  std::unique_ptr<PiixIde> ide_;  // pc
  std::unique_ptr<Ahci> ahci_;    // q35
  std::unique_ptr<IsaDma> dma_;
  std::unique_ptr<FloppyController> floppy_;
  std::unique_ptr<I8042> keyboard_;
  std::unique_ptr<Port92> port92_;
  std::unique_ptr<Firmware> firmware_;
  std::optional<DirectBoot> kernel_;
  BootOrder boot_order_;
  std::vector<std::vector<u8>> more_tables_;  // -acpitable
  std::unique_ptr<PciSlots> slots_;
};

Result<std::unique_ptr<Board>> Pc::create(const BoardContext& context) {
  std::unique_ptr<Pc> board(new Pc(context));
  board->chipset_ = TRY(Chipset::create(context));
  TRY(board->add_bridges());
  TRY(board->add_ports());
  TRY(board->add_disks());
  TRY(board->add_floppy());
  TRY(board->add_boot());
  return std::unique_ptr<Board>(std::move(board));
}

Status Pc::add_bridges() {
  PciChipset::Callbacks callbacks = {.power_management_moved = [this](u16 base) { move_power_management(base); },
                                     .window_moved = [this] { offer_tables(); },
                                     .smi_locked = [this] { chipset_->smi()->set_locked(true); }};
  chips_ = TRY(has_q35() ? create_q35_chipset(context_, std::move(callbacks)) : create_i440fx(context_, std::move(callbacks)));
  bus_ = &chips_->bus();
  slots_ = std::make_unique<PciSlots>(context_, *chips_, boot_order_, [this] { chipset_->pm().raise_event(acpi::kPciHotplugEvent); });
  if (!chipset_->smi()) chipset_->pm().on_command([this] { chips_->smi_command_written(); });
  return {};
}

Status Pc::add_ports() {
  keyboard_ = std::make_unique<I8042>(context_.vm.gsi(kKeyboardIrq), context_.vm.gsi(kMouseIrq), context_.system);
  context_.input.add(keyboard_->keyboard_sink());
  context_.input.add(keyboard_->mouse_sink());
  port92_ = std::make_unique<Port92>(context_.system);
  const std::array<PortBlock, 4> blocks = {{{"keyboard-data", 0x60, 1, keyboard_.get()},
                                            {"keyboard-command", 0x64, 1, &keyboard_->command_port()},
                                            {"port92", 0x92, 1, port92_.get()},
                                            {"pci-hotplug", acpi::kPciHotplugPort, PciHotplug::kPorts, &slots_->registers()}}};
  return map_ports(context_.ports, std::span(blocks).first(chips_->traits().root_hotplug ? 4 : 3));
}

/// PIIX3's channels, or ICH9's ports.
Status Pc::add_disks() {
  if (has_q35()) {
    ahci_ = TRY(Ahci::create("ich9-ahci", context_.vm, context_.io_loop, context_.memory));
    return bus_->add(kAhciPlace, ahci_->function());
  }
  ide_ = std::make_unique<PiixIde>(context_.io_loop, context_.memory, context_.vm.gsi(PiixIde::kIrq[0]), context_.vm.gsi(PiixIde::kIrq[1]));
  for (unsigned i = 0; i < PiixIde::kChannels; ++i) {
    IdeChannel& channel = ide_->channel(i);
    const std::array<PortBlock, 2> blocks = {{{"ide", PiixIde::kCommandBase[i], IdeChannel::kCommandPorts, &channel.command_block()},
                                              {"ide", PiixIde::kControlBase[i], IdeChannel::kControlPorts, &channel.control_block()}}};
    TRY(map_ports(context_.ports, blocks));
  }
  return bus_->add(kIdePlace, ide_->function());
}

std::optional<Board::DiskController> Pc::disk_controller() {
  if (ide_) return DiskController{ide_.get(), ide_.get()};
  return DiskController{ahci_.get(), ahci_.get()};
}

Status Pc::add_floppy() {
  dma_ = std::make_unique<IsaDma>(context_.memory);
  floppy_ = std::make_unique<FloppyController>(context_.io_loop, *dma_, context_.vm.gsi(FloppyController::kIrq));
  const std::array<PortBlock, 5> blocks = {{{"dma", IsaDma::kFirstPort, IsaDma::kFirstPorts, &dma_->first_ports()},
                                            {"dma-page", IsaDma::kPagePort, IsaDma::kPagePorts, &dma_->page_ports()},
                                            {"dma", IsaDma::kSecondPort, IsaDma::kSecondPorts, &dma_->second_ports()},
                                            {"fdc", FloppyController::kFirstPort, FloppyController::kPorts, &floppy_->ports()},
                                            {"fdc", FloppyController::kInputPort, 1, &floppy_->input_port()}}};
  return map_ports(context_.ports, blocks);
}

/// CMOS bytes 0x10 (types of the drives) and 0x14 (equipment: how many).
void Pc::attach_floppy(unsigned unit, std::unique_ptr<FloppyDrive> drive) {
  constexpr u8 kTypes = 0x10, kEquipment = 0x14, kOne = 0x01, kTwo = 0x41, kOther = 0x02;
  floppy_->attach(unit, std::move(drive));
  u8 types = 0;
  unsigned count = 0;
  for (unsigned i = 0; i < FloppyController::kDrives; ++i) {
    if (!floppy_->drive(i)) continue;
    types |= static_cast<u8>(floppy_->drive(i)->cmos_type() << (i == 0 ? 4 : 0));
    ++count;
  }
  chipset_->rtc().set_cmos(kTypes, types);
  chipset_->rtc().set_cmos(kEquipment, static_cast<u8>(kOther | (count == 2 ? kTwo : count == 1 ? kOne : 0)));
}

Status Pc::add_boot() {
  const BootConfig& boot = context_.config.boot;
  more_tables_ = TRY(load_acpi_tables(context_.config.acpi_tables));
  if (!boot.kernel.empty()) kernel_ = TRY(DirectBoot::open(boot));
  // Firmware sets the screen up for a kernel that would show nothing otherwise.
  const bool shown = kernel_ && context_.config.vga != VgaKind::None && Firmware::can_start(kDefaultFirmware, *kernel_);
  if (!context_.flash.empty() || !boot.firmware.empty() || boot.kernel.empty() || shown) {
    const std::string name = boot.firmware.empty() ? kDefaultFirmware : boot.firmware;
    firmware_ = TRY(Firmware::create(context_, ram_, name, kernel_));
    if (chipset_->smi()) chipset_->smi()->offer_features(firmware_->config_device());
  }
  if (!firmware_ && !(boot.files.empty() && boot.option_roms.empty()))
    return Error(ErrorKind::Invalid, "-fw_cfg and -option-rom need firmware: a kernel that starts without it looks for neither; -bios adds it");
  chipset_->pm().start_in_acpi_mode(!firmware_);
  chipset_->pm().offer_sleep(can_suspend(), context_.config.suspend_to_disk);
  chipset_->pm().reset();
  set_cmos(boot.once.empty() ? boot.order : boot.once);
  return {};
}

void Pc::set_cmos(const std::string& boot_order) {
  for (auto [index, value] : cmos_values({ram_, context_.config.topology.cpus, boot_order, context_.config.boot.floppy_check})) {
    chipset_->rtc().set_cmos(index, value);
  }
}

std::vector<Device*> Pc::devices() {
  std::vector<Device*> all = chipset_->devices();
  for (Device* device : chips_->devices()) all.push_back(device);
  all.insert(all.end(), {keyboard_.get(), port92_.get(), &slots_->registers()});
  if (ide_) all.push_back(ide_.get());
  if (ahci_) all.push_back(ahci_.get());
  all.insert(all.end(), {dma_.get(), floppy_.get()});
  if (firmware_) {
    for (Device* device : firmware_->devices()) all.push_back(device);
  }
  for (Device* device : slots_->devices()) all.push_back(device);
  return all;
}

void Pc::reset() {
  bus_->reset();
  set_cmos(context_.config.boot.order);
  for (Device* device : devices()) device->reset();
}

/// CMOS byte 0x0f tells firmware why the machine starts.
void Pc::wake(WakeReason reason) {
  constexpr u8 kShutdownStatus = 0x0f, kResumes = 0xfe;
  chipset_->rtc().set_cmos(kShutdownStatus, kResumes);
  chipset_->pm().woken(reason);
}

/// Firmware chooses the registers' place before it installs the tables, which then tell of that place. vCPU thread, or the
/// control thread at a reset.
void Pc::move_power_management(u16 base) {
  chipset_->decode_power_management(base || !firmware_);  // who starts without firmware finds them ready
  if (chipset_->move_power_management(context_.ports, base ? base : acpi::kPm1EventPort)) offer_tables();
}

void Pc::offer_tables() {
  if (firmware_ && context_.config.acpi) firmware_->offer_acpi(acpi_tables());
}

AcpiBlob Pc::acpi_tables() const {
  const u32 cpus = context_.config.topology.cpus;
  const EcamWindow window = chips_->window();
  std::vector<std::vector<u8>> more = more_tables_;
  const MmioDevice tpm = tpm_of(context_.config);
  if (tpm.size) more.push_back(tpm2_table(tpm.size == TpmCrb::kBytes ? tpm.base + TpmCrb::kControlArea : 0));
  for (auto& table : numa_tables(context_.config.numa, ram_)) more.push_back(std::move(table));
  const bool has_hpet = context_.config.hpet;
  const MmioDevice hpet = {.base = static_cast<u32>(Hpet::kBase), .size = has_hpet ? static_cast<u32>(Hpet::kBytes) : 0};
  const PcAcpi board = {.cpus = cpus,
                        .hole_first = ram_.low_bytes,
                        .hole_last = kPciHoleEnd - 1,
                        .hole64_first = firmware_ ? hole64_base() : 0,
                        .hole64_last = firmware_ ? kHighPciEnd - 1 : 0,
                        .serial_ports = chipset_->serial_ports(),
                        .panic_port = panic_port(context_.config),
                        .hpet = hpet,
                        .tpm = tpm,
                        .generation = has_device(context_.config, "vmgenid") ? VmGeneration::kBase : 0,
                        .pm_base = chipset_->pm_base(),
                        .suspends = firmware_ && context_.config.suspend_to_ram,
                        .hibernates = context_.config.suspend_to_disk,
                        .ecam_base = window.base,
                        .ecam_size = window.size};
  return build_acpi({.dsdt = has_q35() ? q35_dsdt(board) : pc_dsdt(board),
                     .cpus = cpus,
                     .handover = firmware_ != nullptr,
                     .pm_base = chipset_->pm_base(),
                     .gpe_port = chipset_->gpe_port(),
                     .gpe_bytes = chipset_->gpe_bytes(),
                     .ecam_base = window.base,
                     .ecam_size = window.size,
                     .has_hpet = has_hpet,
                     .more = std::move(more)});
}

/// For firmware that asks neither the disks nor fw_cfg of their geometry.
void Pc::set_disk_cmos() {
  if (!ide_) return;
  std::array<u64, PiixIde::kChannels * IdeChannel::kUnits> sectors{};
  for (unsigned i = 0; i < sectors.size(); ++i) {
    AtaDevice* disk = ide_->ata_device(i / IdeChannel::kUnits, i % IdeChannel::kUnits);
    if (disk && !disk->removable()) sectors[i] = disk->io().size_bytes() / ata::kSector;
  }
  for (auto [index, value] : disk_cmos_values(sectors)) chipset_->rtc().set_cmos(index, value);
}

Result<BootEntry> Pc::load() {
  set_disk_cmos();
  if (!firmware_) chips_->prepare_without_firmware();
  std::optional<AcpiBlob> acpi;
  if (context_.config.acpi) acpi = acpi_tables();
  if (firmware_) {
    firmware_->offer_boot_order(boot_order_);
    return firmware_->load(acpi);
  }
  TRY(bus_->assign_resources({.memory_base = hole_base(), .memory_size = kPciHoleEnd - hole_base()}));
  return start_kernel(context_, *kernel_, ram_, acpi);
}

Status Pc::set_boot_order(const std::string& order) {
  set_cmos(order);
  return {};
}

std::string Pc::describe() {
  std::string out = fmt::format("bus: main-system-bus\n  dev: {}\n    bus: {}\n", chips_->traits().host, chips_->traits().root_bus);
  for (Device* device : devices()) {
    out += fmt::format("      dev: {}, id \"{}\"\n        {}\n", device->type(), slots_->id_of(*device), place_of(*device));
    if (std::string more = device->describe(); !more.empty()) out += "        " + more + "\n";
  }
  return out;
}

Result<std::string> Pc::firmware_path(const Device& device, std::string_view name) {
  if (&device == ide_.get()) return std::string("/pci@i0cf8/ide@1,1");
  if (&device == ahci_.get()) return std::string("/pci@i0cf8/pci8086,2922@1f,2");
  if (&device == floppy_.get()) return fmt::format("/pci@i0cf8/isa@{}/fdc@03f0", has_q35() ? "1f" : "1");
  return slots_->firmware_path(device, name);
}

}  // namespace

Result<std::unique_ptr<Board>> create_pc(const BoardContext& context) { return Pc::create(context); }

}  // namespace atl::machine
