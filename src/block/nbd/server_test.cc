// The server with our own client, and with clients that break the rules.
#include "block/nbd/server.h"

#include <gmock/gmock.h>
#include <sys/socket.h>

#include <csignal>

#include "block/nbd/client_node.h"
#include "block/test_support.h"

namespace atl::block::nbd {
namespace {

using ::testing::HasSubstr;

class NbdServer : public ::testing::Test {
 protected:
  NbdServer() {
    std::signal(SIGPIPE, SIG_IGN);  // as every program of ours does
    disk_ = std::make_shared<MemoryNode>(std::string(256 * 1024, 'a'));
    server_ = std::make_unique<Server>(*loop_, Server::Options{});
    path_ = "/tmp/atoll-nbd-test-" + std::to_string(::getpid());
    CHECK(server_->listen({.path = path_}).has_value());
    add({.name = "disk", .description = "a disk", .node = disk_});
  }
  ~NbdServer() override {
    client_.reset();
    server_.reset();
    ::unlink(path_.c_str());
    for (int i = 0; i < 10; ++i) loop_->run_once(0);  // sessions end
  }

  void add(Export exported) { CHECK(server_->add_export(std::move(exported)).has_value()); }
  ClientOptions options(std::string name) {
    ClientOptions options;
    options.address.path = path_;
    options.hello.export_name = std::move(name);
    options.discard = true;
    return options;
  }
  Result<NodePtr> open(ClientOptions options) { return finish(*loop_, open_client_node(*loop_, std::move(options))); }
  Status read(Node& node, u64 offset, std::string& out) {
    iovec piece{out.data(), out.size()};
    return finish(*loop_, node.read(offset, {&piece, 1}));
  }
  Status write(Node& node, u64 offset, std::string data, u32 flags = kNoFlags) {
    iovec piece{data.data(), data.size()};
    return finish(*loop_, node.write(offset, {&piece, 1}, flags));
  }
  /// What the server answers to these bytes, until it falls silent or hangs up.
  std::string answer_to(std::string_view bytes) {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    Fd ours(ends[0]);
    server_->serve(Fd(ends[1]));
    CHECK(::send(ours.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    ::shutdown(ours.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    while (server_->clients() > 0) loop_->run_once(100'000'000);
    for (ssize_t n; (n = ::recv(ours.get(), buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
    return answer;
  }
  static std::string option(u32 number, std::string_view data, u64 magic = kOptionMagic) {
    std::string bytes(16, '\0');
    Encoder(reinterpret_cast<u8*>(bytes.data())).put(magic).put(number).put(static_cast<u32>(data.size()));
    return bytes.append(data);
  }

  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }  // tests need io_uring anyway
  std::unique_ptr<Loop> loop_ = make_loop();
  std::shared_ptr<MemoryNode> disk_;
  std::unique_ptr<Server> server_;
  NodePtr client_;
  std::string path_;
};

TEST_F(NbdServer, ReadsWritesAndZeroesReachTheDisk) {
  client_ = MUST(open(options("disk")));  // the server is ours
  EXPECT_EQ(client_->size_bytes(), 256 * kKiB);
  ASSERT_TRUE(write(*client_, 1000, "hello", kFua));
  std::string text(7, '?');
  ASSERT_TRUE(read(*client_, 999, text));
  EXPECT_EQ(text, "ahelloa");
  ASSERT_TRUE(finish(*loop_, client_->write_zeroes(1001, 2, kNoFlags)));
  ASSERT_TRUE(finish(*loop_, client_->discard(4096, 4096)));
  ASSERT_TRUE(finish(*loop_, client_->flush()));
  EXPECT_EQ(disk_->bytes.substr(1000, 5), std::string("h\0\0lo", 5));
}

TEST_F(NbdServer, ErrorsOfTheDiskReachTheClientWithTheirErrno) {
  auto broken = std::make_shared<ErrorInjector>(*disk_);
  add({.name = "broken", .node = broken});
  client_ = MUST(open(options("broken")));
  broken->next_errors = {ENOSPC};
  Status status = write(*client_, 0, "x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno(), ENOSPC);
  EXPECT_TRUE(write(*client_, 0, "x"));
}

TEST_F(NbdServer, ReadOnlyExportsRefuseWriters) {
  add({.name = "ro", .node = disk_, .readonly = true});
  EXPECT_FALSE(open(options("ro")));
  ClientOptions readonly = options("ro");
  readonly.readonly = true;
  client_ = MUST(open(readonly));
  EXPECT_FALSE(write(*client_, 0, "x"));
}

TEST_F(NbdServer, UnknownExportsAreRefusedByName) {
  auto missing = open(options("nope"));
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().text(), HasSubstr("export 'nope' not present"));
}

TEST_F(NbdServer, BlockStatusComesFromTheNodeOrTheBitmapAskedFor) {
  Export exported{.name = "dirty", .node = disk_};
  exported.contexts.push_back({"qemu:dirty-bitmap:b", [](u64 offset, u64 bytes) -> Task<Result<ContextRun>> {
                                 co_return ContextRun{std::min<u64>(bytes, 65536 - offset % 65536), (offset / 65536) & 1 ? kStateDirty : 0};
                               }});
  add(std::move(exported));
  ClientOptions with_bitmap = options("dirty");
  with_bitmap.hello.dirty_bitmap = "qemu:dirty-bitmap:b";
  client_ = MUST(open(with_bitmap));
  auto first = finish(*loop_, client_->block_status(0, 256 * kKiB));
  auto second = finish(*loop_, client_->block_status(65536, 1000));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->bytes, 65536u);
  EXPECT_TRUE(first->data);
  EXPECT_FALSE(second->data);
  EXPECT_EQ(second->bytes, 1000u);
}

TEST_F(NbdServer, ManyRequestsRunAtOnce) {
  client_ = MUST(open(options("disk")));
  std::vector<std::string> pieces(100, std::string(1024, '?'));
  std::vector<iovec> places;
  int done = 0;
  for (auto& piece : pieces) places.push_back({piece.data(), piece.size()});
  for (size_t i = 0; i < pieces.size(); ++i)
    start(client_->read(i * 1024, {&places[i], 1}), [&](Status status) { done += status.has_value(); });
  while (done < 100) loop_->run_once(1'000'000'000);
  for (auto& piece : pieces) EXPECT_EQ(piece, std::string(1024, 'a'));
}

TEST_F(NbdServer, ALostServerFailsRequestsOrIsWaitedFor) {
  client_ = MUST(open(options("disk")));
  ClientOptions patient = options("disk");
  patient.reconnect_delay_ns = 10'000'000'000;
  NodePtr waiting = MUST(open(patient));
  server_.reset();
  std::string text(4, '?');
  EXPECT_FALSE(read(*client_, 0, text));
  server_ = std::make_unique<Server>(*loop_, Server::Options{});
  ASSERT_TRUE(server_->listen({.path = path_}));
  add({.name = "disk", .node = disk_});
  EXPECT_TRUE(read(*waiting, 0, text));
  EXPECT_EQ(text, "aaaa");
}

TEST_F(NbdServer, ForcedRemovalThrowsClientsOut) {
  client_ = MUST(open(options("disk")));
  EXPECT_EQ(server_->remove_export("disk", false).error().kind(), ErrorKind::Busy);
  ASSERT_TRUE(server_->remove_export("disk", true));
  std::string text(4, '?');
  EXPECT_FALSE(read(*client_, 0, text));
}

TEST_F(NbdServer, HostileNegotiationsEndTheConnectionOnly) {
  const std::string hello("\0\0\0\3", 4);
  EXPECT_EQ(answer_to("").size(), 18u);
  answer_to(std::string(3, 'x'));
  answer_to(std::string(4, '\xff'));
  answer_to(hello + option(kOptGo, "", 0));
  answer_to(hello + option(kOptGo, std::string(3, '\xff')));
  answer_to(hello + option(kOptGo, std::string("\xff\xff\xff\xff disk", 9)));
  answer_to(hello + option(kOptSetMetaContext, std::string(100, '\xff')));
  answer_to(hello + option(kOptStructuredReply, "") + option(kOptSetMetaContext, std::string("\0\0\0\4disk\xff\xff\xff\xff", 12)));
  answer_to(hello + option(kOptExportName, std::string(5000, 'a')));
  answer_to(hello + option(99, "whatever") + option(kOptList, "") + option(kOptAbort, ""));
  std::string huge = option(kOptGo, "");
  store_be<u32>(huge.data() + 12, 0xffffffff);
  answer_to(hello + huge);
  client_ = MUST(open(options("disk")));
}

TEST_F(NbdServer, HostileRequestsAreAnsweredOrEndTheConnection) {
  const std::string enter = std::string("\0\0\0\3", 4) + option(kOptExportName, "disk");
  auto request = [](u16 command, u16 flags, u64 offset, u32 bytes, u32 magic = kRequestMagic) {
    std::string text(28, '\0');
    Encoder(reinterpret_cast<u8*>(text.data())).put(magic).put(flags).put(command).put(u64{7}).put(offset).put(bytes);
    return text;
  };
  const size_t head = answer_to(enter).size();
  auto error_of = [&](const std::string& text) -> u32 {
    std::string answer = answer_to(enter + text);
    return answer.size() < head + 16 ? 0 : load_be<u32>(answer.data() + head + 4);
  };
  EXPECT_EQ(error_of(request(kCmdRead, 0, 1 << 20, 512)), 22u);
  EXPECT_EQ(error_of(request(kCmdRead, 0, ~u64{0}, 512)), 22u);
  EXPECT_EQ(error_of(request(kCmdRead, 0, 0, 0xffffffff)), 22u);
  EXPECT_EQ(error_of(request(kCmdRead, 0xffff, 0, 512)), 22u);
  EXPECT_EQ(error_of(request(kCmdWriteZeroes, 0, 0, 0xffffffff)), 28u);
  EXPECT_EQ(error_of(request(kCmdBlockStatus, 0, 0, 512)), 22u);
  EXPECT_EQ(error_of(request(0x7777, 0, 0, 0)), 22u);
  EXPECT_EQ(answer_to(enter + request(kCmdWrite, 0, 0, 0xffffffff)).size(), head);
  EXPECT_EQ(answer_to(enter + request(kCmdRead, 0, 0, 512, 1)).size(), head);
  EXPECT_EQ(answer_to(enter + request(kCmdWrite, 0, 0, 4096) + "short").size(), head);
}

}  // namespace
}  // namespace atl::block::nbd
