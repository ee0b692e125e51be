#include "devices/storage/ahci.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "block/test_support.h"
#include "devices/pci/bus.h"
#include "devices/pci/fake_vm.h"
#include "devices/storage/ata_disk.h"
#include "devices/storage/atapi_drive.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace ahci;

std::string pattern(u64 size) {
  std::string bytes(size, '\0');
  for (u64 i = 0; i < size; ++i) bytes[i] = static_cast<char>(i / 512 * 5 + i % 241);
  return bytes;
}

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

/// The driver's side of one port.
struct AhciTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  TestGuest guest;
  block::MemoryNode disk_node{pattern(2 * kMiB)}, cd_node{pattern(32 * 2048)};
  block::ErrorInjector injector{disk_node};
  int interrupts = 0;
  AhciPort port{*loop, guest.space(), [this] { ++interrupts; }};
  GuestAddr list = guest.allocate(1024, 1024), fis = guest.allocate(256, 256), tables = guest.allocate(32 * 256, 128);

  void attach(std::unique_ptr<AtaDevice> device, block::Node& node) {
    device->io().set_node(&node);
    port.attach(std::move(device));
    port.write(kPxClb, static_cast<u32>(list));
    port.write(kPxFb, static_cast<u32>(fis));
    port.write(kPxIe, ~0u);
    port.write(kPxCmd, kCmdFre | kCmdSt);
  }
  void SetUp() override { attach(std::make_unique<AtaDisk>(*loop, AtaDiskOptions{}), injector); }

  struct Frame {
    u8 command = 0;
    u64 lba = 0;
    u16 count = 0, feature = 0;
    u8 device = 0x40;
  };
  void prepare(u32 slot, const Frame& f, std::vector<std::pair<GuestAddr, u32>> pieces, bool is_command = true, u8 control = 0) {
    u8* table = guest.at(tables + slot * 256);
    const u8 bytes[20] = {kFisH2d, static_cast<u8>(is_command ? kFisCommand : 0), f.command, static_cast<u8>(f.feature),
                          static_cast<u8>(f.lba), static_cast<u8>(f.lba >> 8), static_cast<u8>(f.lba >> 16), f.device,
                          static_cast<u8>(f.lba >> 24), static_cast<u8>(f.lba >> 32), static_cast<u8>(f.lba >> 40),
                          static_cast<u8>(f.feature >> 8), static_cast<u8>(f.count), static_cast<u8>(f.count >> 8), 0, control};
    std::memcpy(table, bytes, sizeof bytes);
    for (size_t i = 0; i < pieces.size(); ++i) {
      store_le<u64>(table + kTableHeader + 16 * i, pieces[i].first);
      store_le<u32>(table + kTableHeader + 16 * i + 12, pieces[i].second - 1);
    }
    u8* header = guest.at(list + slot * kHeaderBytes);
    store_le<u32>(header, 5 | static_cast<u32>(pieces.size()) << 16);
    store_le<u64>(header + 8, tables + slot * 256);
  }
  void issue(u32 slots) {
    port.write(kPxCi, slots);
    for (int turn = 0; turn < 200 && (port.read(kPxCi) & slots) && !(port.read(kPxIs) & kIsTaskFileError); ++turn) loop->run_once(1'000'000);
  }
};

TEST_F(AhciTest, SignatureIsThatOfTheDevice) {
  EXPECT_EQ(port.read(kPxSig), 0x101u);
  EXPECT_EQ(port.read(kPxSsts), kLinkUp);
  EXPECT_EQ(*guest.at(fis + kD2hAt), kFisD2h);
}

TEST_F(AhciTest, DmaReadGathersAndReportsBytes) {
  GuestAddr a = guest.allocate(512), b = guest.allocate(512);
  prepare(3, {.command = 0x25, .lba = 7, .count = 2}, {{a, 512}, {b, 512}});
  issue(1 << 3);
  EXPECT_EQ(port.read(kPxCi), 0u);
  EXPECT_EQ(guest.text(a, 512), disk_node.bytes.substr(7 * 512, 512));
  EXPECT_EQ(guest.text(b, 512), disk_node.bytes.substr(8 * 512, 512));
  EXPECT_EQ(load_le<u32>(guest.at(list + 3 * kHeaderBytes + 4)), 1024u);
  EXPECT_TRUE(port.read(kPxIs) & kIsD2h);
  EXPECT_GT(interrupts, 0);
}

TEST_F(AhciTest, PioIdentifySendsASetupFrame) {
  GuestAddr data = guest.allocate(512);
  prepare(0, {.command = ata::kIdentify}, {{data, 512}});
  issue(1);
  EXPECT_EQ(*guest.at(fis + kPioSetupAt), kFisPioSetup);
  EXPECT_EQ(load_le<u32>(guest.at(data + 120)), 2 * kMiB / 512);
}

TEST_F(AhciTest, QueuedCommandsEndBySetDeviceBits) {
  GuestAddr a = guest.put(std::vector<u8>(512, 'q')), b = guest.allocate(512);
  prepare(0, {.command = ata::kWriteFpdma, .lba = 1, .count = 0 << 3, .feature = 1}, {{a, 512}});
  prepare(5, {.command = ata::kReadFpdma, .lba = 9, .count = 5 << 3, .feature = 1}, {{b, 512}});
  port.write(kPxSact, 1 | 1 << 5);
  issue(1 | 1 << 5);
  for (int turn = 0; turn < 100 && port.read(kPxSact); ++turn) loop->run_once(1'000'000);
  EXPECT_EQ(port.read(kPxSact), 0u);
  EXPECT_TRUE(port.read(kPxIs) & kIsSetDeviceBits);
  EXPECT_EQ(disk_node.bytes.substr(512, 512), std::string(512, 'q'));
  EXPECT_EQ(guest.text(b, 512), disk_node.bytes.substr(9 * 512, 512));
}

TEST_F(AhciTest, FailedCommandStaysUntilThePortIsStopped) {
  injector.next_errors = {EIO};
  prepare(0, {.command = 0x25, .lba = 0, .count = 1}, {{guest.allocate(512), 512}});
  issue(1);
  EXPECT_EQ(port.read(kPxCi), 1u);
  EXPECT_TRUE(port.read(kPxIs) & kIsTaskFileError);
  EXPECT_EQ(port.read(kPxTfd) & 1, 1u);
  port.write(kPxIs, ~0u);
  port.write(kPxCmd, kCmdFre);
  EXPECT_EQ(port.read(kPxCi), 0u);
  port.write(kPxCmd, kCmdFre | kCmdSt);
  issue(1);
  EXPECT_EQ(port.read(kPxCi), 0u);
}

TEST_F(AhciTest, PioSetupTellsOfTheLastBlock) {
  prepare(0, {.command = 0x24, .lba = 0, .count = 3}, {{guest.allocate(3 * 512), 3 * 512}});
  issue(1);
  EXPECT_EQ(guest.at(fis + kPioSetupAt)[0], kFisPioSetup);
  EXPECT_EQ(load_le<u16>(guest.at(fis + kPioSetupAt + 16)), 512);
}

TEST_F(AhciTest, OnlyTheFirstBlockToADiskIsAskedForWithoutAnInterrupt) {
  prepare(0, {.command = 0x34, .lba = 0, .count = 1}, {{guest.allocate(512), 512}});
  issue(1);
  EXPECT_FALSE(port.read(kPxIs) & kIsPioSetup);
  EXPECT_FALSE(guest.at(fis + kPioSetupAt)[1] & kFisInterrupt);
  prepare(0, {.command = 0x34, .lba = 0, .count = 2}, {{guest.allocate(1024), 1024}});
  issue(1);
  EXPECT_TRUE(port.read(kPxIs) & kIsPioSetup);
  port.write(kPxIs, ~0u);
  prepare(0, {.command = 0x24, .lba = 0, .count = 1}, {{guest.allocate(512), 512}});
  issue(1);
  EXPECT_TRUE(port.read(kPxIs) & kIsPioSetup);
}

TEST_F(AhciTest, TaskFileIsThatOfPowerOnUntilFramesAreReceived) {
  port.hba_reset();
  for (int turn = 0; turn < 100 && !(port.read(kPxIs) & kIsConnect); ++turn) loop->run_once(1'000'000);
  EXPECT_EQ(port.read(kPxSig), 0x101u);
  EXPECT_EQ(port.read(kPxTfd), 0x7fu);
  port.write(kPxFb, static_cast<u32>(fis));
  port.write(kPxCmd, kCmdFre);
  EXPECT_EQ(port.read(kPxTfd), 0x100u | ata::kDrdy | ata::kDsc);
}

TEST_F(AhciTest, ShortTableAborts) {
  prepare(0, {.command = 0x25, .lba = 0, .count = 2}, {{guest.allocate(512), 512}});
  issue(1);
  EXPECT_TRUE(port.read(kPxIs) & kIsTaskFileError);
}

TEST_F(AhciTest, SoftResetGivesTheSignatureAgain) {
  prepare(0, {}, {}, false, 4);
  issue(1);
  prepare(0, {}, {}, false, 0);
  issue(1);
  EXPECT_EQ(port.read(kPxCi), 0u);
  EXPECT_EQ(port.read(kPxSig), 0x101u);
}

TEST_F(AhciTest, PacketsReachTheDrive) {
  AhciPort other{*loop, guest.space(), [] {}};
  auto drive = std::make_unique<AtapiDrive>(*loop, AtapiDriveOptions{});
  drive->io().set_node(&cd_node);
  other.attach(std::move(drive));
  EXPECT_EQ(other.read(kPxSig), 0xeb140101u);
  other.write(kPxClb, static_cast<u32>(list));
  other.write(kPxFb, static_cast<u32>(fis));
  other.write(kPxCmd, kCmdFre | kCmdSt);
  GuestAddr data = guest.allocate(2048);
  prepare(0, {.command = ata::kPacket, .feature = 1}, {{data, 2048}});
  const u8 cdb[12] = {scsi::kRead10, 0, 0, 0, 0, 3, 0, 0, 1};
  std::memcpy(guest.at(tables + kPacketAt), cdb, sizeof cdb);
  other.write(kPxCi, 1);
  for (int turn = 0; turn < 100 && other.read(kPxCi); ++turn) loop->run_once(1'000'000);
  EXPECT_EQ(guest.text(data, 2048), cd_node.bytes.substr(3 * 2048, 2048));
  EXPECT_EQ(load_le<u16>(guest.at(fis + kPioSetupAt + 16)), ata::kPacketBytes);
}

TEST_F(AhciTest, RegistersComeBackFromSavedState) {
  Archive saved;
  port.visit(saved);
  ASSERT_TRUE(saved.status());
  std::vector<u8> bytes = saved.take();
  port.reset();
  EXPECT_EQ(port.read(kPxClb), 0u);
  Archive loaded{bytes};
  port.visit(loaded);
  ASSERT_TRUE(loaded.status());
  GuestAddr data = guest.allocate(512);
  prepare(0, {.command = 0x25, .lba = 2, .count = 1}, {{data, 512}});
  issue(1);
  EXPECT_EQ(guest.text(data, 512), disk_node.bytes.substr(1024, 512));
}

/// The whole controller behind a bus, with a disk at port 0.
struct AhciCardTest : AhciTest {
  static constexpr u64 kBase = 0xe0000000;
  static constexpr u16 kBar5 = 0x24;

  void SetUp() override {
    auto disk = std::make_unique<AtaDisk>(*loop, AtaDiskOptions{});
    disk->io().set_node(&injector);
    card->attach_ata(0, 0, std::move(disk));
    ASSERT_TRUE(bus->add({3, 0}, card->function()));
    bus->config_write({3, 0}, kBar5, kBase, 4);
    bus->config_write({3, 0}, pci::kCommand, 6, 2);
    set(kGhc, kGhcEnable | kGhcInterrupts);
    set(kPortBase + kPxClb, static_cast<u32>(list));
    set(kPortBase + kPxFb, static_cast<u32>(fis));
    set(kPortBase + kPxIe, ~0u);
    set(kPortBase + kPxCmd, kCmdFre | kCmdSt);
    set(kPortBase + kPxIs, ~0u);
    set(kIs, ~0u);
  }
  ~AhciCardTest() override { bus->remove({3, 0}); }
  u32 get(u32 at) { return static_cast<u32>(memory::BusView(guest.space()).read(kBase + at, 4)); }
  void set(u32 at, u32 value) { memory::BusView(guest.space()).write(kBase + at, value, 4); }
  void read_a_sector() {
    prepare(0, {.command = 0x25, .lba = 2, .count = 1}, {{guest.allocate(512), 512}});
    set(kPortBase + kPxCi, 1);
    for (int turn = 0; turn < 100 && get(kPortBase + kPxCi); ++turn) loop->run_once(1'000'000);
  }
  std::unique_ptr<PciBus> make_bus() {
    return MUST(PciBus::create({.memory = guest.space(), .ports = ports, .set_gsi = [this](u32, bool level) { intx = level; }}));
  }

  bool intx = false;
  FakeVm vm;
  memory::AddressSpace ports{"ports", 1 << 16};
  std::unique_ptr<PciBus> bus = make_bus();
  std::unique_ptr<Ahci> card = make_card();
  std::unique_ptr<Ahci> make_card() { return MUST(Ahci::create("ahci", vm, *loop, guest.space())); }
};

TEST_F(AhciCardTest, ALineIsRaisedUntilBothStatusesAreClear) {
  bus->set_pirq_route(0, 10), bus->set_pirq_route(1, 10), bus->set_pirq_route(2, 10), bus->set_pirq_route(3, 10);
  read_a_sector();
  EXPECT_TRUE(intx);
  set(kPortBase + kPxIs, ~0u);
  set(kIs, 1);
  EXPECT_FALSE(intx);
}

TEST_F(AhciCardTest, AMessageGoesOutForEachNewStatus) {
  u8 msi = card->function().byte(pci::kCapabilities);
  ASSERT_EQ(card->function().byte(msi), pci::kCapabilityMsi);
  bus->config_write({3, 0}, static_cast<u16>(msi + 2), 1, 2);
  read_a_sector();
  EXPECT_FALSE(intx);
  EXPECT_EQ(vm.routes.at(0)->fired, 1);
  read_a_sector();
  EXPECT_EQ(vm.routes.at(0)->fired, 1);  // the controller's status is still set
  set(kIs, 1);
  EXPECT_EQ(vm.routes.at(0)->fired, 2);  // and again, as long as the port has a reason
  set(kPortBase + kPxIs, ~0u);
  set(kIs, 1);
  EXPECT_EQ(vm.routes.at(0)->fired, 2);
  read_a_sector();
  EXPECT_EQ(vm.routes.at(0)->fired, 3);
}

}  // namespace
}  // namespace atl::devices
