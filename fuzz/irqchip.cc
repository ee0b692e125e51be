// Random register accesses, line changes, messages and saved states at every interrupt chip of the software CPU.
#include <cstddef>
#include <cstdint>

#include "base/endian.h"
#include "cpu/irqchip_text.h"
#include "cpu/soft/irq/test_chips.h"

namespace {

using namespace atl;

/// Cuts numbers off the input; zero once it is used up.
class Input {
 public:
  Input(const u8* data, size_t size) : data_(data, size) {}
  bool empty() const { return data_.empty(); }
  u64 number(unsigned width) {
    u64 value = 0;
    for (unsigned i = 0; i < width && !data_.empty(); ++i, data_ = data_.subspan(1)) value |= u64{data_[0]} << (8 * i);
    return value;
  }
  std::span<const u8> rest() const { return data_; }

 private:
  std::span<const u8> data_;
};

constexpr u64 kPorts[] = {0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x4d0, 0x4d1};

void act(soft::TestChips& vm, memory::BusView& bus, memory::BusView& ports, Input& in, u64& now_ns) {
  u64 what = in.number(1);
  u32 cpu = what >> 7;
  u64 apic_page = vm.apic(cpu).base_msr() & ~u64{0xfff};
  u64 value = 0;
  switch (what & 15) {
    case 0: ports.write(kPorts[in.number(1) % std::size(kPorts)], in.number(1), 1); break;
    case 1: ports.read(kPorts[in.number(1) % std::size(kPorts)], 1); break;
    case 2: bus.write(soft::IoApic::kBase + in.number(1), in.number(4), 4); break;
    case 3: bus.read(soft::IoApic::kBase + in.number(1), 1u << in.number(1) % 3); break;
    case 4: apic_write(vm.core(cpu), apic_page + in.number(2) % 4096, 1u << in.number(1) % 4, in.number(4)); break;
    case 5: apic_read(vm.core(cpu), apic_page + in.number(2) % 4096, 1u << in.number(1) % 4, value); break;
    case 6: vm.apic(cpu).write_msr(0x800 + static_cast<u32>(in.number(1)), in.number(8)); break;
    case 7: vm.apic(cpu).read_msr(0x800 + static_cast<u32>(in.number(1))); break;
    case 8: vm.apic(cpu).set_base_msr(in.number(8)); break;
    case 9: vm.chips->gsi(static_cast<u32>(in.number(1) % 24)).set(what & 0x10); break;
    case 10: soft::route_msi(vm.vm, {.address = 0xfee00000 | in.number(3), .data = static_cast<u32>(in.number(4))}); break;
    case 11: soft::take_interrupt(vm.core(cpu)); break;
    case 12: vm.apic(cpu).set_tsc_deadline(in.number(8)); break;
    case 13: vm.set_time(now_ns += in.number(4)); break;
    case 14: vm.apic(cpu).fire_timer_if_due(); break;
    default: vm.chips->describe_io_apic(); break;
  }
}

void restore(soft::TestChips& vm, Input& in) {
  cpu::ApicPage page{};
  for (u8& byte : page) byte = static_cast<u8>(in.number(1));
  vm.apic(1).import_page(page);
  Archive archive(in.rest());
  vm.chips->visit(archive);
  (void)archive.status();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  soft::TestChips vm(2);
  memory::BusView bus(vm.memory), ports(vm.ports);
  Input in(data, size);
  u64 now_ns = 0;
  if (in.number(1) & 1) restore(vm, in);
  while (!in.empty()) act(vm, bus, ports, in, now_ns);
  vm.chips->describe_pic();
  return 0;
}
