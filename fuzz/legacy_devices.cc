// The registers of the legacy devices: the first byte chooses a device, each 4 bytes that follow are one access, or let
// time pass, or type a character.
#include <array>

#include "base/endian.h"
#include "devices/legacy/acpi_pm.h"
#include "devices/legacy/ich9_smi.h"
#include "devices/legacy/hpet.h"
#include "devices/legacy/i6300esb.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/manual_clock.h"
#include "devices/legacy/pci_hotplug.h"
#include "devices/legacy/reset_ports.h"
#include "devices/legacy/rtc.h"
#include "devices/legacy/serial_16550.h"
#include "devices/legacy/test_doubles.h"

namespace {

using namespace atl;
using namespace atl::devices;

/// The configuration space of a function as a block of registers.
class ConfigSpace final : public memory::BusDevice {
 public:
  explicit ConfigSpace(PciFunction& function) : function_(function) {}
  u64 bus_read(u64 offset, unsigned width) override { return function_.config_read(static_cast<u16>(offset), width); }
  void bus_write(u64 offset, u64 value, unsigned width) override {
    (void)function_.config_write(static_cast<u16>(offset), static_cast<u32>(value), width);
  }

 private:
  PciFunction& function_;
};

struct Parts {
  ManualClock clock;
  RecordingLine irq, second_irq;
  RecordingBackend backend;
  RecordingSystem system;
  Serial16550 serial{irq, clock, &backend};
  Rtc rtc{irq, clock, {.time_source_ns = [this] { return static_cast<i64>(clock.now_ns()); }, .on_change = [](i64) {}}};
  I8042 keyboard{irq, second_irq, system};
  AcpiPm pm{irq, clock, system};
  Ich9Smi smi{[](bool) {}};
  PciHotplug hotplug{{.changed = [] {}, .eject = [](unsigned) {}}};
  Port92 port92{system};
  I6300Esb watchdog{clock, system};
  ConfigSpace watchdog_config{watchdog.function()};
  Hpet hpet{clock, {irq, second_irq, irq, [](bool) {}}};

  struct Block {
    memory::BusDevice* registers;
    Device* device;
    u64 size;
  };
  std::array<Block, 13> blocks() {
    return {{{&serial, &serial, Serial16550::kPorts},
             {&rtc, &rtc, Rtc::kPorts},
             {&keyboard, &keyboard, 1},
             {&keyboard.command_port(), &keyboard, 1},
             {&pm.pm1_ports(), &pm, AcpiPm::kPm1Ports},
             {&pm.gpe_ports(), &pm, AcpiPm::kGpePorts},
             {&pm.smi_ports(), &pm, AcpiPm::kSmiPorts},
             {&hotplug, &hotplug, PciHotplug::kPorts},
             {&port92, &port92, 1},
             {&hpet, &hpet, 0x180},
             {&smi, &smi, Ich9Smi::kPorts},
             {watchdog.function().bar(0).device, &watchdog, 0x10},
             {&watchdog_config, &watchdog, 0x80}}};
  }
};

/// Restores the state that is left into a fresh set of parts: hostile bytes for visit().
void restore(Parts& parts, size_t block, std::span<const u8> state) {
  Archive archive(state);
  parts.blocks()[block].device->visit(archive);
}

void access(Parts& parts, size_t block, const u8* step) {
  const Parts::Block target = parts.blocks()[block];
  const unsigned width = std::min<unsigned>(1u << (step[0] & 3), target.size >= 0x100 ? 8 : target.size >= 4 ? 4 : static_cast<unsigned>(target.size));
  const u64 offset = step[1] * (target.size >= 0x100 ? 4u : 1u) % (target.size - width + 1);
  const u64 value = load_le<u16>(step + 2) * u64{0x10001};
  switch (step[0] >> 2 & 3) {
    case 0: (void)target.registers->bus_read(offset, width); break;
    case 1: target.registers->bus_write(offset, value, width); break;
    case 2: parts.clock.advance(value * (target.device == &parts.hpet ? 1 : 1000)); break;
    default: parts.backend.type(std::string(step[1] % 20, 'x')); break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  Parts parts;
  const size_t block = data[0] % parts.blocks().size();
  const bool from_state = data[1] & 1;
  data += 2;
  size -= 2;
  if (from_state) {
    restore(parts, block, {data, size});
    return 0;
  }
  for (; size >= 4; data += 4, size -= 4) access(parts, block, data);
  return 0;
}
