#include "control/chardev/chardev.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control/chardev/channel.h"
#include "control/chardev/mux.h"
#include "control/chardev/telnet.h"

namespace atl::control {
namespace {

std::span<const u8> bytes_of(std::string_view text) { return {reinterpret_cast<const u8*>(text.data()), text.size()}; }

/// Collects what a back end delivers; takes `room` bytes.
struct Sink {
  std::string input;
  std::vector<CharEvent> events;
  size_t room = 4096;
  CharBackend::Frontend frontend() {
    return {.can_receive = [this] { return room; },
            .receive = [this](std::span<const u8> d) { input.append(reinterpret_cast<const char*>(d.data()), d.size()); },
            .event = [this](CharEvent e) { events.push_back(e); },
            .writable = {}};
  }
};

class ChardevTest : public testing::Test {
 protected:
  ChardevTest() {
    char name[] = "/tmp/atoll-chardev-XXXXXX";
    dir = ::mkdtemp(name);
    loop = MUST(Loop::create());  // io_uring works where the tests run
  }
  ~ChardevTest() override {
    ::unlink((dir + "/s").c_str());
    ::unlink((dir + "/f").c_str());
    ::rmdir(dir.c_str());
  }
  template <class Done>
  void run_until(Done done) {
    for (int i = 0; i < 500 && !done(); ++i) loop->run_once(20'000'000);
    EXPECT_TRUE(done());
  }
  ChardevConfig server() { return {.id = "s", .kind = ChardevKind::Socket, .path = dir + "/s", .server = true, .wait = false}; }
  Fd connect() {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (dir + "/s").copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  std::unique_ptr<Loop> loop;
  std::string dir;
  Sink sink;
};

TEST_F(ChardevTest, SocketServesOneClientAfterTheOther) {
  auto chardev = MUST(create_chardev(*loop, server()));  // the folder is ours
  chardev->attach(sink.frontend());
  for (std::string text : {"first", "second"}) {
    sink.input.clear();
    Fd client = connect();
    EXPECT_TRUE(write_all(client, bytes_of(text)));
    run_until([&] { return sink.input == text; });
    chardev->write(bytes_of("reply"));
    char reply[8] = {};
    EXPECT_EQ(::read(client.get(), reply, sizeof reply), 5);
    client.reset();
    run_until([&] { return sink.events.back() == CharEvent::Closed; });
  }
  EXPECT_THAT(sink.events, testing::ElementsAre(CharEvent::Opened, CharEvent::Closed, CharEvent::Opened, CharEvent::Closed));
}

TEST_F(ChardevTest, SocketFileVanishesWithTheBackEnd) {
  MUST(create_chardev(*loop, server()));  // the folder is ours
  struct stat st;
  EXPECT_NE(::stat((dir + "/s").c_str(), &st), 0);
}

TEST_F(ChardevTest, OutputWithoutAClientIsDropped) {
  auto chardev = MUST(create_chardev(*loop, server()));  // the folder is ours
  std::string much(4 * Channel::kOutputLimit, 'x');
  EXPECT_EQ(chardev->write(bytes_of(much)), much.size());
}

TEST_F(ChardevTest, AReaderThatNeverReadsFillsABoundedBuffer) {
  auto chardev = MUST(create_chardev(*loop, server()));  // the folder is ours
  chardev->attach(sink.frontend());
  Fd client = connect();
  run_until([&] { return !sink.events.empty(); });
  std::string much(64 * kKiB, 'x');
  size_t taken = 0, now = 0;
  for (int i = 0; i < 100 && (i == 0 || now > 0); ++i) taken += now = chardev->write(bytes_of(much));
  EXPECT_LT(taken, 100 * much.size());
}

TEST_F(ChardevTest, InputWaitsForAFrontEndWithoutRoom) {
  auto chardev = MUST(create_chardev(*loop, server()));  // the folder is ours
  sink.room = 0;
  chardev->attach(sink.frontend());
  Fd client = connect();
  EXPECT_TRUE(write_all(client, bytes_of("abc")));
  run_until([&] { return !sink.events.empty(); });
  loop->run_once(1'000'000);
  EXPECT_EQ(sink.input, "");
  sink.room = 10;
  chardev->accept_input();
  run_until([&] { return sink.input == "abc"; });
}

TEST_F(ChardevTest, FileGetsTheOutput) {
  auto chardev = MUST(create_chardev(*loop, {.id = "f", .kind = ChardevKind::File, .path = dir + "/f"}));  // the folder is ours
  chardev->write(bytes_of("some text\n"));
  chardev->drain(1'000'000'000);
  EXPECT_EQ(*read_file(dir + "/f", 100), "some text\n");
}

TEST_F(ChardevTest, PtyConnectsToWhoeverOpensIt) {
  auto chardev = MUST(create_chardev(*loop, {.id = "p", .kind = ChardevKind::Pty}));  // the test machine has /dev/ptmx
  chardev->attach(sink.frontend());
  EXPECT_EQ(chardev->write(bytes_of("lost")), 4u);
  std::string name = chardev->describe().substr(4);
  Fd slave = MUST(open_file(name, O_RDWR | O_NOCTTY));
  run_until([&] { return !sink.events.empty(); });
  EXPECT_TRUE(write_all(slave, bytes_of("typed")));
  run_until([&] { return sink.input == "typed"; });
  slave.reset();
  run_until([&] { return sink.events.back() == CharEvent::Closed; });
}

TEST_F(ChardevTest, ErrorsNameTheObject) {
  auto client = create_chardev(*loop, {.id = "c", .kind = ChardevKind::Socket, .path = dir + "/nobody"});
  ASSERT_FALSE(client);
  EXPECT_THAT(client.error().text(), testing::HasSubstr("nobody"));
  auto file = create_chardev(*loop, {.id = "f", .kind = ChardevKind::File, .path = "/nonexistent/f"});
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().text(), testing::HasSubstr("/nonexistent/f"));
}

TEST_F(ChardevTest, RingKeepsTheNewestBytes) {
  auto ring = create_memory_chardev({.id = "r", .kind = ChardevKind::Ringbuf, .ring_bytes = 8});
  ring->write(bytes_of("0123456789"));
  EXPECT_EQ(*ring->read_ring(100), "23456789");
  EXPECT_EQ(*ring->read_ring(100), "");
}

/// A mux over a socket that stands in for the terminal.
class MuxTest : public ChardevTest {
 protected:
  MuxTest() {
    auto terminal = MUST(create_chardev(*loop, server()));  // the folder is ours
    mux = MUST(Mux::create(*loop, std::move(terminal), 1, [this] { exited = true; }));  // needs an eventfd only
    monitor = &mux->add_port("m");
    serial = &mux->add_port("s");
    monitor->attach(monitor_sink.frontend());
    serial->attach(sink.frontend());
    mux->start();
    client = connect();
  }
  void type(std::string_view text) { EXPECT_TRUE(write_all(client, bytes_of(text))); }

  Sink monitor_sink;
  bool exited = false;
  std::unique_ptr<Mux> mux;
  CharBackend* monitor = nullptr;
  CharBackend* serial = nullptr;
  Fd client;
};

TEST_F(MuxTest, TheLastUserHasTheFocusUntilItIsSwitched) {
  type("a\x01" "cb\x01" "cd");
  run_until([&] { return sink.input == "ad"; });
  EXPECT_EQ(monitor_sink.input, "b");
}

TEST_F(MuxTest, EscapeTwiceSendsIt) {
  type("x\x01\x01y");
  run_until([&] { return sink.input == "x\x01y"; });
}

TEST_F(MuxTest, BreakReachesTheUserInFocus) {
  type("\x01" "b");
  run_until([&] { return !sink.events.empty() && sink.events.back() == CharEvent::Break; });
}

TEST_F(MuxTest, ExitWorksWhileTheUserTakesNoInput) {
  sink.room = 0;
  type("stuck\x01x");
  run_until([&] { return exited; });
  sink.room = 100;
  serial->accept_input();
  run_until([&] { return sink.input == "stuck"; });
}

TEST_F(ChardevTest, LogfileKeepsWhatTheBackEndTook) {
  const std::string log = dir + "/f";
  ChardevConfig config{.id = "r", .kind = ChardevKind::Ringbuf, .log_path = log};
  {
    auto chardev = MUST(create_chardev(*loop, config));  // the folder is ours
    EXPECT_EQ(chardev->write(bytes_of("one ")), 4u);
    EXPECT_EQ(MUST(chardev->read_ring(100)), "one ");
  }
  config.log_append = true;
  MUST(create_chardev(*loop, config))->write(bytes_of("two"));
  EXPECT_EQ(MUST(read_file(log, 100)), "one two");
  config.log_path = "/nonexistent/log";
  EXPECT_FALSE(create_chardev(*loop, config));
}

TEST(Telnet, CommandsAreTakenOutOfTheText) {
  TelnetDecoder decoder;
  auto feed = [&](std::string_view text) { return decoder.feed(bytes_of(text)); };
  EXPECT_EQ(feed("a\xff\xfd\x01" "b\xff\xff").text, "ab\xff");
  EXPECT_EQ(feed("\xff").text, "");
  EXPECT_EQ(feed("\xfb").text, "");       // WILL, in pieces
  EXPECT_EQ(feed("\x03" "c").text, "c");
  EXPECT_EQ(feed("\xff\xfa\x18xterm\xff\xf0" "d").text, "d");  // a subnegotiation
  EXPECT_TRUE(feed("\xff\xf3").break_sent);
}

}  // namespace
}  // namespace atl::control
