// A hostile driver of a USB disk: wrappers, data and control requests of any kind, in any order, over a real SCSI unit.
// Input: steps of a selector byte and what it needs.
#include "block/test_support.h"
#include "devices/usb/storage.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

Loop& loop() {
  static auto* shared = MUST(Loop::create(64)).release();  // a process-wide loop: io_uring set-up is slow
  return *shared;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  block::MemoryNode node(std::string(64 * kKiB, 'd'));
  auto unit = std::make_unique<ScsiUnit>(loop(), ScsiUnitOptions{});
  unit->io().set_node(&node);
  usb::Storage disk(std::move(unit), "");
  disk.set_speed(usb::Speed::High);
  const std::array<u8, 8> configure = {0, usb::kSetConfiguration, 1, 0, 0, 0, 0, 0};
  disk.setup(configure);
  disk.in(0, {});
  std::vector<u8> buffer(4096);
  for (int step = 0; step < 200 && !in.empty(); ++step) {
    const u8 selector = in.byte();
    switch (selector & 7) {
      case 0: {
        std::vector<u8> block = {'U', 'S', 'B', 'C', 0, 0, 0, 0};
        const auto rest = in.bytes(23);
        block.insert(block.end(), rest.begin(), rest.end());
        block.resize(31);
        block[10] &= 3, block[11] = block[13] = 0, block[14] = static_cast<u8>(block[14] % 17);
        (void)disk.out(2, block);
        break;
      }
      case 1: (void)disk.out(2, in.bytes(in.byte())); break;
      case 2:
      case 3: (void)disk.in(1, std::span(buffer).first(in.word() % buffer.size())); break;
      case 4: (void)disk.setup(in.bytes(8)); break;
      case 5: (void)disk.in(0, buffer); break;
      case 6: disk.bus_reset(); break;
      default: loop().run_once(0); break;
    }
  }
  for (int i = 0; i < 100 && !disk.unit().io().is_idle(); ++i) loop().run_once(1'000'000);
  loop().run_once(0);
  return 0;
}
