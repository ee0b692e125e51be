// fw_cfg's ports: each 8 bytes of the input are one access. DMA requests lie in guest RAM, which the input fills too.
#include "base/endian.h"
#include "devices/legacy/fw_cfg.h"
#include "devices/legacy/ich9_smi.h"

namespace {

using namespace atl;

struct Guest {
  Guest() {
    memory::Region region;
    region.name = "ram";
    region.size = 64 * kKiB;
    region.ram = ram = MUST(memory::RamBlock::create("ram", region.size, {}));  // a small anonymous mapping
    MUST(space.add(region));                                                    // an empty space has room
    config.add_file("etc/table-loader", std::vector<u8>(300, 7));
    smi.offer_features(config);
  }
  memory::AddressSpace space{"memory", u64{1} << 32};
  std::shared_ptr<memory::RamBlock> ram;
  devices::FwCfg config{space};
  devices::Ich9Smi smi{[](bool) {}};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Guest* guest = new Guest();
  guest->config.reset();
  guest->smi.reset();
  for (; size >= 8; data += 8, size -= 8) {
    const unsigned width = 1u << (data[0] & 3);
    const u64 offset = (data[0] >> 4) % (devices::FwCfg::kPorts - width + 1);
    const u64 value = load_le<u32>(data + 4);
    store_le(guest->ram->data() + (load_le<u16>(data + 2) & 0xfff8), value);
    if (data[0] & 8) (void)guest->config.bus_read(offset, width);
    else guest->config.bus_write(offset, value, width);
  }
  return 0;
}
