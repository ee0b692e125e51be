// Board "pc": Intel 440FX and PIIX3/PIIX4 with the order of devices that QEMU's machine of this name has.
//   00.0 host bridge   01.0 ISA bridge   01.3 power management   from 02.0 on what -device brings
//   ports  0x60, 0x64 keyboard controller   0x70 clock   0x92 reset   0xb2 SMI command   0x3f8 ... serial ports
//          0x510 fw_cfg (with firmware)   0x600 power management   0xae00 PCI hotplug   0xafe0 GPE0   0xcf8 PCI
//   memory RAM, PCI devices up to 0xfec00000, I/O APIC, local APICs, firmware at the top of 4 GiB, RAM above 4 GiB
//          02.0 the display adapter (-vga std), which moves what follows by one slot
// Missing: IDE (01.1), USB (01.2), floppy, parallel port, HPET; PAM registers are stored but 0xc0000 to 0xfffff is
// always writable RAM.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/strings.h"
#include "devices/display/vga.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/pci_hotplug.h"
#include "devices/legacy/reset_ports.h"
#include "devices/pci/bus.h"
#include "devices/pci/host_bridge.h"
#include "devices/virtio/pci_transport.h"
#include "machine/acpi/dsdt.h"
#include "machine/acpi/spec.h"
#include "machine/boards/chipset.h"
#include "machine/boards/firmware.h"
#include "machine/boards/piix4_pm.h"
#include "machine/boards/ram.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr u8 kKeyboardIrq = 1, kMouseIrq = 12;
constexpr u8 kFirstFreeSlot = 2;
constexpr GuestAddr kPciHoleEnd = 0xfec00000;
constexpr GuestAddr kPciHoleMin = 0xc0000000;   // BARs stay in the fourth GiB, as far as RAM allows

/// As Open Firmware names devices, and SeaBIOS and OVMF look for them.
std::string firmware_path(PciAddress at, std::string_view type) {
  const std::string place = at.function ? fmt::format("{:x},{:x}", at.slot, at.function) : fmt::format("{:x}", at.slot);
  if (type.starts_with("virtio-net")) return fmt::format("/pci@i0cf8/ethernet@{}/ethernet-phy@0", place);
  return fmt::format("/pci@i0cf8/scsi@{}/disk@0,0", place);
}

class Pc final : public Board {
 public:
  static Result<std::unique_ptr<Board>> create(const BoardContext& context);
  ~Pc() override;

  Result<Device*> plug(std::unique_ptr<VirtioDevice> device, const PlugRequest& request) override;
  Status request_unplug(Device& device) override;
  std::unique_ptr<Device> unplug(Device& device) override;
  std::vector<Device*> devices() override;
  void reset() override;
  Result<BootEntry> load() override;
  void press_power_button() override { chipset_->pm().power_button(); }
  display::Screen* screen() override { return vga_.get(); }
  Status press_key(u8 number, bool down) override;
  Status move_pointer(i32 dx, i32 dy, i32 dz, u8 buttons) override;
  std::string describe(std::string_view what) override;
  std::string place_of(const Device& device) override;

 private:
  struct Plugged {
    PciAddress at;
    std::string id;
    std::unique_ptr<VirtioPci> device;
  };

  explicit Pc(const BoardContext& context)
      : context_(context), ram_(ram_layout(BoardKind::Pc, context.config.ram_bytes)) {}
  Status add_bridges();
  Status add_ports();
  Status add_vga();
  Status add_boot();
  void set_cmos();
  void move_power_management(u16 base);
  Result<PciAddress> choose_place(const PlugRequest& request) const;
  Plugged* find(const Device& device);
  void on_eject(unsigned slot);
  u64 hole_base() const { return std::max<u64>(kPciHoleMin, ram_.low_bytes); }
  u64 hole64_base() const { return kHighRamBase + ram_.high_bytes; }
  AcpiBlob acpi_tables() const;

  const BoardContext context_;
  const RamLayout ram_;
  std::unique_ptr<Chipset> chipset_;
  std::unique_ptr<PciBus> bus_;
  I440fxHostBridge host_bridge_;
  std::unique_ptr<Piix3IsaBridge> isa_bridge_;
  std::unique_ptr<Piix4Pm> power_function_;
  std::unique_ptr<Vga> vga_;
  std::unique_ptr<I8042> keyboard_;
  std::unique_ptr<Port92> port92_;
  std::unique_ptr<PciHotplug> hotplug_;
  std::unique_ptr<Firmware> firmware_;
  std::optional<DirectBoot> kernel_;
  BootOrder boot_order_;
  std::vector<Plugged> plugged_;
};

Result<std::unique_ptr<Board>> Pc::create(const BoardContext& context) {
  std::unique_ptr<Pc> board(new Pc(context));
  board->chipset_ = TRY(Chipset::create(context));
  TRY(board->add_bridges());
  TRY(board->add_ports());
  if (context.config.vga == VgaKind::Std) TRY(board->add_vga());
  TRY(board->add_boot());
  return std::unique_ptr<Board>(std::move(board));
}

Pc::~Pc() {
  for (auto& p : plugged_) bus_->remove(p.at);
}

Status Pc::add_bridges() {
  bus_ = TRY(PciBus::create({.memory = context_.memory,
                             .ports = context_.ports,
                             .set_gsi = [&vm = context_.vm](u32 gsi, bool level) { vm.gsi(gsi).set(level); },
                             .request_reset = [&system = context_.system] { system.request_reset(); }}));
  isa_bridge_ = std::make_unique<Piix3IsaBridge>(*bus_);
  power_function_ = std::make_unique<Piix4Pm>([this](u16 base) { move_power_management(base); });
  TRY(bus_->add({0, 0}, host_bridge_.function()));
  TRY(bus_->add({1, 0}, isa_bridge_->function()));
  return bus_->add({1, 3}, power_function_->function());
}

Status Pc::add_ports() {
  keyboard_ = std::make_unique<I8042>(context_.vm.gsi(kKeyboardIrq), context_.vm.gsi(kMouseIrq), context_.system);
  port92_ = std::make_unique<Port92>(context_.system);
  hotplug_ = std::make_unique<PciHotplug>(PciHotplug::Callbacks{
      .changed = [this] { chipset_->pm().raise_event(acpi::kPciHotplugEvent); },
      .eject = [this](unsigned slot) { on_eject(slot); }});
  const std::array<PortBlock, 4> blocks = {{{"keyboard-data", 0x60, 1, keyboard_.get()},
                                            {"keyboard-command", 0x64, 1, &keyboard_->command_port()},
                                            {"port92", 0x92, 1, port92_.get()},
                                            {"pci-hotplug", acpi::kPciHotplugPort, PciHotplug::kPorts, hotplug_.get()}}};
  return map_ports(context_.ports, blocks);
}

/// The display adapter has the first free slot, 02.0, and its legacy window covers the RAM below it.
Status Pc::add_vga() {
  vga_ = TRY(Vga::create(context_.config.vga_bytes).context("VGA"));
  TRY(bus_->add({*bus_->free_slot(kFirstFreeSlot), 0}, vga_->function()));
  const std::array<PortBlock, 2> blocks = {{{"vga", Vga::kFirstPort, Vga::kPorts, &vga_->ports()},
                                            {"vbe", Vga::kFirstVbePort, Vga::kVbePorts, &vga_->vbe_ports()}}};
  TRY(map_ports(context_.ports, blocks));
  memory::Region window;
  window.name = "vga-lowmem";
  window.base = Vga::kWindowBase;
  window.size = Vga::kWindowBytes;
  window.priority = 1;
  window.device = &vga_->window();
  TRY(context_.memory.add(std::move(window)));
  return {};
}

Status Pc::press_key(u8 number, bool down) {
  keyboard_->key(number, down);
  return {};
}

Status Pc::move_pointer(i32 dx, i32 dy, i32 dz, u8 buttons) {
  keyboard_->move(dx, dy, dz, buttons);
  return {};
}

Status Pc::add_boot() {
  const BootConfig& boot = context_.config.boot;
  if (!boot.kernel.empty()) kernel_ = TRY(DirectBoot::open(boot));
  if (!boot.firmware.empty() || boot.kernel.empty()) {
    const std::string name = boot.firmware.empty() ? "bios-256k.bin" : boot.firmware;
    firmware_ = TRY(Firmware::create(context_, ram_, name, kernel_));
  }
  chipset_->pm().start_in_acpi_mode(!firmware_);
  chipset_->pm().reset();
  set_cmos();
  return {};
}

void Pc::set_cmos() {
  const Config& config = context_.config;
  for (auto [index, value] : cmos_values({ram_, config.topology.cpus, config.boot.order})) {
    chipset_->rtc().set_cmos(index, value);
  }
}

Result<PciAddress> Pc::choose_place(const PlugRequest& request) const {
  PciAddress at;
  if (request.address.empty()) {
    const auto slot = bus_->free_slot(kFirstFreeSlot);
    if (!slot) return Error(ErrorKind::NoSpace, fmt::format("PCI: no slot/function available for {}, all in use", request.type));
    at.slot = *slot;
    return at;
  }
  const size_t dot = request.address.find('.');
  const auto slot = parse_hex(std::string_view(request.address).substr(0, dot).substr(starts(request.address, "0x") ? 2 : 0));
  const auto function = dot == std::string::npos ? std::optional<u64>(0) : parse_hex(std::string_view(request.address).substr(dot + 1));
  if (!slot || !function || *slot > 31 || *function > 7) {
    return Error(ErrorKind::Invalid, fmt::format("Property '{}.addr' doesn't take value '{}'", request.type, request.address));
  }
  at = {static_cast<u8>(*slot), static_cast<u8>(*function)};
  if (const PciFunction* holder = bus_->find(at)) {
    return Error(ErrorKind::Busy, fmt::format("PCI: slot {} function {} not available for {}, in use by {}", at.slot,
                                              at.function, request.type, holder->name()));
  }
  return at;
}

Result<Device*> Pc::plug(std::unique_ptr<VirtioDevice> device, const PlugRequest& request) {
  const PciAddress at = TRY(choose_place(request));
  auto transport = TRY(VirtioPci::create(context_.vm, std::move(device), {.type = request.type, .vectors = request.vectors}));
  TRY(bus_->add(at, transport->function()));
  if (!request.hotplugged) TRY(add_to_boot_order(boot_order_, request, firmware_path(at, request.type)));
  plugged_.push_back({at, request.id, std::move(transport)});
  hotplug_->set_removable(at.slot, true);
  if (request.hotplugged) hotplug_->announce_plugged(at.slot);
  return static_cast<Device*>(plugged_.back().device.get());
}

Pc::Plugged* Pc::find(const Device& device) {
  auto found = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.device.get() == &device; });
  return found == plugged_.end() ? nullptr : &*found;
}

Status Pc::request_unplug(Device& device) {
  const Plugged* plugged = find(device);
  if (!plugged) return Error(ErrorKind::Unsupported, fmt::format("Device '{}' does not support hotplugging", device.type()));
  hotplug_->request_unplug(plugged->at.slot);
  return {};
}

/// All functions of a slot leave together. vCPU thread: the control thread changes `plugged_` only with vCPUs stopped.
void Pc::on_eject(unsigned slot) {
  for (const Plugged& p : plugged_) {
    if (p.at.slot == slot) context_.ejected(*p.device);
  }
}

std::unique_ptr<Device> Pc::unplug(Device& device) {
  Plugged* plugged = find(device);
  if (!plugged) return nullptr;
  bus_->remove(plugged->at);
  std::unique_ptr<Device> out = std::move(plugged->device);
  const u8 slot = plugged->at.slot;
  std::erase_if(plugged_, [](const Plugged& p) { return !p.device; });
  if (std::ranges::none_of(plugged_, [slot](const Plugged& p) { return p.at.slot == slot; })) {
    hotplug_->set_removable(slot, false);
  }
  return out;
}

std::vector<Device*> Pc::devices() {
  std::vector<Device*> all = chipset_->devices();
  all.insert(all.end(), {&host_bridge_, isa_bridge_.get(), power_function_.get(), keyboard_.get(), port92_.get(), hotplug_.get()});
  if (vga_) all.push_back(vga_.get());
  if (firmware_) all.push_back(&firmware_->config_device());
  for (auto& p : plugged_) all.push_back(p.device.get());
  return all;
}

void Pc::reset() {
  bus_->reset();
  for (Device* device : devices()) device->reset();
}

/// Firmware chooses the registers' place before it installs the tables, which then tell of that place. vCPU thread, or the
/// control thread at a reset.
void Pc::move_power_management(u16 base) {
  const bool moved = chipset_->move_power_management(context_.ports, base ? base : acpi::kPm1EventPort);
  if (moved && firmware_ && context_.config.acpi) firmware_->offer_acpi(acpi_tables());
}

AcpiBlob Pc::acpi_tables() const {
  const u32 cpus = context_.config.topology.cpus;
  return build_acpi({.dsdt = pc_dsdt({.cpus = cpus,
                                      .hole_first = ram_.low_bytes,
                                      .hole_last = kPciHoleEnd - 1,
                                      .serial_ports = chipset_->serial_ports(),
                                      .pm_base = chipset_->pm_base()}),
                     .cpus = cpus,
                     .handover = firmware_ != nullptr,
                     .pm_base = chipset_->pm_base()});
}

Result<BootEntry> Pc::load() {
  std::optional<AcpiBlob> acpi;
  if (context_.config.acpi) acpi = acpi_tables();
  if (firmware_) {
    firmware_->offer_boot_order(boot_order_);
    return firmware_->load(acpi);
  }
  TRY(bus_->assign_resources({.memory_base = hole_base(), .memory_size = kPciHoleEnd - hole_base()}));
  return start_kernel(context_, *kernel_, ram_, acpi);
}

std::string Pc::describe(std::string_view what) {
  if (what == "pci") return bus_->describe();
  std::string out = "bus: main-system-bus\n  dev: i440FX-pcihost\n    bus: pci.0\n";
  for (Device* device : devices()) {
    const Plugged* plugged = find(*device);
    out += fmt::format("      dev: {}, id \"{}\"\n        {}\n", device->type(), plugged ? plugged->id : "", place_of(*device));
    if (std::string more = device->describe(); !more.empty()) out += "        " + more + "\n";
  }
  return out;
}

std::string Pc::place_of(const Device& device) {
  const Plugged* plugged = find(device);
  if (!plugged) return "on board";
  return fmt::format("addr = {:02x}.{}", plugged->at.slot, plugged->at.function);
}

}  // namespace

Result<std::unique_ptr<Board>> create_pc(const BoardContext& context) { return Pc::create(context); }

}  // namespace atl::machine
