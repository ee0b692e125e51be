// Both transports against a device that echoes, from the registers' side.
#include <gtest/gtest.h>

#include "devices/pci/bus.h"
#include "devices/pci/fake_vm.h"
#include "devices/virtio/mmio_transport.h"
#include "devices/virtio/pci_transport.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace virtio;

/// Answers each request with its own bytes, in upper case; or keeps requests while told to.
class EchoDevice final : public VirtioDevice {
 public:
  static constexpr u64 kFeature = 1 << 5;
  EchoDevice(Loop& loop, memory::AddressSpace& memory)
      : VirtioDevice({.device_id = 4, .features = kFeature, .queue_sizes = {16, 16}, .config_bytes = 8}, loop, memory) {
    set_config_writable(4, 4);
    set_config(0, std::array<u8, 4>{1, 2, 3, 4});
  }
  void change(u8 value) { change_config(0, {&value, 1}); }

  bool hold = false;
  std::vector<Chain> held;
  int writes = 0, resets = 0, activations = 0;

 private:
  void serve(u16 index) override {
    while (auto chain = queue_at(index).pop()) {
      if (hold) {
        held.push_back(std::move(*chain));
        continue;
      }
      u8 byte = 0;
      chain->read_object(0, byte);
      byte = static_cast<u8>(byte - 'a' + 'A');
      chain->add_written(chain->write(0, {&byte, 1}));
    }
    queue_at(index).notify();
  }
  void activated(u64) override { ++activations; }
  void reset_state() override { ++resets; }
  void config_written(u32, u32) override { ++writes; }
};

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  EXPECT_TRUE(loop);
  return std::move(*loop);
}

struct Fixture {
  TestGuest guest;
  std::unique_ptr<Loop> loop = make_loop();
  std::unique_ptr<EchoDevice> owned = std::make_unique<EchoDevice>(*loop, guest.space());
  EchoDevice& device = *owned;
  void settle() {
    for (int i = 0; i < 6; ++i) loop->run_once(0);
  }
  /// One request with the byte `letter`; what came back.
  std::pair<GuestAddr, GuestAddr> add(TestQueue& queue, char letter) {
    GuestAddr in = guest.allocate(1), out = guest.allocate(1);
    *guest.at(in) = static_cast<u8>(letter);
    queue.add({{in, 1, false}, {out, 1, true}});
    return {in, out};
  }
};

class VirtioPciTest : public testing::Test, protected Fixture {
 protected:
  explicit VirtioPciTest(bool legacy = false) : pci_(make_pci(*this, legacy)) {
    EXPECT_TRUE(bus_->add({2, 0}, pci_->function()));
    EXPECT_TRUE(bus_->assign_resources({.memory_base = 0xe0000000, .memory_size = 0x1000000}));
    base_ = *pci_->function().bar_mapped(4);
  }
  ~VirtioPciTest() override {
    device.hold = false;
    device.held.clear();
    bool done = false;
    pci_->quiesce([&] { done = true; });
    for (int i = 0; i < 100 && !done; ++i) settle();
    EXPECT_TRUE(done);
    bus_->remove({2, 0});
  }
  static std::unique_ptr<PciBus> make_bus(VirtioPciTest& t) {
    auto bus = PciBus::create({.memory = t.guest.space(), .ports = t.ports_,
                               .set_gsi = [&t](u32 gsi, bool level) { t.vm_.gsi(gsi).set(level); },
                               .request_reset = {}});
    EXPECT_TRUE(bus);
    return std::move(*bus);
  }
  static std::unique_ptr<VirtioPci> make_pci(VirtioPciTest& t, bool legacy) {
    auto pci = VirtioPci::create(t.vm_, std::move(t.owned), {.type = "virtio-echo-pci", .legacy = legacy, .vectors = std::nullopt});
    EXPECT_TRUE(pci);
    return std::move(*pci);
  }
  u64 read(u64 offset, unsigned width) { return memory::BusView(guest.space()).read(base_ + offset, width); }
  void write(u64 offset, u64 value, unsigned width) { memory::BusView(guest.space()).write(base_ + offset, value, width); }
  u8 status() { return static_cast<u8>(read(20, 1)); }
  void choose_features(u64 features) {
    for (u32 word = 0; word < 2; ++word) {
      write(8, word, 4);
      write(12, features >> (32 * word) & 0xffffffff, 4);
    }
  }
  void set_up_queue(u16 index, const QueueLayout& layout) {
    write(22, index, 2);
    write(24, layout.size, 2);
    write(26, index, 2);
    write(32, layout.descriptors, 8);
    write(40, layout.driver, 4);
    write(48, layout.device, 8);
    write(28, 1, 2);
  }
  void bring_up(u64 features = kFeatureVersion1) {
    write(20, 1, 1);
    write(20, 3, 1);
    choose_features(features);
    write(20, 11, 1);
    ASSERT_EQ(status(), 11);
    set_up_queue(0, queue_.layout());
    write(16, 2, 2);
    write(20, 15, 1);
    settle();
  }
  void enable_msix() {
    u8 at = 0x40;
    bus_->config_write({2, 0}, static_cast<u16>(at + 2), 0x8000, 2);
    u64 table = *pci_->function().bar_mapped(1);
    for (u64 vector = 0; vector < 3; ++vector) memory::BusView(guest.space()).write(table + 16 * vector + 12, 0, 4);
  }

  FakeVm vm_;
  memory::AddressSpace ports_{"ports", 1 << 16};
  std::unique_ptr<PciBus> bus_ = make_bus(*this);
  std::unique_ptr<VirtioPci> pci_;
  TestQueue queue_{guest, 8, kFeatureVersion1};
  u64 base_ = 0;
};

TEST_F(VirtioPciTest, IdentifiesAsAModernDevice) {
  EXPECT_EQ(bus_->config_read({2, 0}, 0, 4), 0x10441af4u);
  EXPECT_EQ(bus_->config_read({2, 0}, 8, 1), 1u);
  std::vector<u8> types;
  for (u16 at = static_cast<u16>(bus_->config_read({2, 0}, 0x34, 1)); at;
       at = static_cast<u16>(bus_->config_read({2, 0}, static_cast<u16>(at + 1), 1)))
    if (bus_->config_read({2, 0}, at, 1) == 9) types.push_back(static_cast<u8>(bus_->config_read({2, 0}, static_cast<u16>(at + 3), 1)));
  EXPECT_EQ(types, (std::vector<u8>{1, 3, 4, 2, 5}));
}

TEST_F(VirtioPciTest, CommonConfigurationShowsQueuesAndFeatures) {
  EXPECT_EQ(read(18, 2), 2u);
  EXPECT_EQ(read(24, 2), 16u);
  write(22, 7, 2);
  EXPECT_EQ(read(24, 2), 0u);
  write(0, 1, 4);
  EXPECT_EQ(read(4, 4), (kRingFeatures >> 32));
  write(0, 2, 4);
  EXPECT_EQ(read(4, 4), 0u);
}

TEST_F(VirtioPciTest, RequestIsServedAndInterruptsOverMsix) {
  enable_msix();
  bring_up();
  auto [in, out] = add(queue_, 'q');
  write(0x3000, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(out), 'Q');
  EXPECT_EQ(vm_.routes[0]->fired, 1);
  device.change(9);
  EXPECT_EQ(vm_.routes[2]->fired, 1);
}

TEST_F(VirtioPciTest, WithoutMsixTheIsrTellsWhy) {
  bring_up();
  add(queue_, 'q');
  write(0x3000, 0, 2);
  settle();
  u32 gsi = bus_->gsi_of(2, 1);
  EXPECT_TRUE(vm_.lines[gsi].level);
  EXPECT_EQ(read(0x1000, 1), 1u);
  EXPECT_FALSE(vm_.lines[gsi].level);
  device.change(9);
  EXPECT_EQ(read(0x1000, 1), 2u);
  EXPECT_EQ(read(0x1000, 1), 0u);
}

/// The same device to a driver that knows the legacy interface only.
class VirtioPciLegacyTest : public VirtioPciTest {
 protected:
  static constexpr u32 kFeatures = 0, kDriverFeatures = 4, kAddress = 8, kSize = 12, kSelect = 14, kNotify = 16, kStatus = 18, kIsr = 19;
  VirtioPciLegacyTest() : VirtioPciTest(true) { ports_base_ = *pci_->function().bar_mapped(0); }
  u64 in(u32 offset, unsigned width) { return memory::BusView(ports_).read(ports_base_ + offset, width); }
  void out(u32 offset, u64 value, unsigned width) { memory::BusView(ports_).write(ports_base_ + offset, value, width); }
  /// A queue of all 16 entries, as the legacy layout puts its parts.
  static constexpr u16 kEntries = 16;
  GuestAddr place_queue() {
    const GuestAddr at = guest.allocate(2 * kPageSize, kPageSize);
    out(kSelect, 0, 2);
    out(kAddress, at / kPageSize, 4);
    return at;
  }
  /// One request by hand: byte `letter` in, one byte out.
  GuestAddr request(GuestAddr queue, char letter) {
    const GuestAddr from = guest.allocate(1), to = guest.allocate(1);
    *guest.at(from) = static_cast<u8>(letter);
    put_descriptor(queue, 0, from, kDescNext, 1);
    put_descriptor(queue, 1, to, kDescWrite, 0);
    u8* available = guest.at(queue + 16 * kEntries);
    store_le<u16>(available + 4, 0);
    store_le<u16>(available + 2, 1);
    return to;
  }
  void put_descriptor(GuestAddr queue, u32 index, GuestAddr at, u16 flags, u16 next) {
    u8* d = guest.at(queue + 16 * index);
    store_le<u64>(d, at);
    store_le<u32>(d + 8, 1);
    store_le<u16>(d + 12, flags);
    store_le<u16>(d + 14, next);
  }
  u64 ports_base_ = 0;
};

TEST_F(VirtioPciLegacyTest, IdentifiesAsATransitionalDevice) {
  EXPECT_EQ(bus_->config_read({2, 0}, 0, 4), 0x10051af4u);
  EXPECT_EQ(bus_->config_read({2, 0}, 8, 1), 0u);
  EXPECT_EQ(bus_->config_read({2, 0}, 0x2e, 2), 4u);
  EXPECT_EQ(in(kFeatures, 4), (EchoDevice::kFeature | kFeatureIndirect | kFeatureEventIdx));
  EXPECT_EQ(in(kSize, 2), kEntries);
}

TEST_F(VirtioPciLegacyTest, RequestIsServedAndTheIsrTellsOfIt) {
  out(kStatus, 3, 1);
  out(kDriverFeatures, 0xffffffff & ~(kFeatureEventIdx), 4);
  EXPECT_EQ(in(kDriverFeatures, 4), (EchoDevice::kFeature | kFeatureIndirect));
  const GuestAddr queue = place_queue();
  EXPECT_EQ(in(kAddress, 4), queue / kPageSize);
  out(kStatus, 7, 1);
  const GuestAddr answer = request(queue, 'q');
  out(kNotify, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(answer), 'Q');
  EXPECT_EQ(load_le<u16>(guest.at(queue + kPageSize + 2)), 1);  // the used ring's index, on a page of its own
  EXPECT_EQ(in(kIsr, 1), 1u);
  EXPECT_EQ(in(kIsr, 1), 0u);
  EXPECT_EQ(device.activations, 1);
}

TEST_F(VirtioPciLegacyTest, QueuesWorkBeforeTheDriverSaysSo) {
  out(kStatus, 3, 1);
  const GuestAddr queue = place_queue(), answer = request(queue, 'a');
  out(kNotify, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(answer), 'A');
  out(kStatus, 7, 1);
  settle();
  EXPECT_EQ(device.activations, 1);
}

TEST_F(VirtioPciLegacyTest, ConfigurationMovesBehindTheVectorsWhileMsixIsOn) {
  EXPECT_EQ(in(20, 4), 0x04030201u);
  enable_msix();
  EXPECT_EQ(in(24, 4), 0x04030201u);
  out(20, 2, 2);
  EXPECT_EQ(in(20, 2), 2u);
  out(22, 9, 2);
  EXPECT_EQ(in(22, 2), kNoVector);
}

TEST_F(VirtioPciLegacyTest, ModernDriversFindTheirsToo) {
  bring_up();
  auto [from, to] = add(queue_, 'q');
  write(0x3000, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(to), 'Q');
}

TEST_F(VirtioPciTest, FeaturesThatAreNotOfferedAreRefused) {
  write(20, 3, 1);
  choose_features(kFeatureVersion1 | 1);
  write(20, 11, 1);
  EXPECT_EQ(status(), 3);
  choose_features(EchoDevice::kFeature);
  write(20, 11, 1);
  EXPECT_EQ(status(), 3);  // VERSION_1 is missing
}

TEST_F(VirtioPciTest, DriverOkNeedsFeaturesOk) {
  write(20, 7, 1);
  EXPECT_EQ(status(), 3);
  settle();
  EXPECT_EQ(device.activations, 0);
}

TEST_F(VirtioPciTest, ResetReadsAsNotZeroUntilRequestsHaveEnded) {
  bring_up();
  device.hold = true;
  add(queue_, 'q');
  write(0x3000, 0, 2);
  settle();
  ASSERT_EQ(device.held.size(), 1u);
  write(20, 0, 1);
  settle();
  EXPECT_NE(status(), 0);
  EXPECT_EQ(device.resets, 0);
  device.held.clear();
  settle();
  EXPECT_EQ(status(), 0);
  EXPECT_EQ(device.resets, 1);
}

TEST_F(VirtioPciTest, ImpatientDriverComesUpAfterTheReset) {
  bring_up();
  device.hold = true;
  add(queue_, 'q');
  write(0x3000, 0, 2);
  settle();
  write(20, 0, 1);
  TestQueue fresh(guest, 8, kFeatureVersion1);
  write(20, 3, 1);
  choose_features(kFeatureVersion1);
  write(20, 11, 1);
  set_up_queue(0, fresh.layout());
  write(20, 15, 1);
  settle();
  EXPECT_EQ(device.activations, 1);
  device.hold = false;
  device.held.clear();
  settle();
  EXPECT_EQ(device.activations, 2);
  EXPECT_EQ(status(), 15);
  auto [in, out] = add(fresh, 'z');
  write(0x3000, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(out), 'Z');
}

TEST_F(VirtioPciTest, MalformedRingAsksForAResetAndComesBackAfterIt) {
  bring_up();
  queue_.add({{guest.size(), 4, false}});
  write(0x3000, 0, 2);
  settle();
  EXPECT_EQ(status(), 15 | 0x40);
  EXPECT_EQ(device.counters().malformed.load(), 1u);
  EXPECT_STREQ(device.problem(), "buffer outside of memory");
  write(20, 0, 1);
  settle();
  EXPECT_EQ(status(), 0);
  TestQueue fresh(guest, 8, kFeatureVersion1);
  write(20, 3, 1);
  choose_features(kFeatureVersion1);
  write(20, 11, 1);
  set_up_queue(0, fresh.layout());
  write(20, 15, 1);
  settle();
  auto [in, out] = add(fresh, 'z');
  write(0x3000, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(out), 'Z');
}

TEST_F(VirtioPciTest, DeviceConfigurationTakesOnlyWritableBytes) {
  EXPECT_EQ(read(0x2000, 4), 0x04030201u);
  write(0x2000, 0xffffffff, 4);
  write(0x2004, 0x11223344, 4);
  settle();
  EXPECT_EQ(read(0x2000, 8), 0x1122334404030201u);
  EXPECT_EQ(read(0x2008, 4), 0u);
  EXPECT_EQ(device.writes, 1);
  u64 generation = read(21, 1);
  device.change(7);
  EXPECT_NE(read(21, 1), generation);
}

TEST_F(VirtioPciTest, WindowInConfigurationSpaceReachesTheRegisters) {
  u8 at = 0;
  for (u16 i = 0x34, next = 0; (next = static_cast<u16>(bus_->config_read({2, 0}, i, 1))); i = static_cast<u16>(next + 1))
    at = static_cast<u8>(next);
  auto put = [&](u8 offset, u32 value, unsigned width) { bus_->config_write({2, 0}, static_cast<u16>(at + offset), value, width); };
  put(4, 4, 1);
  put(8, 18, 4);
  put(12, 2, 4);
  EXPECT_EQ(bus_->config_read({2, 0}, static_cast<u16>(at + 16), 2), 2u);
  put(8, 20, 4);
  put(12, 1, 4);
  put(16, 3, 1);
  EXPECT_EQ(status(), 3);
  put(8, 0xffffffff, 4);
  put(16, 3, 4);  // outside: ignored
}

TEST_F(VirtioPciTest, VectorsThatDoNotExistReadAsNone) {
  write(26, 3, 2);
  EXPECT_EQ(read(26, 2), 0xffffu);
  write(26, 2, 2);
  EXPECT_EQ(read(26, 2), 2u);
}

TEST_F(VirtioPciTest, PausedDeviceLeavesRequestsUntilResumed) {
  bring_up();
  bool paused = false;
  pci_->quiesce([&] { paused = true; });
  settle();
  ASSERT_TRUE(paused);
  auto [in, out] = add(queue_, 'q');
  write(0x3000, 0, 2);
  settle();
  EXPECT_EQ(*guest.at(out), 0);
  pci_->resume();
  settle();
  EXPECT_EQ(*guest.at(out), 'Q');
}

TEST_F(VirtioPciTest, StateMovesToAnotherDevice) {
  bring_up();
  add(queue_, 'a');
  write(0x3000, 0, 2);
  settle();
  bool paused = false;
  pci_->quiesce([&] { paused = true; });
  settle();
  ASSERT_TRUE(paused);
  Archive out_archive;
  pci_->visit(out_archive);
  auto saved = out_archive.take();
  pci_->reset();
  EXPECT_EQ(status(), 0xff);  // its BARs are gone
  Archive in_archive{std::span<const u8>(saved)};
  pci_->visit(in_archive);
  ASSERT_TRUE(in_archive.status());
  EXPECT_EQ(status(), 15);
  auto [in, out] = add(queue_, 'b');
  pci_->resume();
  settle();
  EXPECT_EQ(*guest.at(out), 'B');
}

class VirtioMmioTest : public testing::Test, protected Fixture {
 protected:
  static constexpr GuestAddr kBase = 0xfeb00000;
  ~VirtioMmioTest() override {
    bool done = false;
    mmio_->quiesce([&] { done = true; });
    settle();
    EXPECT_TRUE(done);
  }
  static std::unique_ptr<VirtioMmio> make(VirtioMmioTest& t) {
    auto mmio = VirtioMmio::create("virtio-echo-device", {t.guest.space(), kBase, t.line_}, std::move(t.owned));
    EXPECT_TRUE(mmio);
    return std::move(*mmio);
  }
  u32 read(u64 offset) { return static_cast<u32>(memory::BusView(guest.space()).read(kBase + offset, 4)); }
  void write(u64 offset, u32 value) { memory::BusView(guest.space()).write(kBase + offset, value, 4); }
  void bring_up() {
    write(0x70, 0);
    write(0x70, 3);
    write(0x24, 1);
    write(0x20, 1);
    write(0x70, 11);
    ASSERT_EQ(read(0x70), 11u);
    QueueLayout layout = queue_.layout();
    write(0x30, 1);
    write(0x38, layout.size);
    write(0x80, static_cast<u32>(layout.descriptors));
    write(0x90, static_cast<u32>(layout.driver));
    write(0xa0, static_cast<u32>(layout.device));
    write(0x44, 1);
    write(0x70, 15);
    settle();
  }

  FakeVm::Line line_;
  std::unique_ptr<VirtioMmio> mmio_ = make(*this);
  TestQueue queue_{guest, 8, kFeatureVersion1};
};

TEST_F(VirtioMmioTest, IdentificationRegisters) {
  EXPECT_EQ(read(0), 0x74726976u);
  EXPECT_EQ(read(4), 2u);
  EXPECT_EQ(read(8), 4u);
  EXPECT_EQ(read(0x34), 16u);
  EXPECT_EQ(read(0xb0), ~0u);
  EXPECT_EQ(memory::BusView(guest.space()).read(kBase, 1), 0u);
  EXPECT_EQ(read(0x100), 0x04030201u);
}

TEST_F(VirtioMmioTest, RequestIsServedAndTheLineStaysUntilAcknowledged) {
  bring_up();
  auto [in, out] = add(queue_, 'm');
  write(0x50, 1);
  settle();
  EXPECT_EQ(*guest.at(out), 'M');
  EXPECT_TRUE(line_.level);
  EXPECT_EQ(read(0x60), 1u);
  write(0x64, 1);
  EXPECT_FALSE(line_.level);
}

TEST_F(VirtioMmioTest, DriverThatDoesNotWaitForItsResetIsServed) {
  bring_up();
  write(0x70, 0);
  EXPECT_EQ(read(0x44), 0u);
  TestQueue fresh(guest, 8, kFeatureVersion1);
  write(0x70, read(0x70) | 1);
  write(0x70, read(0x70) | 2);
  write(0x24, 1);
  write(0x20, 1);
  write(0x70, read(0x70) | 8);
  EXPECT_TRUE(read(0x70) & 8);
  QueueLayout layout = fresh.layout();
  write(0x30, 1);
  write(0x38, layout.size);
  write(0x80, static_cast<u32>(layout.descriptors));
  write(0x90, static_cast<u32>(layout.driver));
  write(0xa0, static_cast<u32>(layout.device));
  write(0x44, 1);
  write(0x70, read(0x70) | 4);
  settle();
  EXPECT_EQ(read(0x70), 15u);
  auto [in, out] = add(fresh, 'm');
  write(0x50, 1);
  settle();
  EXPECT_EQ(*guest.at(out), 'M');
}

TEST_F(VirtioMmioTest, NeedsResetComesWithAConfigurationInterrupt) {
  bring_up();
  queue_.add({{guest.size(), 4, true}});
  write(0x50, 1);
  settle();
  EXPECT_EQ(read(0x70), 15u | 0x40);
  EXPECT_EQ(read(0x60), 2u);
}

}  // namespace
}  // namespace atl::devices
