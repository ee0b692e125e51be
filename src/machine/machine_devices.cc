// Devices of a machine: plugging and unplugging, and what they report.
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "devices/display/ramfb.h"
#include "devices/legacy/debug_ports.h"
#include "devices/legacy/pvpanic.h"
#include "devices/legacy/test_device.h"
#include "devices/legacy/tpm_crb.h"
#include "devices/legacy/tpm_tis.h"
#include "devices/legacy/vm_generation.h"
#include "machine/boards/chipset.h"
#include "machine/machine_impl.h"
#include "machine/property_reader.h"

namespace atl::machine {

MakerContext MachineImpl::maker_context() {
  return {.config = config_,
          .back_ends = *back_ends_,
          .vm = *vm_,
          .memory = memory_,
          .ports = ports_,
          .clock = *device_clock_,
          .system = *this,
          .input = input_,
          .usb = usb_,
          .screens = screens_,
          .chars = chars_,
          .on_block_error = [this](const std::string& drive, const std::string& device,
                                   const devices::BlockError& error) { on_block_error(drive, device, error); },
          .on_balloon_change = [this](u64 bytes) {
            announce({.kind = Event::Kind::BalloonChange, .value = static_cast<i64>(bytes)});
          }};
}

namespace {

/// As it was asked for.
std::string option_text(const DeviceConfig& device) {
  std::string text = "-device " + device.type;
  for (const auto& [name, value] : device.properties) text += fmt::format(",{}={}", name, value);
  return device.id.empty() ? text : text + ",id=" + device.id;
}

}  // namespace

Status MachineImpl::add_cold_devices() {
  for (const DeviceConfig& device : config_.devices) TRY(check_device(device));
  for (bool ports : {false, true}) {  // ports of consoles find their controllers wherever these stand
    for (const DeviceConfig& device : config_.devices) {
      if (is_console_port(device.type) == ports) TRY(plug(device, false).context(option_text(device)));
    }
  }
  return {};
}

Status MachineImpl::plug(const DeviceConfig& device, bool hotplugged) {
  const std::string path = device.id.empty() ? fmt::format("/machine/peripheral-anon/device[{}]", unnamed_devices_++)
                                             : "/machine/peripheral/" + device.id;
  TRY(plug_into_place({device, path}, hotplugged));
  present_.push_back({device, path});
  return {};
}

/// `user`: its id, or its path if it has none.
void MachineImpl::device_gone(const std::string& user) {
  auto found = std::ranges::find_if(present_, [&](const DeviceInfo& d) { return d.config.id == user || d.path == user; });
  if (found == present_.end()) return;
  const DeviceInfo gone = *found;
  present_.erase(found);
  emit({.kind = Event::Kind::DeviceDeleted, .device = gone.config.id, .path = gone.path});
}

Status MachineImpl::plug_into_place(const DeviceInfo& info, bool hotplugged) {
  const DeviceConfig& device = info.config;
  if (find_device_spec(device.type)->bus == "ISA" && device.type != "pc-testdev") return plug_isa(device);
  if (device.type == "pc-testdev") return plug_test_device();
  if (is_disk(device.type)) return plug_disk(info, hotplugged);
  if (is_usb_device(device.type)) return usb_.plug(device, input_);
  if (is_console_port(device.type)) return plug_console_port(info);
  const std::string& user = device.id.empty() ? info.path : device.id;
  MadeDevice made = TRY(make_device(device, user, maker_context()));
  made.plug.hotplugged = hotplugged;
  auto placed = made.pci ? board_->plug_pci(std::move(made.pci), made.plug) : board_->plug(std::move(made.device), made.plug);
  if (!placed) {
    back_ends_->release(user);
    return std::move(placed).error();
  }
  if (made.usb_bus) usb_.add_bus(std::move(made.usb_bus), *placed);
  if (made.console) console_ports_.add_controller(device.id, *made.console, *made.thread);
  plugged_.push_back({device, user, *placed, made.balloon, made.console, made.thread, false, std::move(made.set_link),
                      std::move(made.announce), std::move(made.receive_filter)});
  disk_buses_.add(device.id, **placed, made.ata, made.scsi, made.thread ? *made.thread : back_ends_->default_thread());
  return {};
}

/// An I/O thread stays as long as a device works on it.
Status MachineImpl::remove_object(const std::string& id) {
  const std::pair<std::string, std::string> thread{"iothread", id};
  for (const Plugged& p : plugged_)
    if (std::ranges::find(p.config.properties, thread) != p.config.properties.end())
      return Error(ErrorKind::Busy, fmt::format("object '{}' is in use, can not be deleted", id));
  return back_ends_->remove_object(id);
}

Status MachineImpl::plug_console_port(const DeviceInfo& info) {
  devices::VirtioConsolePort port = TRY(make_console_port(info.config, maker_context()));
  const std::string& id = info.config.id;
  if (!id.empty()) {
    port.on_open = [this, id](bool open) { announce({.kind = Event::Kind::SerialPortChange, .device = id, .value = open}); };
  }
  return console_ports_.plug(info.config, id.empty() ? info.path : id, std::move(port));
}

/// The command line has put the path of the TPM's socket where `tpmdev` was.
Status MachineImpl::plug_tpm(const DeviceConfig& device) {
  const PropertyReader p(device);
  if (p.text("tpmdev").empty()) return p.refuse("tpmdev", "must be given");
  auto back_end = TRY(devices::SwtpmBackend::create(std::string(p.text("tpmdev"))));
  auto keep = [this](auto tpm) -> Status {
    using Tpm = std::remove_reference_t<decltype(*tpm)>;
    TRY(memory_.add({.name = std::string(tpm->type()), .base = Tpm::kBase, .size = Tpm::kBytes, .priority = 1, .device = tpm.get()}));
    isa_devices_.push_back(std::move(tpm));
    return {};
  };
  if (device.type == "tpm-tis") return keep(std::make_unique<devices::TpmTis>(std::move(back_end)));
  return keep(std::make_unique<devices::TpmCrb>(std::move(back_end)));
}

Status MachineImpl::plug_generation(const DeviceConfig& device) {
  if (!is_pc(config_.board)) return Error(ErrorKind::Unsupported, "vmgenid: this machine's tables have no place for it");
  if (generation_id()) return Error(ErrorKind::Exists, "at most one vmgenid device is permitted");
  const PropertyReader p(device);
  auto generation = std::make_unique<devices::VmGeneration>(TRY(devices::VmGeneration::parse(p.text("guid")).context("Property 'vmgenid.guid'")));
  memory::Region region = TRY(generation->memory_region());
  TRY(memory_.add(std::move(region)));
  isa_devices_.push_back(std::move(generation));
  return {};
}

Status MachineImpl::plug_ramfb(const DeviceConfig& device) {
  devices::FwCfg* config_device = board_->config_device();
  if (!config_device) return Error(ErrorKind::Unsupported, "ramfb needs firmware (-bios), which sets it up");
  if (std::ranges::any_of(isa_devices_, [](const auto& other) { return other->type() == "ramfb"; }))
    return Error(ErrorKind::Exists, "at most one ramfb device is permitted");
  auto screen = std::make_unique<devices::RamFb>(memory_, screens_, device.id);
  config_device->add_live_file(devices::RamFb::kFileName, screen->file());
  isa_devices_.push_back(std::move(screen));
  return {};
}

std::optional<std::string> MachineImpl::generation_id() const {
  for (const auto& device : isa_devices_)
    if (device->type() == "vmgenid") return static_cast<const devices::VmGeneration&>(*device).text();
  return std::nullopt;
}

Status MachineImpl::plug_isa(const DeviceConfig& device) {
  if (device.type == "tpm-crb" || device.type == "tpm-tis") return plug_tpm(device);
  if (device.type == "vmgenid") return plug_generation(device);
  if (device.type == "ramfb") return plug_ramfb(device);
  const PropertyReader p(device);
  const std::string_view base_name = p.has("ioport") ? "ioport" : "iobase";
  const u64 base = p.number(base_name), size = device.type == "isa-debug-exit" ? p.number("iosize") : 1;
  if (base > 0xffff || size == 0 || base + size > 0x10000) return p.refuse(base_name, "outside the 64 KiB of ports");
  std::unique_ptr<devices::Device> built;
  memory::BusDevice* registers = nullptr;
  if (device.type == "isa-debug-exit") {
    auto exit = std::make_unique<devices::DebugExit>(*this);
    registers = exit.get();
    built = std::move(exit);
  } else if (device.type == "pvpanic") {
    auto panic = std::make_unique<devices::PvpanicIsa>(*this, static_cast<u8>(p.number("events")));
    registers = &panic->port();
    built = std::move(panic);
  } else {
    const std::string chardev(p.text("chardev"));
    auto backend = chars_.find(chardev);
    if (backend == chars_.end()) return p.refuse("chardev", fmt::format("can't find '{}'", chardev));
    auto console = std::make_unique<devices::DebugConsole>(*backend->second, static_cast<u8>(p.number("readback")));
    registers = console.get();
    built = std::move(console);
  }
  const PortBlock block = {find_device_spec(device.type)->type.data(), static_cast<u16>(base), static_cast<u16>(size), registers};
  TRY(map_ports(ports_, {&block, 1}));
  isa_devices_.push_back(std::move(built));
  return {};
}

Status MachineImpl::plug_test_device() {
  std::array<cpu::IrqLine*, devices::TestDevice::kLines> lines;
  for (u32 i = 0; i < lines.size(); ++i) lines[i] = &vm_->gsi(i);
  auto device = std::make_unique<devices::TestDevice>(lines);
  for (auto& region : device->port_regions()) TRY(ports_.add(std::move(region)));
  TRY(memory_.add(device->memory_region()));
  isa_devices_.push_back(std::move(device));
  return {};
}

Status MachineImpl::add_device(const DeviceConfig& device) {
  TRY(check_device(device));
  if (!find_device_spec(device.type)->hotpluggable) {
    return Error(ErrorKind::Unsupported, fmt::format("Device '{}' does not support hotplugging", device.type));
  }
  if (!device.id.empty() && (find_plugged(device.id) || usb_.has(device.id) || media_->has(device.id) || console_ports_.has(device.id))) {
    return Error(ErrorKind::Exists, fmt::format("Duplicate device ID '{}'", device.id));
  }
  return while_paused([&] { return plug(device, started_); });
}

MachineImpl::Plugged* MachineImpl::find_plugged(const std::string& id) {
  auto found = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.config.id == id; });
  return found == plugged_.end() || id.empty() ? nullptr : &*found;
}

Status MachineImpl::remove_device(const std::string& id) {
  if (media_->has(id)) {
    TRY(media_->remove(id));
    post([this, id] { device_gone(id); });
    return {};
  }
  if (usb_.unplug(id) || console_ports_.unplug(id)) {  // a cable that is pulled out asks nobody
    device_gone(id);
    return {};
  }
  Plugged* plugged = find_plugged(id);
  if (!plugged) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", id));
  TRY(board_->request_unplug(*plugged->device));
  plugged->leaving = true;
  return {};
}

/// vCPU thread: the guest wrote the eject register.
void MachineImpl::on_ejected(devices::Device& device) {
  post([this, gone = &device] { finish_unplug(gone); });
}

void MachineImpl::finish_unplug(devices::Device* device) {
  auto found = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.device == device; });
  if (found == plugged_.end()) return;  // ejected twice
  const Plugged plugged = *found;
  const bool running = devices_run();
  if (running) {
    if (auto stopped = stop_everything(); !stopped) {
      emit({.kind = Event::Kind::DeviceUnplugError, .reason = stopped.error().text(), .device = plugged.config.id});
      return;
    }
  }
  const std::vector<std::string> disks = media_->remove_all_of(*device);
  disk_buses_.remove_all_of(*device);
  const auto ports = plugged.console ? console_ports_.forget_controller(*plugged.console) : std::vector<std::string>();
  plugged_.erase(found);
  usb_.remove_bus(device);
  destroy(board_->unplug(*device), *plugged.thread);
  for (const std::string& disk : disks) back_ends_->blocks().retire(disk);
  back_ends_->blocks().retire(plugged.user);
  back_ends_->release(plugged.user);
  for (const std::string& disk : disks) device_gone(disk);
  for (const std::string& port : ports) device_gone(port);
  device_gone(plugged.user);
  if (running) run_everything();
}

/// Virtio devices end on their loop.
void MachineImpl::destroy(std::unique_ptr<devices::Device> device, LoopThread& thread) {
  thread.run_on([&] { device.reset(); });
}

void MachineImpl::on_block_error(const std::string& drive, const std::string& device, const devices::BlockError& error) {
  post([this, drive, device, error] { block_error(drive, device, error); });
}

void MachineImpl::block_error(const std::string& drive, const std::string& device, const devices::BlockError& error) {
  const bool stop = error.action == block::ErrorPolicy::Stop;
  static constexpr std::string_view kActions[] = {"report", "ignore", "stop"};
  const auto action = static_cast<size_t>(error.action);
  BlockStore::Drive* back_end = back_ends_->blocks().find_drive(drive);
  emit({.kind = Event::Kind::BlockIoError,
        .reason = error.text,
        .device = drive,
        .node = back_end ? back_end->node_name : "",
        .path = device,
        .operation = error.read ? "read" : "write",
        .action = std::string(kActions[std::min<size_t>(action, 2)]),
        .nospace = error.no_space});
  if (!stop || state_ != RunState::Running) return;
  if (back_end) {
    back_end->io_error = true;
    back_end->no_space = error.no_space;
  }
  if (auto stopped = stop_everything(); !stopped) return;
  set_state(RunState::IoError);
  emit({.kind = Event::Kind::Stop});
}

void MachineImpl::report_write_threshold(std::string node_name, u64 exceeded, u64 threshold) {
  announce({.kind = Event::Kind::BlockWriteThreshold, .node = std::move(node_name), .value = static_cast<i64>(exceeded), .threshold = threshold});
}

Status MachineImpl::set_link(const std::string& name, bool up) {
  for (const Plugged& p : plugged_) {
    if (!p.set_link || (p.config.id != name && PropertyReader(p.config).text("netdev") != name) || name.empty()) continue;
    p.set_link(up);
    return {};
  }
  return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", name));
}

devices::VirtioBalloon* MachineImpl::balloon() const {
  auto found = std::ranges::find_if(plugged_, [](const Plugged& p) { return p.balloon != nullptr; });
  return found == plugged_.end() ? nullptr : found->balloon;
}

namespace {

Error no_balloon() { return Error(ErrorKind::NotFound, "No balloon device has been activated"); }

}  // namespace

Status MachineImpl::set_balloon(u64 target_bytes) {
  if (!balloon()) return no_balloon();
  balloon()->set_target(std::min(target_bytes, config_.ram_bytes));
  return {};
}

Result<u64> MachineImpl::balloon_bytes() const {
  if (!balloon()) return no_balloon();
  return balloon()->actual_bytes();
}

Result<MemoryStatistics> MachineImpl::memory_statistics() const {
  if (!balloon()) return no_balloon();
  const auto latest = balloon()->statistics();
  MemoryStatistics result{.update_s = latest.update_s};
  for (const auto& statistic : latest.list) result.values[statistic.tag] = statistic.value;
  return result;
}

Status MachineImpl::set_statistics_interval(u32 seconds) {
  if (!balloon()) return no_balloon();
  balloon()->set_statistics_interval(u64{seconds} * 1'000'000'000);
  return {};
}

}  // namespace atl::machine
