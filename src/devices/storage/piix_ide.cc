#include "devices/storage/piix_ide.h"

#include <fmt/format.h>

namespace atl::devices {

namespace {

constexpr unsigned kMasterBar = 4;
constexpr u16 kTiming = 0x40;            // IDETIM, one word a channel
constexpr u8 kDecodeEnable = 0x80;       // in its upper byte

}  // namespace

PiixIde::PiixIde(Loop& loop, memory::AddressSpace& memory, cpu::IrqLine& primary, cpu::IrqLine& secondary)
    : loop_(loop),
      channels_{{{loop, memory, primary}, {loop, memory, secondary}}},
      function_("piix3-ide", {.vendor = 0x8086, .device = 0x7010, .class_code = 0x010180, .subsystem_vendor = 0x1af4,
                              .subsystem = 0x1100}) {
  for (u16 at = kTiming; at < kTiming + 4; ++at) function_.set_writable(at, 0xff);
  function_.set_byte(kTiming + 1, kDecodeEnable);
  function_.set_byte(kTiming + 3, kDecodeEnable);
  function_.set_bar(kMasterBar, {.kind = PciBar::Kind::Io, .size = 2 * IdeChannel::kMasterPorts, .device = &master_ports_});
}

u64 PiixIde::MasterPorts::bus_read(u64 offset, unsigned width) {
  auto& channel = owner_.channels_[offset / IdeChannel::kMasterPorts % kChannels];
  return channel.bus_master().bus_read(offset % IdeChannel::kMasterPorts, width);
}

void PiixIde::MasterPorts::bus_write(u64 offset, u64 value, unsigned width) {
  auto& channel = owner_.channels_[offset / IdeChannel::kMasterPorts % kChannels];
  channel.bus_master().bus_write(offset % IdeChannel::kMasterPorts, value, width);
}

void PiixIde::attach_ata(unsigned port, unsigned unit, std::unique_ptr<AtaDevice> device) {
  channels_[port].attach(unit, std::move(device));
}

std::vector<DiskIo*> PiixIde::media() {
  std::vector<DiskIo*> all;
  for (IdeChannel& channel : channels_)
    for (DiskIo* io : channel.media()) all.push_back(io);
  return all;
}

void PiixIde::quiesce(std::function<void()> done) {
  loop_.post([this, done = std::move(done)]() mutable { when_all_idle(media(), std::move(done)); });
}

void PiixIde::resume() {
  loop_.post([this] {
    for (DiskIo* io : media()) io->retry_kept();
  });
}

void PiixIde::reset() {
  function_.reset();
  for (IdeChannel& channel : channels_) channel.reset();
}

void PiixIde::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  u32 number = 2;
  for (IdeChannel& channel : channels_) archive.part(number++, "channel", [&](Archive& part) { channel.visit(part); });
}

std::string PiixIde::describe() const {
  std::string text;
  for (unsigned port = 0; port < kChannels; ++port) {
    for (unsigned unit = 0; unit < IdeChannel::kUnits; ++unit) {
      AtaDevice* device = channels_[port].device(unit);
      if (device) text += fmt::format("{}bus: ide.{} unit = {} dev: {}", text.empty() ? "" : "\n        ", port, unit, device->type());
    }
  }
  return text;
}

}  // namespace atl::devices
