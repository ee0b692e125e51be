#include "devices/storage/ahci.h"

#include <algorithm>

#include "base/endian.h"

namespace atl::devices {

using namespace ahci;

namespace {

constexpr unsigned kRegisterBar = 5;
constexpr u64 kRegisterBytes = 0x1000;
constexpr u16 kAddressMap = 0x90;  // ICH9 datasheet, 14.1.36: AHCI mode
constexpr u16 kPortControl = 0x92;  // 14.1.37: ports that are enabled; all of them work whatever is written
constexpr u32 kCapabilities = (Ahci::kPorts - 1) | kCapSlots | kCapClo | kCapAhciOnly | kCapGen1 | kCapNcq | kCap64;

}  // namespace

Ahci::Ahci(std::string type, Loop& loop, memory::AddressSpace& memory)
    : type_(std::move(type)),
      loop_(loop),
      function_(type_, {.vendor = 0x8086, .device = 0x2922, .revision = 2, .class_code = 0x010601, .subsystem_vendor = 0x1af4,
                        .subsystem = 0x1100}) {
  for (auto& port : ports_) port = std::make_unique<AhciPort>(loop, memory, [this] { update_interrupt(); });
  function_.set_interrupt_pin(1);
  function_.set_byte(kAddressMap, 1 << 6);
  function_.set_writable(kPortControl, (1 << kPorts) - 1);
  function_.set_bar(kRegisterBar, {.kind = PciBar::Kind::Memory32, .size = kRegisterBytes, .device = &registers_});
}

Result<std::unique_ptr<Ahci>> Ahci::create(std::string type, cpu::Vm& vm, Loop& loop, memory::AddressSpace& memory) {
  std::unique_ptr<Ahci> ahci(new Ahci(std::move(type), loop, memory));
  TRY(ahci->function_.add_msi(vm, 1));
  return ahci;
}

/// 3.1: registers are read and written by dword; a narrower read gives a part of one.
u64 Ahci::Registers::bus_read(u64 offset, unsigned width) {
  const u32 at = static_cast<u32>(offset) & ~3u;
  u64 value = owner_.read(at);
  if (width == 8) value |= u64{owner_.read(at + 4)} << 32;
  return value >> (8 * (offset & 3)) & byte_mask(width);
}

void Ahci::Registers::bus_write(u64 offset, u64 value, unsigned width) {
  const u32 at = static_cast<u32>(offset);
  if (at & 3 || width < 4) return;
  owner_.write(at, static_cast<u32>(value));
  if (width == 8) owner_.write(at + 4, static_cast<u32>(value >> 32));
}

u32 Ahci::read(u32 offset) {
  if (offset >= kPortBase) {
    const u32 port = (offset - kPortBase) / kPortBytes;
    return port < kPorts ? ports_[port]->read(offset % kPortBytes) : 0;
  }
  Lock lock(mutex_);
  switch (offset) {
    case kCap: return kCapabilities;
    case kGhc: return control_;
    case kIs: return pending_;
    case kPi: return (1u << kPorts) - 1;
    case kVs: return kVersion;
    default: return 0;
  }
}

void Ahci::write(u32 offset, u32 value) {
  if (offset >= kPortBase) {
    const u32 port = (offset - kPortBase) / kPortBytes;
    if (port < kPorts) ports_[port]->write(offset % kPortBytes, value);
    return;
  }
  if (offset == kGhc && (value & kGhcReset)) {
    for (auto& port : ports_) port->hba_reset();
  }
  {
    Lock lock(mutex_);
    if (offset == kGhc) control_ = value & kGhcReset ? kGhcEnable : kGhcEnable | (value & kGhcInterrupts);
    if (offset == kGhc && (value & kGhcReset)) pending_ = 0;
    if (offset == kIs) pending_ &= ~value;
  }
  update_interrupt();
}

/// A port's bit is set again while the port still has a reason (3.1.3). A message goes out for each bit that becomes set (10.6.2.1).
void Ahci::update_interrupt() {
  u32 wanting = 0;
  for (unsigned i = 0; i < kPorts; ++i)
    if (ports_[i] && ports_[i]->wants_interrupt()) wanting |= 1u << i;
  Lock lock(mutex_);
  const bool fresh = wanting & ~pending_;
  pending_ |= wanting;
  const bool before = std::exchange(asserted_, pending_ && (control_ & kGhcInterrupts));
  function_.set_intx(asserted_ && !function_.msi_enabled());
  if (asserted_ && (fresh || !before) && function_.msi_enabled()) function_.fire_msi(0);
}

std::vector<DiskIo*> Ahci::media() {
  std::vector<DiskIo*> all;
  for (auto& port : ports_)
    if (port->device()) all.push_back(&port->device()->io());
  return all;
}

void Ahci::quiesce(std::function<void()> done) {
  loop_.post([this, done = std::move(done)]() mutable { when_all_idle(media(), std::move(done)); });
}

void Ahci::resume() {
  loop_.post([this] {
    for (DiskIo* io : media()) io->retry_kept();
    for (auto& port : ports_) port->serve();
  });
}

void Ahci::reset() {
  function_.reset();
  for (auto& port : ports_) port->reset();
  {
    Lock lock(mutex_);
    control_ = kGhcEnable;
    pending_ = 0;
  }
  update_interrupt();
}

void Ahci::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  {
    Lock lock(mutex_);
    archive.field(2, "control", control_);
    archive.field(3, "pending", pending_);
    control_ = kGhcEnable | (control_ & kGhcInterrupts);
  }
  u32 number = 16;
  for (auto& port : ports_) archive.part(number++, "port", [&](Archive& part) { port->visit(part); });
  if (archive.loading()) update_interrupt();
}

}  // namespace atl::devices
