// Any register accesses to the emulated network cards, over guest memory of any contents, with frames in between.
// Input: the model, what memory holds, then records of a selector byte, an address and a value.
#include "devices/nic/e1000.h"
#include "devices/nic/fake_backend.h"
#include "devices/nic/rtl8139.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

constexpr MacAddress kMac = {0x52, 0x54, 0, 1, 2, 3};

std::unique_ptr<PciDevice> make(u8 model, CardBench& bench) {
  if (model % 3 == 2) return std::make_unique<Rtl8139>(kMac, Rtl8139::Wiring{bench.memory, bench.clock, &bench.net, *bench.loop});
  return MUST(E1000::create(model % 3 ? E1000Model::I82574 : E1000Model::I82540, kMac,
                            {.vm = bench.vm, .memory = bench.memory, .backend = &bench.net, .loop = *bench.loop}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  CardBench bench;
  auto card = make(in.byte(), bench);
  bench.plug(*card);
  const u64 base = bench.bus->config_read({0, 0}, 0x10, 4) & ~15u;
  const u64 memory_base = bench.bus->config_read({0, 0}, 0x14, 4) & ~15u;
  const bool realtek = card->type() == "rtl8139";
  const u64 registers = realtek ? memory_base : base, window = realtek ? 0x100 : 0x8000;
  const auto ram = in.bytes(in.word() % 2048);
  for (u64 at = 0; !ram.empty() && at + ram.size() < 0x10000; at += ram.size()) std::copy(ram.begin(), ram.end(), bench.data + at);
  for (int step = 0; step < 200 && !in.empty(); ++step) {
    const u8 selector = in.byte();
    switch (selector & 7) {
      case 0:
      case 1:
      case 2: bench.view.write(registers + in.word() % (window - 8), in.dword(), 1u << (selector >> 4 & 3)); break;
      case 3: bench.view.read(registers + in.word() % (window - 8), 1u << (selector >> 4 & 3)); break;
      case 4: {
        const auto frame = in.bytes(14 + in.byte());
        if (frame.size() >= 14) bench.net.give({frame.begin(), frame.end()});
        break;
      }
      case 5: bench.settle(); break;
      case 6: bench.clock.advance(in.dword()); break;
      case 7: {
        Archive out;
        card->visit(out);
        break;
      }
    }
    bench.net.sent.clear();
  }
  bench.settle();
  bench.unplug();
  return 0;
}
