#include <gtest/gtest.h>

#include <fmt/core.h>
#include <sys/socket.h>

#include "devices/virtio/balloon.h"
#include "devices/virtio/console.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/test_driver.h"

namespace atl::devices {
namespace {

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  EXPECT_TRUE(loop);
  return std::move(*loop);
}

// Entropy.

class VirtioRngTest : public testing::Test {
 protected:
  VirtioRngTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    source_.reset(ends[0]);
    feed_.reset(ends[1]);
  }
  void make(u64 max_bytes = ~u64{0}, u64 period_ns = 0) {
    device_.emplace(VirtioRngOptions{std::move(source_), max_bytes, period_ns}, *loop_, guest_.space());
    driver_.emplace(guest_, *device_);
    driver_->start(0);
  }
  void feed(std::string_view text) { EXPECT_EQ(::write(feed_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size())); }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_ = make_loop();
  Fd source_, feed_;
  std::optional<VirtioRng> device_;
  std::optional<TestDriver> driver_;
  GuestAddr out_ = guest_.allocate(64);
};

TEST_F(VirtioRngTest, FillsWhatTheSourceHas) {
  make();
  feed("noise");
  auto used = driver_->request(0, {{out_, 64, true}});
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 5u);
  EXPECT_EQ(guest_.text(out_, 5), "noise");
  EXPECT_EQ(driver_->interrupts[0], 1);
}

TEST_F(VirtioRngTest, WaitsForASourceThatHasNothing) {
  make();
  driver_->queue(0).add({{out_, 64, true}});
  driver_->kick(0);
  EXPECT_FALSE(driver_->queue(0).take_used());
  feed("late");
  EXPECT_EQ(driver_->wait_used(0)->written, 4u);
}

TEST_F(VirtioRngTest, GivesNoMoreThanItsQuotaAPeriod) {
  make(6, 1'000'000);
  feed("abcdefghij");
  EXPECT_EQ(driver_->request(0, {{out_, 64, true}})->written, 6u);
  EXPECT_EQ(driver_->request(0, {{out_, 64, true}})->written, 4u);  // from the next period
}

TEST_F(VirtioRngTest, MissingSourceIsNamed) {
  auto source = VirtioRng::open_source("/nonexistent/random");
  ASSERT_FALSE(source);
  EXPECT_NE(source.error().text().find("/nonexistent/random"), std::string::npos);
}

// Balloon.

class VirtioBalloonTest : public testing::Test {
 protected:
  VirtioBalloonTest()
      : device_({.ram_bytes = guest_.size(), .deflate_on_oom = true, .free_page_reporting = true,
                 .on_change = [this](u64 bytes) { told_ = bytes; }},
                *loop_, guest_.space()),
        driver_(guest_, device_) {
    driver_.start((1 << 1) | (1 << 2) | (1 << 5));
  }
  GuestAddr put_pages(std::vector<u32> pages) {
    return guest_.put({reinterpret_cast<const u8*>(pages.data()), 4 * pages.size()});
  }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_ = make_loop();
  u64 told_ = 0;
  VirtioBalloon device_;
  TestDriver driver_;
};

TEST_F(VirtioBalloonTest, InflatedPagesReadAsZero) {
  GuestAddr block = guest_.allocate(4 * kPageSize, kPageSize);
  std::fill_n(guest_.at(block), 4 * kPageSize, u8{1});
  u32 first = static_cast<u32>(block / kPageSize);
  GuestAddr list = put_pages({first, first + 1, first + 3, 0xffffffff});
  ASSERT_TRUE(driver_.request(0, {{list, 16, false}}));
  EXPECT_EQ(*guest_.at(block), 0);
  EXPECT_EQ(*guest_.at(block + kPageSize), 0);
  EXPECT_EQ(*guest_.at(block + 2 * kPageSize), 1);
  EXPECT_EQ(*guest_.at(block + 3 * kPageSize), 0);
  EXPECT_TRUE(driver_.request(1, {{list, 16, false}}));
}

TEST_F(VirtioBalloonTest, ReportedPagesAreDiscardedWhereTheyAreWhole) {
  GuestAddr block = guest_.allocate(3 * kPageSize, kPageSize);
  std::fill_n(guest_.at(block), 3 * kPageSize, u8{1});
  ASSERT_TRUE(driver_.request(3, {{block + 8, static_cast<u32>(2 * kPageSize), true}}));
  EXPECT_EQ(*guest_.at(block), 1);
  EXPECT_EQ(*guest_.at(block + kPageSize), 0);
  EXPECT_EQ(*guest_.at(block + 2 * kPageSize), 1);
}

TEST_F(VirtioBalloonTest, TargetGoesToTheDriverAndTheAnswerComesBack) {
  device_.set_target(guest_.size() - 3 * kPageSize);
  EXPECT_EQ(driver_.config_interrupts, 1);
  u32 pages = 0;
  device_.config_read(0, {reinterpret_cast<u8*>(&pages), 4});
  EXPECT_EQ(pages, 3u);
  device_.config_write(4, {reinterpret_cast<const u8*>(&pages), 4});
  driver_.settle();
  EXPECT_EQ(told_, guest_.size() - 3 * kPageSize);
  EXPECT_EQ(device_.actual_bytes(), told_);
}

TEST_F(VirtioBalloonTest, StatisticsAreReadWhenTheIntervalIsOver) {
  std::vector<u8> entry(10);
  store_le<u16>(&entry[0], 4);
  store_le<u64>(&entry[2], 12345);
  GuestAddr at = guest_.put(entry);
  driver_.queue(2).add({{at, 10, false}});
  driver_.kick(2);
  ASSERT_EQ(device_.statistics().list.size(), 1u);
  EXPECT_EQ(device_.statistics().list[0].value, 12345u);
  EXPECT_FALSE(driver_.queue(2).take_used());
  device_.set_statistics_interval(1000);
  EXPECT_TRUE(driver_.wait_used(2));
}

// Console.

struct FakeChar final : CharBackend {
  void attach(Frontend new_frontend) override { frontend = std::move(new_frontend); }
  void detach() override { frontend = {}; }
  size_t write(std::span<const u8> data) override {
    size_t taken = std::min(room, data.size());
    output.append(reinterpret_cast<const char*>(data.data()), taken);
    room -= taken;
    return taken;
  }
  void accept_input() override { ++accepts; }
  const std::string& id() const override { return name; }
  std::string describe() const override { return "fake"; }
  void type(std::string_view text) { frontend.receive({reinterpret_cast<const u8*>(text.data()), text.size()}); }

  Frontend frontend;
  std::string name = "fake", output;
  size_t room = ~size_t{0};
  int accepts = 0;
};

class VirtioConsoleTest : public testing::Test {
 protected:
  void make(u32 max_ports) {
    device_ = std::make_unique<VirtioConsole>(max_ports, *loop_, guest_.space());
    driver_.emplace(guest_, *device_);
    driver_->start(max_ports > 1 ? 2 : 0);
  }
  std::string add(VirtioConsolePort port) {
    CharBackend* backend = port.backend;
    auto added = device_->add(std::move(port));
    if (!added) return added.error().text();
    if (backend) backend->attach(std::move(added->frontend));
    return fmt::format("{}", added->number);
  }
  void make_simple() {
    device_ = std::make_unique<VirtioConsole>(1, *loop_, guest_.space());
    add({.backend = &chars_[0]});
    driver_.emplace(guest_, *device_);
    driver_->start(0);
  }
  void make_multiport() {
    make(4);
    add({.number = 0, .backend = &chars_[0]});
    add({.number = 2, .console = false, .name = "org.example.0", .backend = &chars_[1], .on_open = [this](bool open) { opened_.push_back(open); }});
  }
  void control(u32 port, u16 event, u16 value) {
    std::vector<u8> message(8);
    store_le<u32>(&message[0], port);
    store_le<u16>(&message[4], event);
    store_le<u16>(&message[6], value);
    ASSERT_TRUE(driver_->request(3, {{guest_.put(message), 8, false}}));
  }
  /// The next control message of the device, as "port event value text".
  std::string next_control() {
    GuestAddr at = guest_.allocate(64);
    driver_->queue(2).add({{at, 64, true}});
    driver_->kick(2);
    auto used = driver_->queue(2).take_used();
    if (!used) return "nothing";
    return fmt::format("{} {} {} {}", load_le<u32>(guest_.at(at)), load_le<u16>(guest_.at(at + 4)),
                       load_le<u16>(guest_.at(at + 6)), guest_.text(at + 8, used->written - 8));
  }
  void send(u16 queue, std::string_view text) {
    GuestAddr at = guest_.put({reinterpret_cast<const u8*>(text.data()), text.size()});
    driver_->queue(queue).add({{at, static_cast<u32>(text.size()), false}});
    driver_->kick(queue);
  }

  TestGuest guest_;
  std::unique_ptr<Loop> loop_ = make_loop();
  FakeChar chars_[2];
  std::unique_ptr<VirtioConsole> device_;
  std::optional<TestDriver> driver_;
  std::vector<bool> opened_;
};

TEST_F(VirtioConsoleTest, OutputReachesTheBackend) {
  make_simple();
  send(1, "hello");
  EXPECT_EQ(chars_[0].output, "hello");
  EXPECT_TRUE(driver_->queue(1).take_used());
}

TEST_F(VirtioConsoleTest, FullBackendHoldsTheRestBack) {
  make_simple();
  chars_[0].room = 3;
  send(1, "hello");
  send(1, " world");
  EXPECT_EQ(chars_[0].output, "hel");
  EXPECT_FALSE(driver_->queue(1).take_used());
  chars_[0].room = 100;
  chars_[0].frontend.writable();
  driver_->settle();
  EXPECT_EQ(chars_[0].output, "hello world");
}

TEST_F(VirtioConsoleTest, InputWaitsForBuffersAndFillsThem) {
  make_simple();
  EXPECT_EQ(chars_[0].frontend.can_receive(), 4096u);
  chars_[0].type("keys");
  driver_->settle();
  EXPECT_EQ(chars_[0].frontend.can_receive(), 4092u);
  GuestAddr at = guest_.allocate(16);
  EXPECT_EQ(driver_->request(0, {{at, 3, true}})->written, 3u);
  EXPECT_EQ(guest_.text(at, 3), "key");
  EXPECT_EQ(driver_->request(0, {{at, 3, true}})->written, 1u);
  EXPECT_GT(chars_[0].accepts, 0);
}

TEST_F(VirtioConsoleTest, PortsAreAnnouncedNamedAndOpened) {
  make_multiport();
  control(0xffffffff, 0, 1);
  EXPECT_EQ(next_control(), "0 1 1 ");
  EXPECT_EQ(next_control(), "2 1 1 ");
  control(0, 3, 1);
  EXPECT_EQ(next_control(), "0 4 1 ");
  EXPECT_EQ(next_control(), "0 6 1 ");
  control(2, 3, 1);
  EXPECT_EQ(next_control(), "2 7 1 org.example.0");
  EXPECT_EQ(next_control(), "nothing");
  chars_[1].frontend.event(CharEvent::Opened);
  driver_->settle();
  EXPECT_FALSE(chars_[1].frontend.can_receive());
  control(2, 6, 1);
  EXPECT_TRUE(chars_[1].frontend.can_receive());
  send(7, "data");
  EXPECT_EQ(chars_[1].output, "data");
}

TEST_F(VirtioConsoleTest, MessagesThatWaitAreSavedAndRestored) {
  make_multiport();
  control(2, 3, 1);
  bool paused = false;
  device_->quiesce([&] { paused = true; });
  driver_->settle();
  ASSERT_TRUE(paused);
  Archive out;
  device_->visit_all(out, std::nullopt);
  auto saved = out.take();
  VirtioDevice::Activation activation{.features = virtio::kFeatureVersion1 | 2};
  for (u16 i = 0; i < device_->queue_count(); ++i) activation.queues.push_back(driver_->queue(i).layout());
  Archive in{std::span<const u8>(saved)};
  device_->visit_all(in, activation);
  ASSERT_TRUE(in.status());
  device_->resume();
  driver_->settle();
  EXPECT_EQ(next_control(), "2 7 1 org.example.0");
}

TEST_F(VirtioConsoleTest, FloodOfQuestionsIsBounded) {
  make_multiport();
  for (int i = 0; i < 2000; ++i) control(0, 3, 1);
  int answers = 0;
  while (next_control() != "nothing") ++answers;
  EXPECT_LE(answers, 256);
}

TEST_F(VirtioConsoleTest, EmergencyWriteNeedsNoDriver) {
  make_simple();
  u32 letter = '!';
  device_->config_write(8, {reinterpret_cast<const u8*>(&letter), 4});
  driver_->settle();
  EXPECT_EQ(chars_[0].output, "!");
}

TEST_F(VirtioConsoleTest, LateInputAfterTheDeviceIsGoneIsHarmless) {
  make_simple();
  auto frontend = chars_[0].frontend;
  driver_.reset();
  device_.reset();
  frontend.receive({});
  frontend.writable();
  EXPECT_FALSE(chars_[0].frontend.receive);
}

TEST_F(VirtioConsoleTest, PortsComeAndGoBesideTheDriver) {
  make_multiport();
  control(0xffffffff, 0, 1);
  EXPECT_EQ(next_control(), "0 1 1 ");
  EXPECT_EQ(next_control(), "2 1 1 ");
  EXPECT_EQ(add({.console = false, .name = "late"}), "1");
  EXPECT_EQ(next_control(), "1 1 1 ");
  control(1, 3, 1);
  EXPECT_EQ(next_control(), "1 7 1 late");
  device_->remove(2);
  chars_[1].detach();
  EXPECT_EQ(next_control(), "2 2 1 ");
  send(7, "into the void");
  EXPECT_EQ(chars_[1].output, "");
  EXPECT_EQ(add({.number = 2, .backend = &chars_[1]}), "2");
}

TEST_F(VirtioConsoleTest, OpeningByTheGuestIsTold) {
  make_multiport();
  control(2, 6, 1);
  control(2, 6, 1);
  control(2, 6, 0);
  EXPECT_EQ(opened_, (std::vector<bool>{true, false}));
  control(2, 6, 1);
  device_->quiesce([&] { device_->power_on_reset(); });
  driver_->settle();
  EXPECT_FALSE(opened_.back());
}

TEST_F(VirtioConsoleTest, NumbersAreChecked) {
  make_multiport();
  EXPECT_EQ(add({.number = 2}), "virtio-serial-bus: A port already exists at id 2");
  EXPECT_EQ(add({.number = 4}), "virtio-serial-bus: Out-of-range port id specified, max. allowed: 3");
  EXPECT_EQ(add({.number = 0, .console = false}), "virtio-serial-bus: A port already exists at id 0");
  EXPECT_EQ(add({}), "1");
  EXPECT_EQ(add({.console = false}), "3");
  EXPECT_EQ(add({}), "virtio-serial-bus: Maximum port limit for this device reached");
}

}  // namespace
}  // namespace atl::devices
