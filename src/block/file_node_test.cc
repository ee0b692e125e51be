#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/mapping.h"
#include "block/test_support.h"

namespace atl::block {
namespace {

std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }  // the host has io_uring, or nothing works here

iovec vec(std::string& text) { return {text.data(), text.size()}; }

struct FileNodeTest : testing::Test {
  std::unique_ptr<Loop> loop = make_loop();

  std::unique_ptr<Node> open(const TempFile& file, FileOptions options = {}) {
    options.filename = file.path();
    return MUST(open_file_node(*loop, options));
  }
  Status write(Node& node, u64 offset, std::string text, u32 flags = 0) {
    iovec v = vec(text);
    return finish(*loop, node.write(offset, {&v, 1}, flags));
  }
  std::string read(Node& node, u64 offset, size_t size) {
    std::string text(size, '?');
    iovec v = vec(text);
    Status status = finish(*loop, node.read(offset, {&v, 1}));
    return status ? text : "error: " + status.error().text();
  }
};

TEST_F(FileNodeTest, ReadGivesBackWhatWasWritten) {
  TempFile file(65536);
  auto node = open(file);
  ASSERT_TRUE(write(*node, 1000, "hello", kFua));
  EXPECT_EQ(read(*node, 998, 9), std::string("\0\0hello\0\0", 9));
  EXPECT_TRUE(finish(*loop, node->flush()));
  EXPECT_EQ(file.text(1000, 5), "hello");
}

TEST_F(FileNodeTest, ManyBuffersInOneRequest) {
  TempFile file(65536);
  auto node = open(file);
  std::string bytes(3000, 'x'), back(3000, '?');
  std::vector<iovec> out, in;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>('a' + i % 26);
    out.push_back({&bytes[i], 1});
    in.push_back({&back[i], 1});
  }
  ASSERT_TRUE(finish(*loop, node->write(7, out, 0)));
  ASSERT_TRUE(finish(*loop, node->read(7, in)));
  EXPECT_EQ(back, bytes);
}

TEST_F(FileNodeTest, ConcurrentRequestsAllComplete) {
  TempFile file(kMiB);
  auto node = open(file);
  std::vector<std::string> texts;
  std::vector<iovec> vectors;
  for (int i = 0; i < 200; ++i) texts.push_back(std::string(512, static_cast<char>('a' + i % 26)));
  for (auto& text : texts) vectors.push_back(vec(text));
  int done = 0;
  for (size_t i = 0; i < texts.size(); ++i)
    start(node->write(512 * i, {&vectors[i], 1}, 0), [&](Status s) { done += s.has_value(); });
  while (done < 200) loop->run_once(1'000'000'000);
  EXPECT_EQ(file.text(512 * 27, 3), "bbb");
}

TEST_F(FileNodeTest, LastPartialSectorReadsAsZeroesAndCanBeWritten) {
  TempFile file(700);
  file.put(699, "z");
  auto node = open(file);
  EXPECT_EQ(read(*node, 698, 4), std::string("\0z\0\0", 4));
  ASSERT_TRUE(write(*node, 1020, "tail"));
  EXPECT_EQ(node->size_bytes(), 1024u);
  EXPECT_EQ(read(*node, 1020, 4), "tail");
}

TEST_F(FileNodeTest, RequestsOutsideAreRefused) {
  TempFile file(1024);
  auto node = open(file);
  EXPECT_EQ(write(*node, 1020, "12345").error().kind(), ErrorKind::Invalid);
  EXPECT_NE(read(*node, ~u64{0} - 3, 5).find("outside the 1024 bytes"), std::string::npos);
  EXPECT_FALSE(finish(*loop, node->discard(512, 1024)));
  EXPECT_FALSE(finish(*loop, node->write_zeroes(~u64{0}, 2, 0)));
}

TEST_F(FileNodeTest, FileThatShrankUnderUsReadsAsZeroes) {
  TempFile file(8192);
  file.put(0, std::string(8192, 'x'));
  auto node = open(file);
  ASSERT_EQ(::ftruncate(file.fd().get(), 1), 0);
  EXPECT_EQ(read(*node, 0, 3), std::string("x\0\0", 3));
}

TEST_F(FileNodeTest, ReadOnlyNodeRefusesEveryChange) {
  TempFile file(1024);
  auto node = open(file, {.readonly = true});
  EXPECT_TRUE(node->info().readonly);
  EXPECT_EQ(write(*node, 0, "x").error().os_errno(), EPERM);
  EXPECT_FALSE(finish(*loop, node->discard(0, 512)));
  EXPECT_FALSE(finish(*loop, node->resize(10, Preallocation::Off)));
  EXPECT_TRUE(finish(*loop, node->flush()));
}

TEST_F(FileNodeTest, WriteZeroesClearsExactlyTheRange) {
  for (bool unmap : {false, true}) {
    TempFile file(0);
    file.put(0, std::string(65536, 'x'));
    auto node = open(file, {.discard = true});
    ASSERT_TRUE(finish(*loop, node->write_zeroes(1000, 50000, unmap ? u32{kMayUnmap} : 0)));
    std::string text = file.text(0, 65536);
    EXPECT_EQ(text.substr(0, 1000), std::string(1000, 'x'));
    EXPECT_EQ(text.substr(1000, 50000), std::string(50000, '\0'));
    EXPECT_EQ(text.substr(51000), std::string(65536 - 51000, 'x'));
  }
}

u64 allocated_bytes(const TempFile& file) {
  struct stat info{};
  CHECK(::fstat(file.fd().get(), &info) == 0);
  return static_cast<u64>(info.st_blocks) * 512;
}

TEST_F(FileNodeTest, DiscardFreesSpaceOnlyIfAskedFor) {
  for (bool enabled : {false, true}) {
    TempFile file(0);
    file.put(0, std::string(kMiB, 'x'));
    auto node = open(file, {.discard = enabled});
    EXPECT_EQ(node->info().can_discard, enabled);
    ASSERT_TRUE(finish(*loop, node->discard(0, kMiB)));
    EXPECT_EQ(allocated_bytes(file) == 0, enabled);
    EXPECT_EQ(file.text(0, 1), enabled ? std::string(1, '\0') : "x");
  }
}

TEST_F(FileNodeTest, ResizeChangesTheFile) {
  TempFile file(1024);
  auto node = open(file);
  ASSERT_TRUE(finish(*loop, node->resize(4096, Preallocation::Off)));
  EXPECT_EQ(node->size_bytes(), 4096u);
  EXPECT_TRUE(write(*node, 4095, "x"));
}

TEST_F(FileNodeTest, DescriptorThatWasHandedOverWorksAndStaysTheCallers) {
  TempFile file(1024);
  {
    auto node = MUST(open_file_node(*loop, {.fd = file.fd().get()}));
    ASSERT_TRUE(write(*node, 0, "fd"));
  }
  EXPECT_EQ(file.text(0, 2), "fd");
}

TEST_F(FileNodeTest, FailureOfTheHostKeepsItsErrno) {
  TempFile file(512);
  auto node = open(file);
  rlimit before{}, small{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  small = {512, before.rlim_max};
  ASSERT_TRUE(finish(*loop, node->resize(4096, Preallocation::Off)));
  auto old = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status = write(*node, 2048, "x");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno(), EFBIG);
  EXPECT_NE(status.error().text().find(file.path()), std::string::npos);
}

TEST_F(FileNodeTest, FileInMemoryTakesSmallAndLargeTransfers) {
  Fd memory(::memfd_create("disk", MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memory.get(), kMiB), 0);
  auto node = MUST(open_file_node(*loop, {.fd = memory.get()}));
  const std::string large(kMiB / 2, 'L');
  ASSERT_TRUE(write(*node, 512, "small"));
  ASSERT_TRUE(write(*node, kMiB / 2, large));
  EXPECT_EQ(read(*node, 510, 9), std::string("\0\0small\0\0", 9));
  EXPECT_EQ(read(*node, kMiB / 2, large.size()), large);
  ASSERT_EQ(::ftruncate(memory.get(), 514), 0);
  EXPECT_EQ(read(*node, 512, 5), std::string("sm\0\0\0", 5));
}

TEST_F(FileNodeTest, FailureOfAFileInMemoryTellsWhere) {
  Fd memory(::memfd_create("disk", MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memory.get(), kMiB), 0);
  auto node = MUST(open_file_node(*loop, {.fd = memory.get()}));
  ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  Status status = write(*node, 4096, "text");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno(), EPERM);
  EXPECT_NE(status.error().text().find("4 bytes at 4096"), std::string::npos) << status.error().text();
}

TEST_F(FileNodeTest, DescriptorOpenForReadingOnlyNeedsAReadOnlyNode) {
  TempFile file(512);
  Fd reader = MUST(open_file(file.path(), O_RDONLY));
  EXPECT_FALSE(open_file_node(*loop, {.fd = reader.get()}));
  auto node = open_file_node(*loop, {.fd = reader.get(), .auto_readonly = true});
  ASSERT_TRUE(node);
  EXPECT_TRUE((*node)->info().readonly);
}

TEST_F(FileNodeTest, OpeningNamesTheFileAtFault) {
  auto missing = open_file_node(*loop, {.filename = "/nowhere/disk.raw"});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text().find("/nowhere/disk.raw': No such file"), std::string::npos);
  auto directory = open_file_node(*loop, {.filename = "/tmp", .readonly = true});
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().text(), "'file' driver requires '/tmp' to be a regular file");
  EXPECT_FALSE(open_file_node(*loop, {.filename = "/dev/zero"}));
}

TEST_F(FileNodeTest, GeneratedNamesDiffer) {
  TempFile file(512);
  auto a = open(file, {.readonly = true}), b = open(file, {.readonly = true});
  EXPECT_TRUE(a->info().node_name.starts_with("#block"));
  EXPECT_NE(a->info().node_name, b->info().node_name);
}

// --- locking ---

TEST_F(FileNodeTest, SecondWriterIsRefusedAndTold) {
  TempFile file(512);
  auto node = open(file);
  auto second = open_file_node(*loop, {.filename = file.path()});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind(), ErrorKind::Busy);
  EXPECT_EQ(second.error().text(),
            "Failed to get \"write\" lock\nIs another process using the image [" + file.path() + "]?");
  auto reader = open_file_node(*loop, {.filename = file.path(), .readonly = true});
  ASSERT_FALSE(reader);
  EXPECT_TRUE(reader.error().text().starts_with("Failed to get shared \"write\" lock"));
}

TEST_F(FileNodeTest, ReadersShareAndKeepWritersOut) {
  TempFile file(512);
  auto a = open(file, {.readonly = true}), b = open(file, {.readonly = true});
  EXPECT_FALSE(open_file_node(*loop, {.filename = file.path()}));
  a.reset();
  b.reset();
  EXPECT_TRUE(open_file_node(*loop, {.filename = file.path()}));
}

TEST_F(FileNodeTest, LocksEndWithTheNodeThoughSomebodyStillHoldsTheFile) {
  TempFile file(512);
  auto node = open(file);
  pid_t holder = ::fork();
  if (holder == 0) {
    ::pause();
    ::_exit(0);
  }
  node.reset();
  EXPECT_TRUE(open_file_node(*loop, {.filename = file.path()}));
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
}

TEST_F(FileNodeTest, LockingCanBeTurnedOff) {
  TempFile file(512);
  auto node = open(file);
  EXPECT_TRUE(open_file_node(*loop, {.filename = file.path(), .locking = false}));
}

// --- direct I/O ---

struct DirectTest : FileNodeTest {
  TempFile file{64 * kKiB + 700, "/var/tmp"};
  std::unique_ptr<Node> node;

  void SetUp() override {
    file.put(0, std::string(64 * kKiB + 700, 'x'));
    auto opened = open_file_node(*loop, {.filename = file.path(), .cache_direct = true});
    if (!opened) GTEST_SKIP() << opened.error().text();
    node = std::move(*opened);
  }
};

TEST_F(DirectTest, TellsItsAlignment) {
  EXPECT_GE(node->info().request_alignment, 512u);
  EXPECT_LE(node->info().request_alignment, 4096u);
}

TEST_F(DirectTest, OddOffsetsSizesAndBuffersWork) {
  ASSERT_TRUE(write(*node, 1001, "hello"));
  EXPECT_EQ(read(*node, 1000, 7), "xhellox");
  EXPECT_EQ(file.text(1000, 7), "xhellox");
  std::string large(3 * kMiB, 'y');
  ASSERT_TRUE(finish(*loop, node->resize(4 * kMiB, Preallocation::Off)));
  ASSERT_TRUE(write(*node, 4097, large));
  EXPECT_EQ(read(*node, 4096, 3 * kMiB + 2), "x" + large + std::string(1, '\0'));
}

TEST_F(DirectTest, EndOfAFileOfOddSizeIsKept) {
  ASSERT_TRUE(write(*node, 64 * kKiB + 690, "0123456789"));
  EXPECT_EQ(node->size_bytes(), 64 * kKiB + 700);
  EXPECT_EQ(file.text(64 * kKiB + 690, 100), "0123456789");
  EXPECT_EQ(read(*node, 64 * kKiB + 699, 2), std::string("9\0", 2));
}

TEST_F(DirectTest, NeighboursOfPartialWritesSurviveConcurrency) {
  std::vector<std::string> texts;
  std::vector<iovec> vectors;
  for (int i = 0; i < 64; ++i) texts.push_back(std::string(100, static_cast<char>('A' + i % 26)));
  for (auto& text : texts) vectors.push_back(vec(text));
  int done = 0;
  for (size_t i = 0; i < texts.size(); ++i)
    start(node->write(100 * i, {&vectors[i], 1}, 0), [&](Status s) { done += s.has_value(); });
  while (done < 64) loop->run_once(1'000'000'000);
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(file.text(100 * i, 100), texts[i]);
}

TEST_F(DirectTest, AlignedRequestsGoStraight) {
  Mapping buffer = MUST(Mapping::anonymous(8192));
  std::fill(buffer.span().begin(), buffer.span().end(), u8{'q'});
  iovec v{buffer.data(), 8192};
  ASSERT_TRUE(finish(*loop, node->write(4096, {&v, 1}, 0)));
  EXPECT_EQ(file.text(4095, 2), "xq");
}

}  // namespace
}  // namespace atl::block
