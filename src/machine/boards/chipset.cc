#include "machine/boards/chipset.h"

#include <fmt/core.h>

#include "base/clock.h"
#include "base/strings.h"
#include "machine/acpi/spec.h"
#include "machine/boards/ram.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr std::array<std::pair<u16, u8>, 4> kSerialPorts = {{{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}}};
constexpr u8 kRtcIrq = 8;
constexpr u16 kRtcPort = 0x70, kDebugConsolePort = 0xe9;
constexpr i64 kSecond = 1'000'000'000;

CharBackend* find_char(const BoardContext& context, const CharId& id) {
  auto found = context.chars.find(id);
  return found == context.chars.end() ? nullptr : found->second;
}

/// What the date counts from, so that it shows what -rtc asks for at this moment.
i64 start_date_ns(const RtcConfig& rtc) {
  const auto now_ns = static_cast<i64>(realtime_ns());
  switch (rtc.base) {
    case RtcConfig::Base::Utc: return now_ns;
    case RtcConfig::Base::Fixed: return rtc.fixed_seconds * kSecond;
    case RtcConfig::Base::LocalTime: break;
  }
  const std::time_t seconds = now_ns / kSecond;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  return now_ns + local.tm_gmtoff * kSecond;
}

RtcOptions rtc_options(const BoardContext& context) {
  const RtcConfig& rtc = context.config.rtc;
  RtcOptions options;
  if (rtc.follow_host) options.time_source_ns = [] { return static_cast<i64>(realtime_ns()); };
  else options.time_source_ns = [&clock = context.clock] { return static_cast<i64>(clock.now_ns()); };
  options.offset_ns = start_date_ns(rtc) - options.time_source_ns();
  options.catch_up_ticks = rtc.drift_fix;
  options.on_change = context.rtc_changed;
  options.on_alarm = [&system = context.system] { system.report_alarm(); };
  return options;
}

}  // namespace

bool is_network_card(std::string_view type) {
  return type.starts_with("virtio-net") || type.starts_with("e1000") || type == "rtl8139";
}

Status Board::set_boot_order(const std::string&) {
  return Error(ErrorKind::Unsupported, "no function defined to set boot device list for this architecture");
}

Result<devices::Device*> Board::plug_pci(std::unique_ptr<PciDevice>, const PlugRequest& request) {
  return Error(ErrorKind::NotFound, fmt::format("No 'PCI' bus found for device '{}'", request.type));
}

Status map_ports(memory::AddressSpace& ports, std::span<const PortBlock> blocks) {
  memory::AddressSpace::Batch batch(ports);
  for (const PortBlock& block : blocks) {
    memory::Region region;
    region.name = block.name;
    region.base = block.base;
    region.size = block.size;
    region.device = block.device;
    TRY(ports.add(std::move(region)));
  }
  return {};
}

Result<std::unique_ptr<Chipset>> Chipset::create(const BoardContext& context) {
  std::unique_ptr<Chipset> chipset(new Chipset());
  TRY(chipset->add_clock(context));
  TRY(chipset->add_hpet(context));
  TRY(chipset->add_power_management(context));
  TRY(chipset->add_serial(context));
  TRY(chipset->add_debug_ports(context));
  return chipset;
}

Status Chipset::add_clock(const BoardContext& context) {
  rtc_line_ = std::make_unique<GatedLine>(context.vm.gsi(kRtcIrq));
  rtc_ = std::make_unique<Rtc>(*rtc_line_, context.clock, rtc_options(context));
  const PortBlock block = {"rtc", kRtcPort, Rtc::kPorts, rtc_.get()};
  return map_ports(context.ports, {&block, 1});
}

/// Where it takes the lines of the PIT and the clock over, these do not reach them.
Status Chipset::add_hpet(const BoardContext& context) {
  if (!context.config.hpet || !is_pc(context.config.board)) return {};
  hpet_ = std::make_unique<Hpet>(context.clock, Hpet::Wiring{.irq0 = context.vm.gsi(0),
                                                             .irq8 = context.vm.gsi(kRtcIrq),
                                                             .input2 = context.vm.gsi(2),
                                                             .legacy_replacement = [&vm = context.vm, line = rtc_line_.get()](bool on) {
                                                               vm.connect_pit(!on);
                                                               line->connect(!on);
                                                             }});
  memory::Region region;
  region.name = "hpet";
  region.base = Hpet::kBase;
  region.size = Hpet::kBytes;
  region.device = hpet_.get();
  TRY(context.memory.add(std::move(region)));
  return {};
}

Status Chipset::add_power_management(const BoardContext& context) {
  pm_ = std::make_unique<AcpiPm>(context.vm.gsi(acpi::kSci), context.clock, context.system);
  memory::Region pm1;
  pm1.name = "acpi-pm";
  pm1.base = pm_base_;
  pm1.size = AcpiPm::kPm1Ports;
  pm1.device = &pm_->pm1_ports();
  if (context.config.board == BoardKind::Q35) {
    std::function<void(bool)> raise;
    if (context.smm) raise = [&vm = context.vm](bool all) { vm.raise_smi(all); };
    smi_ = std::make_unique<Ich9Smi>(std::move(raise));
    pm_->on_command([smi = smi_.get()] { smi->command_written(); });
    ich9_ = std::make_unique<Ich9PmPorts>(*pm_, *smi_);
    pm1.size = Ich9PmPorts::kPorts;
    pm1.device = ich9_.get();
  }
  pm_region_ = TRY(context.ports.add(std::move(pm1)));
  const std::array<PortBlock, 2> blocks = {{{"apm", acpi::kSmiCommandPort, AcpiPm::kSmiPorts, &pm_->smi_ports()},
                                            {"acpi-gpe0", acpi::kGpe0Port, AcpiPm::kGpePorts, &pm_->gpe_ports()}}};
  return map_ports(context.ports, std::span(blocks).first(ich9_ ? 1 : 2));
}

bool Chipset::move_power_management(memory::AddressSpace& ports, u16 base) {
  if (base == pm_base_ || !ports.update(pm_region_, base, {})) return false;
  pm_base_ = base;
  return true;
}

Status Chipset::add_serial(const BoardContext& context) {
  const auto& ids = context.config.serial;
  for (size_t i = 0; i < ids.size() && i < kSerialPorts.size(); ++i) {
    const auto [port, line] = kSerialPorts[i];
    serial_.push_back(std::make_unique<Serial16550>(context.vm.gsi(line), context.clock, find_char(context, ids[i])));
    const PortBlock block = {"serial", port, Serial16550::kPorts, serial_.back().get()};
    TRY(map_ports(context.ports, {&block, 1}));
  }
  return {};
}

Status Chipset::add_debug_ports(const BoardContext& context) {
  CharBackend* backend = find_char(context, context.config.debugcon);
  if (!backend) return {};
  auto console = std::make_unique<DebugConsole>(*backend);
  const PortBlock block = {"debugcon", kDebugConsolePort, 1, console.get()};
  others_.push_back(std::move(console));
  return map_ports(context.ports, {&block, 1});
}

std::vector<Device*> Chipset::devices() {
  std::vector<Device*> all = {rtc_.get(), pm_.get()};
  if (smi_) all.push_back(smi_.get());
  if (hpet_) all.push_back(hpet_.get());
  for (auto& port : serial_) all.push_back(port.get());
  for (auto& other : others_) all.push_back(other.get());
  return all;
}

SmbiosSystem smbios_system(const Config& config) {
  static constexpr const char* kProducts[] = {"Standard PC (i440FX + PIIX, 1996)", "microvm", "Standard PC (Q35 + ICH9, 2009)"};
  return {.product = kProducts[static_cast<size_t>(config.board)],
          .version = config.board_name,
          .uuid = config.uuid,
          .sockets = config.topology.sockets,
          .cores = config.topology.cores,
          .threads = config.topology.threads,
          .ram_bytes = config.ram_bytes,
          .entries = config.smbios};
}

Result<BootEntry> start_kernel(const BoardContext& context, const DirectBoot& boot, const RamLayout& ram,
                               const std::optional<AcpiBlob>& acpi) {
  const auto memory = context.memory.guest_memory();
  BootTarget target{.memory = *memory, .ram = ram, .map = direct_boot_map(ram)};
  if (acpi) target.rsdp = TRY(install_acpi(*acpi, *memory, kFirmwareTables, kSmbiosAnchor - kFirmwareTables));
  const SmbiosBlob smbios = TRY(build_smbios(smbios_system(context.config)));
  TRY(install_smbios(smbios, *memory, kSmbiosAnchor));
  return boot.load(target);
}

}  // namespace atl::machine
