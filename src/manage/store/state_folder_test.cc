#include "manage/store/state_folder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

namespace atl::manage {
namespace {

using ::testing::ElementsAre;

class StateFolderTest : public ::testing::Test {
 protected:
  StateFolderTest() {
    std::string pattern = ::testing::TempDir() + "stateXXXXXX";
    root_ = ::mkdtemp(pattern.data());
  }
  ~StateFolderTest() override { std::filesystem::remove_all(root_); }
  StateFolder open(Flush flush = Flush::Now) {
    auto folder = StateFolder::open(root_ + "/a/b", ".xml", 0700, flush);
    EXPECT_TRUE(folder);
    return *std::move(folder);
  }

  std::string root_;
};

TEST_F(StateFolderTest, FilesAreListedWithoutSuffixAndReadBack) {
  StateFolder folder = open();
  ASSERT_TRUE(folder.write("two", "2"));
  ASSERT_TRUE(folder.write("one", "1"));
  ASSERT_TRUE(folder.write("one", "one"));
  EXPECT_THAT(*folder.names(), ElementsAre("one", "two"));
  EXPECT_EQ(*folder.read("one"), "one");
  EXPECT_FALSE(folder.read("three"));
}

TEST_F(StateFolderTest, FilesArePrivate) {
  StateFolder folder = open();
  ASSERT_TRUE(folder.write("secret", "x"));
  struct stat status;
  ASSERT_EQ(::stat(folder.file("secret").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(StateFolderTest, LeftoversOfACutOffWriteGoAtOpening) {
  StateFolder folder = open();
  ASSERT_TRUE(folder.write("one", "1"));
  std::ofstream(folder.path() + "/.one.xml.new~") << "half";
  StateFolder again = open();
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/.one.xml.new~"));
  EXPECT_EQ(*again.read("one"), "1");
}

TEST_F(StateFolderTest, AutostartFollowsTheFile) {
  StateFolder folder = open();
  ASSERT_TRUE(folder.write("one", "1"));
  EXPECT_FALSE(folder.autostart("one"));
  ASSERT_TRUE(folder.set_autostart("one", true));
  ASSERT_TRUE(folder.rename("one", "two"));
  EXPECT_FALSE(folder.autostart("one"));
  EXPECT_TRUE(folder.autostart("two"));
  EXPECT_EQ(std::filesystem::read_symlink(folder.path() + "/autostart/two.xml"), folder.file("two"));
  ASSERT_TRUE(folder.remove("two"));
  EXPECT_FALSE(folder.autostart("two"));
  EXPECT_TRUE(folder.names()->empty());
}

/// Writes ever longer files of one letter until it is killed.
[[noreturn]] void write_forever(const StateFolder& folder) {
  for (size_t n = 0;; ++n) {
    std::string content(1000 + n * 100 % 200'000, static_cast<char>('a' + n % 26));
    if (!folder.write("x", fmt::format("{:08}{}", content.size(), content))) ::_exit(1);
  }
}

TEST_F(StateFolderTest, AKillInTheMiddleLeavesAWholeFile) {
  StateFolder folder = open();
  ASSERT_TRUE(folder.write("x", fmt::format("{:08}{}", 1, "a")));
  for (int round = 0; round < 20; ++round) {
    pid_t child = ::fork();
    if (child == 0) write_forever(folder);
    ::usleep(1000 + round * 700);  // any moment will do
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    auto content = open().read("x");
    ASSERT_TRUE(content);
    ASSERT_GE(content->size(), 9u);
    EXPECT_EQ(content->size() - 8, std::stoul(content->substr(0, 8)));
    EXPECT_EQ(content->find_first_not_of((*content)[8], 8), std::string::npos);
  }
}

TEST_F(StateFolderTest, LateWritesAreInPlaceWhenAnybodyLooks) {
  StateFolder folder = open(Flush::Later);
  ASSERT_TRUE(folder.write("one", "1"));
  ASSERT_TRUE(folder.write("one", "2"));
  EXPECT_EQ(*folder.read("one"), "2");
  ASSERT_TRUE(folder.write("one", "3"));
  ASSERT_TRUE(folder.remove("one"));
  EXPECT_FALSE(folder.contains("one"));
  ASSERT_TRUE(folder.write("two", "2"));
  ASSERT_TRUE(folder.rename("two", "three"));
  EXPECT_THAT(*folder.names(), ElementsAre("three"));
}

TEST_F(StateFolderTest, AKilledDaemonsLateWritesAreFinished) {
  open();
  for (int round = 0; round < 20; ++round) {
    pid_t child = ::fork();
    if (child == 0) {
      StateFolder folder = open(Flush::Later);
      for (int n = 0; n < 20; ++n)
        if (!folder.write("x", fmt::format("{} {}", round, n))) ::_exit(1);
      ::kill(::getpid(), SIGKILL);
    }
    ::waitpid(child, nullptr, 0);
    StateFolder folder = open();
    EXPECT_EQ(*folder.read("x"), fmt::format("{} 19", round));
    EXPECT_THAT(*folder.names(), ElementsAre("x"));
  }
}

TEST_F(StateFolderTest, ALateWriteThatAPowerCutEmptiedLeavesTheFileAsBefore) {
  open();
  pid_t child = ::fork();
  if (child == 0) {
    StateFolder folder = open(Flush::Later);
    if (!folder.write("x", "before")) ::_exit(1);
    ::_exit(folder.contains("x") ? 0 : 1);
  }
  ::waitpid(child, nullptr, 0);
  std::ofstream(root_ + "/a/b/.x.xml.00000007-0123456789abcdef.new~") << "";
  EXPECT_EQ(*open(Flush::Later).read("x"), "before");
  EXPECT_FALSE(std::filesystem::exists(root_ + "/a/b/.x.xml.00000007-0123456789abcdef.new~"));
}

}  // namespace
}  // namespace atl::manage
