#include "devices/storage/nvme.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "block/test_support.h"
#include "devices/pci/fake_vm.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

constexpr u64 kDoorbells = 0x1000;

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }

/// The driver's side: the admin queue, and one pair of I/O queues of 8 entries.
struct NvmeTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();
  TestGuest guest;
  FakeVm vm;
  block::MemoryNode node{std::string(kMiB, 'n')};
  block::ErrorInjector injector{node};
  std::unique_ptr<Nvme> nvme = make();
  memory::BusDevice* registers = nvme->function().bar(0).device;
  struct Pair {
    GuestAddr sq, cq;
    u32 tail = 0, head = 0;
    bool phase = true;
  } pairs[2] = {{guest.allocate(512, 4096), guest.allocate(128, 4096)}, {guest.allocate(512, 4096), guest.allocate(128, 4096)}};

  std::unique_ptr<Nvme> make() {
    NvmeOptions options;
    options.serial = "N1";
    auto made = MUST(Nvme::create(vm, options, *loop, guest.space()));
    made->io().set_node(&injector);
    return made;
  }
  void write(u64 at, u32 value) { registers->bus_write(at, value, 4); }
  u32 read(u64 at) { return static_cast<u32>(registers->bus_read(at, 4)); }

  void enable() {
    write(0x24, 7 | 7 << 16);
    registers->bus_write(0x28, pairs[0].sq, 8);
    registers->bus_write(0x30, pairs[0].cq, 8);
    write(0x14, 1 | 6 << 16 | 4 << 20);
  }
  void SetUp() override {
    enable();
    EXPECT_EQ(submit(0, {.opcode = 5, .prp1 = pairs[1].cq, .dw10 = 1 | 7 << 16, .dw11 = 3}), 0);
    EXPECT_EQ(submit(0, {.opcode = 1, .prp1 = pairs[1].sq, .dw10 = 1 | 7 << 16, .dw11 = 1 | 1 << 16}), 0);
  }
  struct Command {
    u8 opcode = 0;
    u32 space = 0;
    u64 prp1 = 0, prp2 = 0;
    u32 dw10 = 0, dw11 = 0, dw12 = 0;
  };
  void add(u32 queue, const Command& c) {
    Pair& p = pairs[queue];
    u8* at = guest.at(p.sq + 64 * p.tail);
    std::memset(at, 0, 64);
    at[0] = c.opcode;
    store_le<u16>(at + 2, static_cast<u16>(p.tail + 100));
    store_le<u32>(at + 4, c.space);
    store_le<u64>(at + 24, c.prp1);
    store_le<u64>(at + 32, c.prp2);
    store_le<u32>(at + 40, c.dw10);
    store_le<u32>(at + 44, c.dw11);
    store_le<u32>(at + 48, c.dw12);
    p.tail = (p.tail + 1) % 8;
    write(kDoorbells + 8 * queue, p.tail);
  }
  /// The status of the next completion; -1 if there is none.
  int take(u32 queue) {
    Pair& p = pairs[queue];
    const u8* at = guest.at(p.cq + 16 * p.head);
    for (int turn = 0; turn < 200 && ((at[14] & 1) != p.phase); ++turn) loop->run_once(1'000'000);
    if ((at[14] & 1) != p.phase) return -1;
    const int status = load_le<u16>(at + 14) >> 1 & 0x7ff;
    p.head = (p.head + 1) % 8;
    if (p.head == 0) p.phase = !p.phase;
    write(kDoorbells + 8 * queue + 4, p.head);
    return status;
  }
  int submit(u32 queue, const Command& c) {
    add(queue, c);
    return take(queue);
  }
};

TEST_F(NvmeTest, IdentifyTellsSizeAndName) {
  GuestAddr page = guest.allocate(4096, 4096);
  EXPECT_EQ(submit(0, {.opcode = 6, .space = 1, .prp1 = page}), 0);
  EXPECT_EQ(load_le<u64>(guest.at(page)), kMiB / 512);
  EXPECT_EQ(submit(0, {.opcode = 6, .prp1 = page, .dw10 = 1}), 0);
  EXPECT_EQ(guest.text(page + 4, 3), "N1 ");
}

TEST_F(NvmeTest, ReadsThroughOneTwoAndManyPages) {
  node.bytes.replace(512, 3, "abc");
  GuestAddr pages = guest.allocate(5 * 4096, 4096), list = guest.allocate(64, 8);
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = pages + 512, .dw10 = 1}), 0);
  EXPECT_EQ(guest.text(pages + 512, 3), "abc");
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = pages + 2048, .prp2 = pages + 4096, .dw10 = 1, .dw12 = 7}), 0);
  EXPECT_EQ(guest.text(pages + 2048, 3), "abc");
  for (u64 i = 0; i < 3; ++i) store_le<u64>(guest.at(list + 8 * i), pages + (i + 1) * 4096);
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = pages, .prp2 = list, .dw10 = 1, .dw12 = 31}), 0);
  EXPECT_EQ(guest.text(pages, 3), "abc");
  EXPECT_EQ(guest.text(pages + 4 * 4096 - 3, 3), "nnn");
}

TEST_F(NvmeTest, WriteFlushZeroesAndDeallocateReachTheDisk) {
  GuestAddr data = guest.put(std::vector<u8>(512, 'w'));
  EXPECT_EQ(submit(1, {.opcode = 1, .space = 1, .prp1 = data, .dw10 = 4, .dw12 = 1u << 30}), 0);
  EXPECT_EQ(injector.write_flags.back(), block::kFua);
  EXPECT_EQ(node.bytes.substr(2048, 512), std::string(512, 'w'));
  EXPECT_EQ(submit(1, {.opcode = 0, .space = 1}), 0);
  EXPECT_EQ(injector.flushes, 1);
  EXPECT_EQ(submit(1, {.opcode = 8, .space = 1, .dw10 = 4}), 0);
  EXPECT_EQ(node.bytes.substr(2048, 512), std::string(512, '\0'));
  std::vector<u8> range(16);
  store_le<u32>(&range[4], 1);
  store_le<u64>(&range[8], 6);
  EXPECT_EQ(submit(1, {.opcode = 9, .space = 1, .prp1 = guest.put(range), .dw11 = 4}), 0);
  EXPECT_EQ(node.bytes.substr(3072, 512), std::string(512, '\0'));
}

TEST_F(NvmeTest, WrongRequestsHaveTheirStatus) {
  GuestAddr data = guest.allocate(512, 4096);
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = data, .dw10 = kMiB / 512}), 0x80);
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 7, .prp1 = data}), 0x0b);
  EXPECT_EQ(submit(1, {.opcode = 0x55, .space = 1}), 0x01);
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = u64{1} << 39}), 0x04);
  EXPECT_EQ(submit(0, {.opcode = 1, .prp1 = data, .dw10 = 1 | 7 << 16, .dw11 = 1 | 1 << 16}), 0x101);
  EXPECT_EQ(submit(0, {.opcode = 4, .dw10 = 1}), 0x10c);  // its submission queue lives
  injector.next_errors = {EIO};
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = data}), 0x281);
}

TEST_F(NvmeTest, QueuesAndInterruptsComeBackFromSavedState) {
  Archive saved;
  nvme->visit(saved);
  ASSERT_TRUE(saved.status());
  std::vector<u8> bytes = saved.take();
  nvme = make();
  registers = nvme->function().bar(0).device;
  Archive loaded{bytes};
  nvme->visit(loaded);
  ASSERT_TRUE(loaded.status());
  GuestAddr data = guest.allocate(512, 4096);
  EXPECT_EQ(submit(1, {.opcode = 2, .space = 1, .prp1 = data}), 0);
  EXPECT_EQ(guest.text(data, 1), "n");
}

TEST_F(NvmeTest, DisablingForgetsTheQueues) {
  write(0x14, 0);
  EXPECT_EQ(read(0x1c), 0u);
  pairs[1].tail = 0;
  add(1, {.opcode = 0, .space = 1});
  for (int turn = 0; turn < 3; ++turn) loop->run_once(0);
  EXPECT_EQ(injector.flushes, 0);
}

}  // namespace
}  // namespace atl::devices
