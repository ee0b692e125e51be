#include "memory/address_space.h"

#include <gtest/gtest.h>

namespace atl::memory {
namespace {

/// Remembers what it was asked; reads give `answer`.
struct Recorder : BusDevice {
  struct Access {
    u64 offset, value;
    unsigned width;
    bool operator==(const Access&) const = default;
  };
  u64 bus_read(u64 offset, unsigned width) override {
    reads.push_back({offset, 0, width});
    return answer;
  }
  void bus_write(u64 offset, u64 value, unsigned width) override { writes.push_back({offset, value, width}); }
  u64 answer = 0;
  std::vector<Access> reads, writes;
};

struct AddressSpaceTest : testing::Test {
  AddressSpace space{"memory", u64{1} << 40};
  Recorder device, other;

  RegionId add_device(const char* name, u64 base, u64 size, BusDevice& to, int priority = 0) {
    return MUST(space.add({.name = name, .base = base, .size = size, .priority = priority, .device = &to}));
  }
  std::shared_ptr<RamBlock> add_ram(u64 base, u64 size, bool readonly = false, int priority = 0) {
    auto ram = MUST(RamBlock::create("ram", size, {}));
    MUST(
        space.add({.name = "ram", .base = base, .size = size, .priority = priority, .ram = ram, .readonly = readonly}));
    return ram;
  }
};

TEST_F(AddressSpaceTest, AccessReachesTheDeviceWithItsOffset) {
  add_device("uart", 0x1000, 8, device);
  BusView view(space);
  device.answer = 0x1234'5678'9abc'def0;
  EXPECT_EQ(view.read(0x1004, 2), 0xdef0u);
  view.write(0x1007, 0x1ff, 1);
  EXPECT_EQ(device.reads[0], (Recorder::Access{4, 0, 2}));
  EXPECT_EQ(device.writes[0], (Recorder::Access{7, 0xff, 1}));
}

TEST_F(AddressSpaceTest, UnclaimedReadIsAllOnesAndCounted) {
  BusView view(space);
  EXPECT_EQ(view.read(0x5000, 4), 0xffff'ffffu);
  view.write(~u64{0}, 1, 8);
  EXPECT_GT(view.unclaimed(), 1u);
}

TEST_F(AddressSpaceTest, HigherPriorityCoversAndTheRestShowsOnBothSides) {
  add_device("low", 0, 0x3000, device);
  add_device("high", 0x1000, 0x1000, other, 1);
  BusView view(space);
  view.write(0x0ffc, 1, 4);
  view.write(0x1000, 2, 4);
  view.write(0x2000, 3, 4);
  ASSERT_EQ(device.writes.size(), 2u);
  EXPECT_EQ(device.writes[1], (Recorder::Access{0x2000, 3, 4}));
  EXPECT_EQ(other.writes.size(), 1u);
  EXPECT_EQ(space.map()->slots().size(), 3u);
}

TEST_F(AddressSpaceTest, OverlapOfOnePriorityNamesBoth) {
  add_device("first", 0x1000, 0x100, device);
  auto r = space.add({.name = "second", .base = 0x10ff, .size = 2, .device = &other});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().text(), "'second' at 0x10ff-0x1100 overlaps 'first' at 0x1000-0x10ff in the memory space");
}

TEST_F(AddressSpaceTest, RegionPastTheLimitIsRefused) {
  AddressSpace ports("I/O", 1 << 16);
  EXPECT_FALSE(ports.add({.name = "x", .base = 0xffff, .size = 2, .device = &device}));
  EXPECT_FALSE(ports.add({.name = "x", .base = ~u64{0}, .size = 2, .device = &device}));
  EXPECT_FALSE(ports.add({.name = "x", .base = 0, .size = 0, .device = &device}));
  EXPECT_TRUE(ports.add({.name = "x", .base = 0xffff, .size = 1, .device = &device}));
}

TEST_F(AddressSpaceTest, AccessAcrossSlotsIsSplit) {
  add_device("a", 0x1000, 6, device);
  add_device("b", 0x1006, 8, other);
  device.answer = 0x1111;
  other.answer = 0x2222;
  BusView view(space);
  EXPECT_EQ(view.read(0x1004, 4), 0x2222'1111u);
  view.write(0x1003, 0xddcc'bbaa, 4);
  EXPECT_EQ(device.writes, (std::vector<Recorder::Access>{{3, 0xbbaa, 2}, {5, 0xcc, 1}}));
  EXPECT_EQ(other.writes, (std::vector<Recorder::Access>{{0, 0xdd, 1}}));
}

TEST_F(AddressSpaceTest, RomIgnoresWrites) {
  auto rom = add_ram(0, 4096, true);
  rom->data()[5] = 7;
  BusView view(space);
  view.write(5, 9, 1);
  EXPECT_EQ(view.read(5, 1), 7u);
  EXPECT_FALSE(space.guest_memory()->write(5, std::vector<u8>{9}));
  EXPECT_TRUE(space.guest_memory()->load(5, std::vector<u8>{9}));
  EXPECT_EQ(view.read(5, 1), 9u);
}

TEST_F(AddressSpaceTest, EventTakesMatchingWritesBeforeTheDevice) {
  Fd any = MUST(make_eventfd()), five = MUST(make_eventfd());
  RegionId id = add_device("notify", 0x1000, 0x100, device);
  ASSERT_TRUE(space.update(id, 0x1000,
                           {{.offset = 4, .width = 2, .value = 5, .fd = five.get()}, {.offset = 8, .fd = any.get()}}));
  BusView view(space);
  view.write(0x1004, 5, 2);
  EXPECT_EQ(drain_eventfd(five), 1u);
  view.write(0x1008, 99, 4);
  EXPECT_EQ(drain_eventfd(any), 1u);
  EXPECT_TRUE(device.writes.empty());
  view.write(0x1004, 6, 2);  // another value
  view.write(0x1004, 5, 4);  // another width
  EXPECT_EQ(device.writes.size(), 2u);
}

TEST_F(AddressSpaceTest, ViewFollowsMovesAndRemovals) {
  RegionId id = add_device("bar", 0x1000, 0x100, device);
  BusView view(space);
  view.write(0x1000, 1, 1);
  ASSERT_TRUE(space.update(id, 0x2000, {}));
  view.write(0x1000, 1, 1);
  view.write(0x2000, 1, 1);
  space.remove(id);
  view.write(0x2000, 1, 1);
  EXPECT_EQ(device.writes.size(), 2u);
  EXPECT_EQ(view.unclaimed(), 2u);
}

TEST_F(AddressSpaceTest, FailedMoveChangesNothing) {
  RegionId id = add_device("bar", 0x1000, 0x100, device);
  add_device("fixed", 0x2000, 0x100, other);
  EXPECT_FALSE(space.update(id, 0x2000, {}));
  BusView view(space);
  view.write(0x1000, 1, 1);
  EXPECT_EQ(device.writes.size(), 1u);
}

struct CountingListener : MapListener {
  void map_changed(const AddressMap& before, const AddressMap& after) override {
    ++calls;
    slots_before = before.slots().size();
    slots_after = after.slots().size();
  }
  int calls = 0;
  size_t slots_before = 0, slots_after = 0;
};

TEST_F(AddressSpaceTest, BatchPublishesOnce) {
  CountingListener listener;
  space.set_listener(&listener);
  EXPECT_EQ(listener.calls, 1);
  {
    AddressSpace::Batch batch(space);
    add_device("a", 0, 1, device);
    AddressSpace::Batch inner(space);
    add_device("b", 1, 1, device);
  }
  EXPECT_EQ(listener.calls, 2);
  EXPECT_EQ(listener.slots_before, 0u);
  EXPECT_EQ(listener.slots_after, 2u);
}

struct CountingObserver : WriteObserver {
  void host_wrote(GuestAddr at, u64 size) override { last = {at, size}; }
  std::pair<GuestAddr, u64> last;
};

TEST_F(AddressSpaceTest, ObserverHearsOfHostWritesToRam) {
  CountingObserver observer;
  add_ram(0x10000, 8192);
  space.set_write_observer(&observer);
  ASSERT_TRUE(space.guest_memory()->fill(0x10010, 1, 20));
  EXPECT_EQ(observer.last, (std::pair<GuestAddr, u64>{0x10010, 20}));
  BusView view(space);
  view.write(0x10020, 1, 2);
  EXPECT_EQ(observer.last, (std::pair<GuestAddr, u64>{0x10020, 2}));
}

TEST_F(AddressSpaceTest, OverlayLeavesRamOnBothSidesReachable) {
  add_ram(0, 0x4000);
  add_device("window", 0x1000, 0x1000, device, 1);
  auto memory = space.guest_memory();
  ASSERT_EQ(memory->ranges().size(), 2u);
  EXPECT_EQ(memory->ranges()[1].offset, 0x2000u);
  u32 value = 0;
  EXPECT_TRUE(memory->write_object(0x2000, u32{77}));
  EXPECT_TRUE(memory->read_object(0x2000, value));
  EXPECT_EQ(value, 77u);
  EXPECT_FALSE(memory->read_object(0x0ffe, value));
}

TEST_F(AddressSpaceTest, RegionsOfOneViewAreNotInTheOther) {
  add_ram(0, 0x4000);
  MUST(space.add({.name = "hidden", .base = 0x1000, .size = 0x1000, .priority = 1, .device = &device, .audience = Audience::NormalOnly}));
  MUST(space.add({.name = "secret", .base = 0x1000, .size = 0x1000, .priority = 1, .device = &other, .audience = Audience::SmmOnly}));
  device.answer = 1;
  other.answer = 2;
  EXPECT_EQ(BusView(space).read(0x1000, 1), 1u);
  EXPECT_EQ(BusView(space, View::Smm).read(0x1000, 1), 2u);
  u8 byte = 0;
  EXPECT_FALSE(space.guest_memory()->read(0x1000, std::span(&byte, 1)));
  EXPECT_FALSE(space.add({.name = "third", .base = 0x1000, .size = 0x1000, .priority = 1, .device = &other}));
}

TEST_F(AddressSpaceTest, BothViewsAreOneMapAsLongAsNothingIsHidden) {
  add_ram(0, 0x1000);
  EXPECT_EQ(space.map(View::Smm), space.map());
}

}  // namespace
}  // namespace atl::memory
