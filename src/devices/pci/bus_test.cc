#include "devices/pci/bus.h"

#include <gtest/gtest.h>

#include "devices/pci/fake_vm.h"
#include "devices/pci/host_bridge.h"

namespace atl::devices {
namespace {

using namespace pci;

struct Scratch final : memory::BusDevice {
  u64 bus_read(u64 offset, unsigned) override { return 0x40 + offset; }
  void bus_write(u64 offset, u64 value, unsigned) override { last_offset = offset, last_value = value; }
  u64 last_offset = ~u64{0}, last_value = 0;
};

class PciBusTest : public testing::Test {
 protected:
  PciBusTest() {
    function_.set_bar(0, {.kind = PciBar::Kind::Io, .size = 0x20, .device = &scratch_});
    function_.set_bar(1, {.kind = PciBar::Kind::Memory32, .size = 0x1000, .device = &scratch_});
    function_.set_bar(4, {.kind = PciBar::Kind::Memory64, .prefetchable = true, .size = 0x4000, .device = &scratch_});
    function_.set_interrupt_pin(1);
    EXPECT_TRUE(bus_->add({3, 0}, function_));
  }
  ~PciBusTest() override { bus_->remove({3, 0}); }

  static std::unique_ptr<PciBus> make_bus(PciBusTest& test) {
    auto bus = PciBus::create({.memory = test.memory_, .ports = test.ports_,
                               .set_gsi = [&test](u32 gsi, bool level) { test.vm_.gsi(gsi).set(level); },
                               .request_reset = [&test] { ++test.resets_; }});
    EXPECT_TRUE(bus);
    return std::move(*bus);
  }
  u32 config(u16 offset, unsigned width = 4) { return bus_->config_read({3, 0}, offset, width); }
  void set_config(u16 offset, u32 value, unsigned width = 4) { bus_->config_write({3, 0}, offset, value, width); }
  u64 memory_read(u64 at, unsigned width = 1) { return memory::BusView(memory_).read(at, width); }
  u64 in(u16 port, unsigned width) { return memory::BusView(ports_).read(port, width); }
  void out(u16 port, u64 value, unsigned width) { memory::BusView(ports_).write(port, value, width); }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  memory::AddressSpace ports_{"ports", 1 << 16};
  FakeVm vm_;
  int resets_ = 0;
  Scratch scratch_;
  PciFunction function_{"thing", {.vendor = 0x1234, .device = 0x5678, .revision = 9, .class_code = 0x020000}};
  std::unique_ptr<PciBus> bus_ = make_bus(*this);
  static constexpr PciWindows kWindows{.memory_base = 0xe0000000, .memory_size = 0x10000000,
                                       .memory64_base = 0x100000000, .memory64_size = 0x10000000};
};

TEST_F(PciBusTest, PortsReachConfigurationSpaceByDwordWordAndByte) {
  out(0xcf8, 0x80001800, 4);
  EXPECT_EQ(in(0xcf8, 4), 0x80001800u);
  EXPECT_EQ(in(0xcfc, 4), 0x56781234u);
  EXPECT_EQ(in(0xcfe, 2), 0x5678u);
  EXPECT_EQ(in(0xcff, 1), 0x56u);
}

TEST_F(PciBusTest, TheByteMayBeNamedByTheAddressToo) {
  out(0xcf8, 0x80001802, 4);
  EXPECT_EQ(in(0xcf8, 4), 0x80001802u);
  EXPECT_EQ(in(0xcfc, 2), 0x5678u);
  EXPECT_EQ(in(0xcfd, 1), 0x56u);
  out(0xcf8, 0x800018ff, 4);
  EXPECT_EQ(in(0xcfc, 4), 0xffffffffu);  // past the end
}

TEST_F(PciBusTest, EmptySlotsOtherBusesAndDisabledAccessReadAsOnes) {
  for (u32 address : {0x80002000u, 0x80011800u, 0x00001800u}) {
    out(0xcf8, address, 4);
    EXPECT_EQ(in(0xcfc, 4), 0xffffffffu) << address;
  }
}

TEST_F(PciBusTest, IdentityIsReadOnly) {
  set_config(kVendorId, 0);
  EXPECT_EQ(config(kVendorId), 0x56781234u);
  EXPECT_EQ(config(kRevisionId, 1), 9u);
  EXPECT_EQ(config(0x0a, 2), 0x0200u);
}

TEST_F(PciBusTest, SizingShowsTheSizeAndTheKind) {
  for (u16 bar : {kBar0, u16(kBar0 + 4), u16(kBar0 + 16), u16(kBar0 + 20), u16(kBar0 + 8)}) set_config(bar, ~0u);
  EXPECT_EQ(config(kBar0), 0xffffffe1u);
  EXPECT_EQ(config(kBar0 + 4), 0xfffff000u);
  EXPECT_EQ(config(kBar0 + 16), 0xffffc00cu);
  EXPECT_EQ(config(kBar0 + 20), 0xffffffffu);
  EXPECT_EQ(config(kBar0 + 8), 0u);
}

TEST_F(PciBusTest, BarsAnswerOnlyWhereTheyAreAndWhileDecodingIsOn) {
  set_config(kBar0 + 4, 0xe0001000);
  EXPECT_EQ(memory_read(0xe0001004), 0xffu);
  set_config(kCommand, kCommandMemory, 2);
  EXPECT_EQ(memory_read(0xe0001004), 0x44u);
  set_config(kBar0 + 4, 0xe0008000);
  EXPECT_EQ(memory_read(0xe0001004), 0xffu);
  EXPECT_EQ(memory_read(0xe0008004), 0x44u);
  set_config(kCommand, 0, 2);
  EXPECT_EQ(memory_read(0xe0008004), 0xffu);
}

TEST_F(PciBusTest, FirmwarePassPlacesEveryBarAlignedAndEnablesDecoding) {
  ASSERT_TRUE(bus_->assign_resources(kWindows));
  EXPECT_EQ(function_.bar_mapped(0), 0xc000u);
  EXPECT_EQ(function_.bar_mapped(1), 0xe0000000u);
  EXPECT_EQ(function_.bar_mapped(4), 0x100000000u);
  EXPECT_EQ(config(kInterruptLine, 1), bus_->gsi_of(3, 1));
  EXPECT_EQ(in(0xc003, 1), 0x43u);
}

TEST_F(PciBusTest, FirmwarePassNamesTheFunctionThatDoesNotFit) {
  auto status = bus_->assign_resources({.memory_base = 0xe0000000, .memory_size = 0x1000});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text().find("thing"), std::string::npos);
}

TEST_F(PciBusTest, ABarThatIsCoveredMapsOnceThePlaceIsFree) {
  Scratch other;
  PciFunction second("second", {.vendor = 1});
  second.set_bar(0, {.kind = PciBar::Kind::Memory32, .size = 0x1000, .device = &other});
  ASSERT_TRUE(bus_->add({4, 0}, second));
  set_config(kBar0 + 4, 0xe0000000);
  set_config(kCommand, kCommandMemory, 2);
  bus_->config_write({4, 0}, kBar0, 0xe0000000, 4);
  bus_->config_write({4, 0}, kCommand, kCommandMemory, 2);
  EXPECT_FALSE(second.bar_mapped(0));
  set_config(kBar0 + 4, 0xe0002000);
  EXPECT_EQ(second.bar_mapped(0), 0xe0000000u);
  bus_->remove({4, 0});
}

TEST_F(PciBusTest, PinsDriveTheRoutedGsiUntilDisabled) {
  u32 gsi = bus_->gsi_of(3, 1);
  function_.set_intx(true);
  EXPECT_TRUE(vm_.lines[gsi].level);
  EXPECT_TRUE(config(kStatus, 2) & kStatusInterrupt);
  set_config(kCommand, kCommandIntxDisable, 2);
  EXPECT_FALSE(vm_.lines[gsi].level);
  EXPECT_TRUE(config(kStatus, 2) & kStatusInterrupt);
  set_config(kCommand, 0, 2);
  EXPECT_TRUE(vm_.lines[gsi].level);
  function_.set_intx(false);
  EXPECT_FALSE(vm_.lines[gsi].level);
}

TEST_F(PciBusTest, SharedGsiStaysHighWhileAnyFunctionAssertsIt) {
  PciFunction neighbour("neighbour", {});
  neighbour.set_interrupt_pin(1);
  ASSERT_TRUE(bus_->add({7, 0}, neighbour));  // four slots on: the same PIRQ
  u32 gsi = bus_->gsi_of(7, 1);
  ASSERT_EQ(gsi, bus_->gsi_of(3, 1));
  function_.set_intx(true);
  neighbour.set_intx(true);
  function_.set_intx(false);
  EXPECT_TRUE(vm_.lines[gsi].level);
  bus_->remove({7, 0});
  EXPECT_FALSE(vm_.lines[gsi].level);
}

TEST_F(PciBusTest, IsaBridgeRoutesPirqsAnew) {
  Piix3IsaBridge bridge(*bus_);
  ASSERT_TRUE(bus_->add({1, 0}, bridge.function()));
  function_.set_intx(true);
  unsigned pirq = PciBus::pirq_of(3, 1);
  bus_->config_write({1, 0}, static_cast<u16>(0x60 + pirq), 5, 1);
  EXPECT_TRUE(vm_.lines[5].level);
  EXPECT_FALSE(vm_.lines[10].level || vm_.lines[11].level);
  bus_->config_write({1, 0}, static_cast<u16>(0x60 + pirq), 0x80, 1);
  EXPECT_FALSE(vm_.lines[5].level);
  bus_->remove({1, 0});
}

TEST_F(PciBusTest, SlotsAreTakenOnceAndFunctionsComeInAnyOrder) {
  PciFunction other("other", {});
  EXPECT_EQ(bus_->add({3, 0}, other).error().kind(), ErrorKind::Exists);
  ASSERT_TRUE(bus_->add({5, 1}, other));
  EXPECT_EQ(bus_->occupied_slots(), 1u << 3 | 1u << 5);
  bus_->remove({5, 1});
  EXPECT_FALSE(bus_->add({32, 0}, other));
  ASSERT_TRUE(bus_->add({3, 1}, other));
  EXPECT_EQ(config(kHeaderType, 1), 0x80u);
  EXPECT_EQ(bus_->free_slot(3), 4);
  EXPECT_EQ(bus_->occupied_slots(), 1u << 3);
  bus_->remove({3, 1});
}

TEST_F(PciBusTest, ResetControlPortAsksForAResetOnARisingEdge) {
  out(0xcf9, 2, 1);
  EXPECT_EQ(resets_, 0);
  out(0xcf9, 6, 1);
  out(0xcf9, 6, 1);
  EXPECT_EQ(resets_, 1);
}

TEST_F(PciBusTest, StateComesBackWithMappings) {
  ASSERT_TRUE(bus_->assign_resources(kWindows));
  Archive out;
  function_.visit(out);
  auto saved = out.take();
  function_.reset();
  EXPECT_FALSE(function_.bar_mapped(1));
  Archive in{std::span<const u8>(saved)};
  function_.visit(in);
  EXPECT_TRUE(in.status());
  EXPECT_EQ(function_.bar_mapped(1), 0xe0000000u);
}

TEST_F(PciBusTest, MsixCapabilityEnablesMasksAndKeepsPending) {
  PciFunction function("msix", {.vendor = 1});
  ASSERT_TRUE(function.add_msix(vm_, 3, 1));
  ASSERT_TRUE(bus_->add({6, 0}, function));
  ASSERT_TRUE(bus_->assign_resources(kWindows));
  u16 control = static_cast<u16>(function.byte(kCapabilities) + kMsixControl);
  EXPECT_EQ(function.word(control), 2u);
  bus_->config_write({6, 0}, control, kMsixEnable, 2);
  u64 table = *function.bar_mapped(1);
  memory::BusView view(memory_);
  view.write(table + 16, 0xfee01000, 4);
  view.write(table + 24, 0x41, 4);
  function.fire_msix(1);
  EXPECT_EQ(vm_.routes[1]->fired, 0);
  EXPECT_EQ(view.read(table + 0x800, 4), 2u);
  view.write(table + 28, 0, 4);
  EXPECT_EQ(vm_.routes[1]->fired, 1);
  EXPECT_EQ(vm_.routes[1]->message, (cpu::MsiMessage{0xfee01000, 0x41}));
  EXPECT_EQ(view.read(table + 0x800, 4), 0u);
  function.fire_msix(1);
  EXPECT_EQ(vm_.routes[1]->fired, 2);
  bus_->config_write({6, 0}, control, kMsixEnable | kMsixFunctionMask, 2);
  function.fire_msix(1);
  function.fire_msix(99);
  EXPECT_EQ(vm_.routes[1]->fired, 2);
  bus_->remove({6, 0});
}

TEST_F(PciBusTest, MsiSendsTheGuestsMessageAndSharesWhatIsNotEnabled) {
  PciFunction function("msi", {.vendor = 1});
  ASSERT_TRUE(function.add_msi(vm_, 4));
  ASSERT_TRUE(bus_->add({6, 0}, function));
  const u8 at = function.byte(kCapabilities);
  function.fire_msi(0);
  EXPECT_EQ(vm_.routes[0]->fired, 0);
  bus_->config_write({6, 0}, at + 4, 0xfee01000, 4);
  bus_->config_write({6, 0}, at + 12, 0x40, 2);
  bus_->config_write({6, 0}, at + 2, 1 << 4 | 1, 2);
  EXPECT_TRUE(function.msi_enabled());
  function.fire_msi(3);
  EXPECT_EQ(vm_.routes[1]->fired, 1);
  EXPECT_EQ(vm_.routes[1]->message, (cpu::MsiMessage{0xfee01000, 0x41}));
  function.reset();
  EXPECT_FALSE(function.msi_enabled());
  bus_->remove({6, 0});
}

TEST_F(PciBusTest, FunctionsAreListedWithTheirRegions) {
  const auto before = bus_->functions();
  ASSERT_EQ(before.size(), 1u);
  EXPECT_EQ(before[0].regions.back().address, std::nullopt) << "decoding is off";
  ASSERT_TRUE(bus_->assign_resources(kWindows));
  const PciFunctionInfo card = bus_->functions().front();
  EXPECT_EQ(card.vendor, 0x1234);
  EXPECT_EQ(card.device, 0x5678);
  EXPECT_EQ(pci_class_name(card.class_code), "Ethernet controller");
  EXPECT_EQ(card.regions.back().bar, 4u);
  EXPECT_TRUE(card.regions.back().wide && card.regions.back().prefetchable);
  EXPECT_EQ(card.regions.back().address, 0x100000000);
  EXPECT_FALSE(card.bridge.has_value());
}

}  // namespace
}  // namespace atl::devices
