#include "machine/loaders/e820.h"

namespace atl::machine {

std::vector<E820Entry> direct_boot_map(const RamLayout& ram) {
  std::vector<E820Entry> map = {
      {0, kEbdaBase, E820Type::Usable},
      {kEbdaBase, 0xa0000 - kEbdaBase, E820Type::Reserved},
      {kFirmwareTables, kUpperMemory - kFirmwareTables, E820Type::Reserved},
      {kUpperMemory, ram.low_bytes - kUpperMemory, E820Type::Usable},
  };
  if (ram.high_bytes) map.push_back({kHighRamBase, ram.high_bytes, E820Type::Usable});
  return map;
}

}  // namespace atl::machine
