#include "devices/storage/ide_channel.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/endian.h"
#include "block/test_support.h"
#include "devices/legacy/test_doubles.h"
#include "devices/storage/ata_disk.h"
#include "devices/storage/atapi_drive.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

using namespace ata;

constexpr u64 kDiskBytes = 2 * kMiB, kCdBytes = 64 * 2048;

std::string pattern(u64 size) {
  std::string bytes(size, '\0');
  for (u64 i = 0; i < size; ++i) bytes[i] = static_cast<char>(i / 512 * 7 + i % 251);
  return bytes;
}

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

struct IdeTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  TestGuest guest;
  RecordingLine irq;
  block::MemoryNode disk_node{pattern(kDiskBytes)}, cd_node{pattern(kCdBytes)};
  block::ErrorInjector injector{disk_node};
  std::vector<BlockError> errors;
  AtapiDrive* cd = nullptr;
  std::unique_ptr<IdeChannel> ide = make_channel();

  std::unique_ptr<IdeChannel> make_channel() {
    auto channel = std::make_unique<IdeChannel>(*loop, guest.space(), irq);
    AtaDiskOptions options;
    options.serial = "S-1";
    options.wwn = 0x5000c50012345678;
    options.io.on_error = [this](const BlockError& error) { errors.push_back(error); };
    auto disk = std::make_unique<AtaDisk>(*loop, options);
    disk->io().set_node(&injector);
    auto drive = std::make_unique<AtapiDrive>(*loop, AtapiDriveOptions{});
    drive->io().set_node(&cd_node);
    cd = drive.get();
    channel->attach(0, std::move(disk));
    channel->attach(1, std::move(drive));
    return channel;
  }

  void out(u64 reg, u8 value) { ide->command_block().bus_write(reg, value, 1); }
  u8 in(u64 reg) { return static_cast<u8>(ide->command_block().bus_read(reg, 1)); }
  u8 alternate() { return static_cast<u8>(ide->control_block().bus_read(0, 1)); }
  u8 wait() {
    for (int turn = 0; turn < 1000 && (alternate() & kBsy); ++turn) loop->run_once(1'000'000);
    return alternate();
  }
  u8 command(u8 opcode) {
    out(7, opcode);
    return wait();
  }
  void address(u32 lba, u8 count, u8 device = 0) {
    out(6, static_cast<u8>(kLba | device | (lba >> 24 & 0xf)));
    out(2, count);
    out(3, static_cast<u8>(lba));
    out(4, static_cast<u8>(lba >> 8));
    out(5, static_cast<u8>(lba >> 16));
  }
  std::string read_words(size_t bytes) {
    std::string text(bytes, '\0');
    for (size_t i = 0; i < bytes; i += 2) store_le<u16>(&text[i], static_cast<u16>(ide->command_block().bus_read(0, 2)));
    return text;
  }
  void write_words(std::string_view bytes) {
    for (size_t i = 0; i < bytes.size(); i += 4) ide->command_block().bus_write(0, load_le<u32>(&bytes[i]), 4);
  }
  /// A PRD table of the given pieces; the bus master points to it.
  void set_table(std::vector<std::pair<GuestAddr, u16>> pieces) {
    std::vector<u8> table(8 * pieces.size());
    for (size_t i = 0; i < pieces.size(); ++i) {
      store_le<u32>(&table[8 * i], static_cast<u32>(pieces[i].first));
      store_le<u16>(&table[8 * i + 4], pieces[i].second);
    }
    if (!table.empty()) table[table.size() - 1] = 0x80;
    ide->bus_master().bus_write(4, guest.put(table), 4);
  }
  void start_master(bool to_memory) { ide->bus_master().bus_write(0, to_memory ? 9 : 1, 1); }
  u8 master_status() { return static_cast<u8>(ide->bus_master().bus_read(2, 1)); }

  /// Sends a packet to the drive; afterwards DRQ, or the end.
  u8 packet(std::vector<u8> cdb, u16 limit = 0xfffe, u8 feature = 0) {
    cdb.resize(12);
    out(6, kSecond);
    out(1, feature);
    out(4, static_cast<u8>(limit));
    out(5, static_cast<u8>(limit >> 8));
    EXPECT_TRUE(command(kPacket) & kDrq);
    EXPECT_EQ(in(2), kReasonCommand);
    write_words({reinterpret_cast<char*>(cdb.data()), 12});
    return wait();
  }
  scsi::Sense last_sense() {
    packet({scsi::kRequestSense, 0, 0, 0, 18});
    std::string sense = read_words(18);
    wait();
    return {static_cast<u8>(sense[2]), static_cast<u8>(sense[12]), static_cast<u8>(sense[13])};
  }
};

TEST_F(IdeTest, WideWritesEndWithTheBusMastersRegisters) {
  ide->bus_master().bus_write(4, 0x12345678, 4);
  ide->bus_master().bus_write(6, 0xabcd5634, 4);
  EXPECT_EQ(ide->bus_master().bus_read(4, 4), 0x56345678u);
}

TEST_F(IdeTest, SignaturesTellDiskFromDrive) {
  out(6, 0);
  EXPECT_EQ(in(4) | in(5) << 8, 0);
  out(6, kSecond);
  EXPECT_EQ(in(4) | in(5) << 8, 0xeb14);
}

TEST_F(IdeTest, IdentifyDescribesTheDisk) {
  address(0, 0);
  EXPECT_TRUE(command(kIdentify) & kDrq);
  EXPECT_TRUE(irq.level);
  std::string page = read_words(512);
  EXPECT_EQ(load_le<u32>(&page[120]), kDiskBytes / 512);
  EXPECT_EQ(load_le<u64>(&page[200]), kDiskBytes / 512);
  EXPECT_EQ(page.substr(20, 4), "-S 1");
  EXPECT_EQ(load_le<u16>(&page[216]), 0x5000);
  EXPECT_EQ(in(7), kDrdy | kDsc);
  EXPECT_FALSE(irq.level);
}

TEST_F(IdeTest, PioReadInterruptsOncePerSector) {
  address(3, 2);
  EXPECT_TRUE(command(0x20) & kDrq);
  std::string got = read_words(512);
  EXPECT_TRUE(wait() & kDrq);
  got += read_words(512);
  EXPECT_EQ(got, disk_node.bytes.substr(3 * 512, 1024));
  EXPECT_EQ(alternate(), kDrdy | kDsc);
  in(7);
  EXPECT_EQ(irq.rising_edges, 1);  // the status was not read in between
}

TEST_F(IdeTest, MultipleMovesBlocksOfSeveralSectors) {
  address(0, 4);
  command(0xc6);
  address(8, 5);
  EXPECT_TRUE(command(0xc4) & kDrq);
  std::string got = read_words(2048);
  EXPECT_TRUE(wait() & kDrq);
  got += read_words(512);
  EXPECT_EQ(got, disk_node.bytes.substr(8 * 512, 5 * 512));
  EXPECT_FALSE(alternate() & kDrq);
}

TEST_F(IdeTest, PioWriteReachesTheDisk) {
  address(5, 2);
  EXPECT_TRUE(command(0x30) & kDrq);
  EXPECT_FALSE(irq.level);  // the first block is asked for without an interrupt
  write_words(std::string(512, 'a'));
  EXPECT_TRUE(wait() & kDrq);
  EXPECT_TRUE(irq.level);
  write_words(std::string(512, 'b'));
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_EQ(disk_node.bytes.substr(5 * 512, 1024), std::string(512, 'a') + std::string(512, 'b'));
}

TEST_F(IdeTest, DmaGathersPiecesAndInterruptsOnce) {
  GuestAddr a = guest.allocate(512), b = guest.allocate(512);
  set_table({{a, 512}, {b, 512}});
  address(1, 2);
  EXPECT_TRUE(command(0xc8) & kDrq);  // waits for the bus master
  start_master(true);
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(master_status() & 7, 4);
  EXPECT_EQ(guest.text(a, 512), disk_node.bytes.substr(512, 512));
  EXPECT_EQ(guest.text(b, 512), disk_node.bytes.substr(1024, 512));
}

TEST_F(IdeTest, WideAddressesUseThePreviousBytes) {
  GuestAddr data = guest.put(std::vector<u8>(1024, 'w'));
  set_table({{data, 1024}});
  start_master(false);
  out(6, kLba);
  for (u64 reg : {2, 3, 4, 5}) out(reg, 0);
  out(2, 2);
  out(3, 9);
  out(4, 0);
  out(5, 0);
  EXPECT_EQ(command(0x35), kDrdy | kDsc);
  EXPECT_EQ(disk_node.bytes.substr(9 * 512, 1024), std::string(1024, 'w'));
}

TEST_F(IdeTest, ShortTableEndsTheCommandWithoutAnInterrupt) {
  set_table({{guest.allocate(512), 512}});
  start_master(true);
  address(0, 2);
  EXPECT_EQ(command(0xc8), kDrdy | kDsc);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(master_status() & 7, 0);
}

TEST_F(IdeTest, TableWithMoreRoomStaysActive) {
  set_table({{guest.allocate(1024), 1024}});
  start_master(true);
  address(0, 1);
  EXPECT_EQ(command(0xc8), kDrdy | kDsc);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(master_status() & 7, 5);
  ide->bus_master().bus_write(0, 0, 1);
  EXPECT_EQ(master_status() & 7, 4);
}

TEST_F(IdeTest, StoppedBusMasterEndsWhatItBegan) {
  GuestAddr data = guest.allocate(1024);
  set_table({{data, 1024}});
  address(3, 1);
  out(7, 0xc8);
  start_master(true);
  ide->bus_master().bus_write(0, 0, 1);
  EXPECT_EQ(master_status() & 7, 1);
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(master_status() & 7, 4);
  EXPECT_EQ(guest.text(data, 512), disk_node.bytes.substr(3 * 512, 512));
}

TEST_F(IdeTest, TableOutsideMemoryIsAnError) {
  set_table({{0xf0000000, 512}});
  start_master(true);
  address(0, 1);
  EXPECT_TRUE(command(0xc8) & kErr);
  EXPECT_EQ(in(1), kAbrt);
  EXPECT_EQ(master_status() & 3, 2);
}

TEST_F(IdeTest, SectorsOutsideTheDiskAreNotFound) {
  address(kDiskBytes / 512 - 1, 2);
  EXPECT_TRUE(command(0x20) & kErr);
  EXPECT_TRUE(in(1) & kIdnf);
  EXPECT_TRUE(command(0xb0) & kErr);  // SMART
  EXPECT_EQ(in(1), kAbrt);
}

TEST_F(IdeTest, CylindersHeadsAndSectorsWork) {
  out(6, 2);  // head 2
  out(2, 1);
  out(3, 1);
  out(4, 0);
  out(5, 0);
  EXPECT_TRUE(command(0x20) & kDrq);
  EXPECT_EQ(read_words(512), disk_node.bytes.substr(126 * 512, 512));
}

TEST_F(IdeTest, FlushAndWriteCacheOffReachTheNode) {
  address(0, 0);
  command(0xe7);
  EXPECT_EQ(injector.flushes, 1);
  out(1, 0x82);
  command(kSetFeatures);
  EXPECT_EQ(injector.flushes, 2);
  address(0, 1);
  command(0x30);
  write_words(std::string(512, 'x'));
  wait();
  EXPECT_EQ(injector.write_flags.back(), block::kFua);
}

TEST_F(IdeTest, FullDiskKeepsTheCommandUntilTheMachineRuns) {
  injector.next_errors = {ENOSPC};
  address(0, 1);
  command(0x30);
  write_words(std::string(512, 'k'));
  for (int i = 0; i < 5; ++i) loop->run_once(0);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].action, block::ErrorPolicy::Stop);
  EXPECT_TRUE(alternate() & kBsy);
  Archive refused;
  ide->visit(refused);
  EXPECT_FALSE(refused.status());
  ide->device(0)->io().retry_kept();
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_EQ(disk_node.bytes[0], 'k');
}

TEST_F(IdeTest, ReadErrorIsUncorrectable) {
  injector.next_errors = {EIO};
  address(0, 1);
  EXPECT_TRUE(command(0x20) & kErr);
  EXPECT_EQ(in(1), kUnc);
}

TEST_F(IdeTest, SoftResetForgetsTheCommand) {
  address(0, 8);
  command(0x20);
  ide->control_block().bus_write(0, 4, 1);
  EXPECT_EQ(alternate(), kBsy);
  ide->control_block().bus_write(0, 0, 1);
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_EQ(in(2), 1);
  EXPECT_EQ(in(1), 1);
}

TEST_F(IdeTest, InterruptsAreHeldBackByTheControlRegister) {
  ide->control_block().bus_write(0, 2, 1);
  address(0, 0);
  command(kIdentify);
  EXPECT_FALSE(irq.level);
  ide->control_block().bus_write(0, 0, 1);
  EXPECT_TRUE(irq.level);
}

TEST_F(IdeTest, PacketReadsComeInPiecesOfTheHostsLimit) {
  EXPECT_TRUE(packet({scsi::kRead10, 0, 0, 0, 0, 2, 0, 0, 2}, 2048) & kDrq);
  EXPECT_EQ(in(2), kReasonToHost);
  EXPECT_EQ(in(4) | in(5) << 8, 2048);
  std::string got = read_words(2048);
  EXPECT_TRUE(wait() & kDrq);
  got += read_words(2048);
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_EQ(in(2), kReasonCommand | kReasonToHost);
  EXPECT_EQ(got, cd_node.bytes.substr(4096, 4096));
}

TEST_F(IdeTest, PacketReadsByDma) {
  GuestAddr data = guest.allocate(2048);
  set_table({{data, 2048}});
  start_master(true);
  EXPECT_EQ(packet({scsi::kRead10, 0, 0, 0, 0, 1, 0, 0, 1}, 0, 1), kDrdy | kDsc);
  EXPECT_EQ(guest.text(data, 2048), cd_node.bytes.substr(2048, 2048));
}

TEST_F(IdeTest, UnknownPacketIsACheckCondition) {
  EXPECT_TRUE(packet({0xff}) & kErr);
  EXPECT_EQ(in(1), 0x54);
  EXPECT_EQ(last_sense(), scsi::kInvalidOpcode);
}

TEST_F(IdeTest, TableOfContentsEndsWithTheLeadOut) {
  packet({scsi::kReadToc, 0, 0, 0, 0, 0, 0, 0, 20});
  std::string toc = read_words(20);
  EXPECT_EQ(toc[2], 1);
  EXPECT_EQ(static_cast<u8>(toc[14]), 0xaa);
  EXPECT_EQ(load_be<u32>(&toc[16]), 64u);
}

TEST_F(IdeTest, ChangedMediumIsToldOnce) {
  RemovableDrive* drive = cd->removable();
  drive->open_tray();
  EXPECT_TRUE(packet({scsi::kTestUnitReady}) & kErr);
  EXPECT_EQ(last_sense(), scsi::kTrayOpen);
  drive->close_tray();
  EXPECT_TRUE(packet({scsi::kTestUnitReady}) & kErr);
  EXPECT_FALSE(packet({scsi::kTestUnitReady}) & kErr);
}

TEST_F(IdeTest, LockedTrayStaysShutForTheGuestAndAsksForTheMonitor) {
  packet({scsi::kPreventAllow, 0, 0, 0, 1});
  EXPECT_TRUE(packet({scsi::kStartStop, 0, 0, 0, 2}) & kErr);
  EXPECT_EQ(last_sense(), scsi::kRemovalPrevented);
  cd->removable()->request_eject();
  packet({scsi::kGetEventStatus, 1, 0, 0, 0x10, 0, 0, 0, 8});
  EXPECT_EQ(read_words(8)[4], 1);
  wait();
  packet({scsi::kPreventAllow});
  EXPECT_FALSE(packet({scsi::kStartStop, 0, 0, 0, 2}) & kErr);
  EXPECT_TRUE(cd->removable()->tray_is_open());
}

TEST_F(IdeTest, StateInTheMiddleOfATransferGoesOnElsewhere) {
  address(3, 2);
  command(0x20);
  std::string got = read_words(100);
  Archive saved;
  ide->visit(saved);
  ASSERT_TRUE(saved.status());
  std::vector<u8> bytes = saved.take();
  ide = make_channel();
  Archive loaded{bytes};
  ide->visit(loaded);
  ASSERT_TRUE(loaded.status());
  got += read_words(412);
  EXPECT_TRUE(wait() & kDrq);
  got += read_words(512);
  EXPECT_EQ(got, disk_node.bytes.substr(3 * 512, 1024));
}

TEST_F(IdeTest, StateBeforeDmaBeginsGoesOnElsewhere) {
  address(1, 1);
  command(0xc8);
  Archive saved;
  ide->visit(saved);
  std::vector<u8> bytes = saved.take();
  ide = make_channel();
  Archive loaded{bytes};
  ide->visit(loaded);
  GuestAddr data = guest.allocate(512);
  set_table({{data, 512}});
  start_master(true);
  EXPECT_EQ(wait(), kDrdy | kDsc);
  EXPECT_EQ(guest.text(data, 512), disk_node.bytes.substr(512, 512));
}

TEST_F(IdeTest, EmptyPlaceReadsAsZero) {
  IdeChannel empty(*loop, guest.space(), irq);
  empty.command_block().bus_write(7, kIdentify, 1);
  EXPECT_EQ(empty.command_block().bus_read(7, 1), 0u);
}

}  // namespace
}  // namespace atl::devices
