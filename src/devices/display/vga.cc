#include "devices/display/vga.h"

#include <algorithm>

#include "base/clock.h"

namespace atl::devices {
namespace {

constexpr std::string_view kNames[] = {"VGA", "secondary-vga", "bochs-display"};   // by VgaKind
constexpr PciIdentity identity(VgaKind kind) {
  return {.vendor = 0x1234, .device = 0x1111, .revision = 2, .class_code = kind == VgaKind::Primary ? 0x030000u : 0x038000u,
          .subsystem_vendor = 0x1af4, .subsystem = 0x1100};
}
constexpr u64 kRegisterBytes = 4096;
constexpr u64 kVgaRegisters = 0x400, kVbeRegisters = 0x500;
constexpr u64 kBlinkPhase_ns = 267'000'000;  // 16 frames of 60 Hz

}  // namespace

Result<std::unique_ptr<Vga>> Vga::create(const VgaOptions& options) {
  auto ram = TRY(memory::RamBlock::create("vga.vram", options.memory_bytes, {}));
  return std::unique_ptr<Vga>(new Vga(options, std::move(ram)));
}

Vga::Vga(const VgaOptions& options, std::shared_ptr<memory::RamBlock> ram)
    : options_(options),
      ram_(std::move(ram)),
      registers_(static_cast<u32>(ram_->size())),
      memory_(registers_, ram_->bytes()),
      picture_(registers_, ram_->bytes()),
      function_(std::string(kNames[static_cast<u8>(options.kind)]), identity(options.kind)) {
  if (options_.edid) edid_ = display::make_edid(options_.width, options_.height);
  set_bars(function_);
}

void Vga::set_bars(PciFunction& function) {
  function.set_bar(0, {.kind = PciBar::Kind::Memory32, .prefetchable = true, .size = ram_->size(), .ram = ram_});
  function.set_bar(2, {.kind = PciBar::Kind::Memory32, .size = kRegisterBytes, .device = &mmio_});
}

void Vga::reset() {
  Lock lock(mutex_);
  registers_.reset();
  memory_.reset();
  function_.reset();
}

void Vga::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.part(1, "registers", [this](Archive& a) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { registers_.visit(a); });
  archive.part(2, "memory", [this](Archive& a) ATL_THREAD_ANNOTATION(no_thread_safety_analysis) { memory_.visit(a); });
  archive.part(3, "pci", [&](Archive& a) { function_.visit(a); });
}

void Vga::draw(display::Surface& surface) {
  Lock lock(mutex_);
  picture_.draw(surface, monotonic_ns() / kBlinkPhase_ns % 2 == 0);
}

std::string Vga::text() {
  Lock lock(mutex_);
  return picture_.text();
}

void Vga::write_vbe(u16 index, u16 value) {
  if (registers_.write_vbe(index, value)) std::ranges::fill(memory_.bytes(), u8{0});
}

u8 Vga::Ports::read_byte(u64 offset) {
  Lock lock(vga.mutex_);
  return vga.registers_.read_port(static_cast<u16>(kFirstPort + offset));
}

void Vga::Ports::write_byte(u64 offset, u8 value) {
  Lock lock(vga.mutex_);
  vga.registers_.write_port(static_cast<u16>(kFirstPort + offset), value);
}

/// Index at 0x1ce, data at 0x1cf; 0x1d0 is data too, for guests that want it aligned.
u64 Vga::VbePorts::bus_read(u64 offset, unsigned) {
  Lock lock(vga.mutex_);
  return offset == 0 ? vga.registers_.vbe_index() : vga.registers_.read_vbe(vga.registers_.vbe_index());
}

void Vga::VbePorts::bus_write(u64 offset, u64 value, unsigned) {
  Lock lock(vga.mutex_);
  if (offset == 0) vga.registers_.set_vbe_index(static_cast<u16>(value));
  else vga.write_vbe(vga.registers_.vbe_index(), static_cast<u16>(value));
}

u8 Vga::Window::read_byte(u64 offset) {
  Lock lock(vga.mutex_);
  return vga.memory_.read(static_cast<u32>(offset));
}

void Vga::Window::write_byte(u64 offset, u8 value) {
  Lock lock(vga.mutex_);
  vga.memory_.write(static_cast<u32>(offset), value);
}

u64 Vga::Registers::bus_read(u64 offset, unsigned width) {
  Lock lock(vga.mutex_);
  if (offset < kVgaRegisters && vga.options_.edid) {
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i) value |= u64{offset + i < display::kEdidBytes ? vga.edid_[offset + i] : u8{0}} << 8 * i;
    return value;
  }
  if (offset - kVgaRegisters < 0x20 && vga.options_.kind != VgaKind::Bochs) {
    u64 value = 0;
    for (unsigned i = 0; i < width; ++i)
      value |= u64{vga.registers_.read_port(static_cast<u16>(0x3c0 + offset - kVgaRegisters + i))} << 8 * i;
    return value;
  }
  if (offset - kVbeRegisters < VgaRegisters::kVbeCount * 2)
    return vga.registers_.read_vbe(static_cast<u16>((offset - kVbeRegisters) / 2));
  return ~u64{0};
}

void Vga::Registers::bus_write(u64 offset, u64 value, unsigned width) {
  Lock lock(vga.mutex_);
  if (offset - kVgaRegisters < 0x20) {
    if (vga.options_.kind == VgaKind::Bochs) return;
    for (unsigned i = 0; i < width; ++i)
      vga.registers_.write_port(static_cast<u16>(0x3c0 + offset - kVgaRegisters + i), static_cast<u8>(value >> 8 * i));
  } else if (offset - kVbeRegisters < VgaRegisters::kVbeCount * 2) {
    vga.write_vbe(static_cast<u16>((offset - kVbeRegisters) / 2), static_cast<u16>(value));
  }
}

}  // namespace atl::devices
