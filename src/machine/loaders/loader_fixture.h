// For tests of loaders: guest RAM, and files with given contents.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/endian.h"
#include "machine/loaders/kernel.h"
#include "memory/address_space.h"

namespace atl::machine {

class LoaderTest : public testing::Test {
 protected:
  static constexpr u64 kRam = 64 * kMiB;

  LoaderTest() {
    ram = MUST(memory::RamBlock::create("ram", kRam, {}));  // a small anonymous mapping
    memory::Region region;
    region.name = "ram";
    region.size = kRam;
    region.ram = ram;
    MUST(space.add(region));  // an empty space has room
  }
  ~LoaderTest() override {
    for (const std::string& path : paths) ::unlink(path.c_str());
  }

  std::string file(const std::vector<u8>& contents) {
    char path[] = "/tmp/atoll-loader-XXXXXX";
    Fd fd(::mkstemp(path));
    MUST(write_all(fd, contents));  // a fresh file in /tmp
    paths.emplace_back(path);
    return path;
  }
  /// Loads a kernel with this configuration; `memory` keeps the map alive.
  Result<BootEntry> load(const BootConfig& config) {
    const RamLayout layout = {kRam, 0};
    memory = space.guest_memory();
    auto boot = TRY(DirectBoot::open(config));
    return boot.load({.memory = *memory, .ram = layout, .map = direct_boot_map(layout), .rsdp = 0xe0000});
  }
  /// The text of the error that loading gives; "" if it works.
  std::string failure(const BootConfig& config) {
    auto entry = load(config);
    return entry ? "" : entry.error().text();
  }
  template <class T>
  T peek(u64 address) const { return load_le<T>(ram->data() + address); }

  memory::AddressSpace space{"memory", u64{1} << 32};
  std::shared_ptr<memory::RamBlock> ram;
  std::shared_ptr<const memory::GuestMemory> memory;
  std::vector<std::string> paths;
};

}  // namespace atl::machine
