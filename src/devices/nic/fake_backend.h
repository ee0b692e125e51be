// For tests and fuzzers: a back end that keeps what is sent, and guest memory with an emulated card on a PCI bus.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "devices/legacy/manual_clock.h"
#include "devices/pci/bus.h"
#include "devices/pci/device.h"
#include "devices/pci/fake_vm.h"
#include "net/backend.h"

namespace atl::devices {

struct FakeBackend final : net::Backend {
  explicit FakeBackend(Loop& new_loop) : its_loop(new_loop) {}
  void set_sink(net::FrameSink* new_sink) override { sink = new_sink; }
  bool send(std::span<const iovec> frame) override {
    std::vector<u8> bytes;
    for (const iovec& part : frame) bytes.insert(bytes.end(), static_cast<u8*>(part.iov_base), static_cast<u8*>(part.iov_base) + part.iov_len);
    sent.push_back(std::move(bytes));
    return true;
  }
  void resume_receive() override { ++resumes; }
  bool has_vnet_header() const override { return false; }
  net::Offloads offloads() const override { return {}; }
  void set_offloads(const net::Offloads&) override {}
  std::string describe() const override { return "fake"; }
  Loop& loop() override { return its_loop; }
  bool give(std::vector<u8> frame) {
    const iovec part{frame.data(), frame.size()};
    return sink && sink->receive({&part, 1});
  }

  Loop& its_loop;
  net::FrameSink* sink = nullptr;
  std::deque<std::vector<u8>> sent;
  int resumes = 0;
};

/// 1 MiB of memory at 0 and a bus whose BARs are assigned from 0xe0000000 and port 0xc000 on.
class CardBench {
 public:
  static constexpr u64 kBarBase = 0xe0000000;

  CardBench() {
    auto ram = MUST(memory::RamBlock::create("ram", kMiB, {}));
    memory::Region region;
    region.name = "ram";
    region.size = kMiB;
    region.ram = ram;
    MUST(memory.add(std::move(region)));
    bus = MUST(PciBus::create({.memory = memory, .ports = ports,
                               .set_gsi = [this](u32 gsi, bool level) { vm.gsi(gsi).set(level); }, .request_reset = [] {}}));
    data = ram->data();
  }
  void plug(PciDevice& device) {
    MUST(bus->add({0, 0}, device.function()));
    MUST(bus->assign_resources({.memory_base = kBarBase, .memory_size = 0x1000000}));
    bus->config_write({0, 0}, 4, 7, 2);
    plugged_ = true;
  }
  void unplug() {
    if (std::exchange(plugged_, false)) bus->remove({0, 0});
  }
  /// Runs what was posted to the loop.
  void settle() {
    for (int i = 0; i < 4; ++i) loop->run_once(0);
  }
  bool interrupt() const { return std::ranges::any_of(vm.lines, [](const auto& line) { return line.level; }); }
  template <class T>
  T get(u64 at) const {
    return load_le<T>(data + at);
  }
  template <class T>
  void put(u64 at, T value) {
    store_le<T>(data + at, value);
  }

  std::unique_ptr<Loop> loop = std::move(*Loop::create());
  FakeBackend net{*loop};
  memory::AddressSpace memory{"memory", u64{1} << 40}, ports{"ports", 1 << 16};
  FakeVm vm;
  ManualClock clock;
  std::unique_ptr<PciBus> bus;
  memory::BusView view{memory}, port_view{ports};
  u8* data = nullptr;

 private:
  bool plugged_ = false;
};

}  // namespace atl::devices
