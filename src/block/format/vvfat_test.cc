// A folder as a FAT disk, read back by the tools that know FAT.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/format/format_test_support.h"

namespace atl::block {
namespace {

using namespace format_test;

class Vvfat : public testing::TestWithParam<std::pair<const char*, u64>>, public Fixture {
 protected:
  void make_folder(const std::string& path) {
    ::mkdir(path.c_str(), 0755);
    ::mkdir((path + "/inner folder").c_str(), 0755);
    write_file(path + "/README.TXT", "short");
    write_file(path + "/a rather long name, with spaces.text", long_);
    write_file(path + "/inner folder/b.bin", other_);
    write_file(path + "/empty", "");
    (void)!::symlink("/etc/passwd", (path + "/link").c_str());
  }
  std::string long_ = make_content(300'001, 3), other_ = make_content(70'000, 4);
};

TEST_P(Vvfat, ToolsFindEveryFile) {
  if (!has_program("mcopy") || !has_program("fsck.fat")) GTEST_SKIP() << "mtools or dosfstools is not installed";
  auto [name, start] = GetParam();
  const std::string dir = folder / "dir", image = folder / "disk.raw", out = folder / "out";
  make_folder(dir);
  auto node = open("", name + dir, true);
  ASSERT_TRUE(node) << node.error().text();
  const std::string bytes = read(**node, 0, std::min<u64>((*node)->size_bytes(), 40 * kMiB));
  write_file(image, std::string_view(bytes).substr(start));
  run(fmt::format("truncate -s {} {}", (*node)->size_bytes() - start, image));
  Outcome checked = run("fsck.fat -n " + image);
  EXPECT_EQ(checked.code, 0) << checked.output;
  Outcome copied = run(
      fmt::format("mkdir {} && mcopy -s -i {} '::*' {} && diff -r --exclude=link {} {}", out, image, out, dir, out));
  EXPECT_EQ(copied.code, 0) << copied.output;
}

INSTANTIATE_TEST_SUITE_P(Kinds, Vvfat,
                         testing::Values(std::pair{"fat:", u64{63 * 512}}, std::pair{"fat:floppy:", u64{0}},
                                         std::pair{"fat:12:", u64{63 * 512}}, std::pair{"fat:32:", u64{63 * 512}}));

TEST_F(Vvfat, WritingIsRefusedByName) {
  const std::string dir = folder / "dir";
  make_folder(dir);
  auto node = open("", "fat:rw:" + dir);
  ASSERT_FALSE(node);
  EXPECT_NE(node.error().text().find("rw"), std::string::npos);
}

TEST_F(Vvfat, WhatDoesNotFitIsRefused) {
  const std::string dir = folder / "dir";
  make_folder(dir);
  write_file(dir + "/big", std::string(4 * kMiB, 'x'));
  auto node = open("", "fat:floppy:" + dir, true);
  ASSERT_FALSE(node);
  EXPECT_NE(node.error().text().find("does not fit"), std::string::npos);
}

}  // namespace
}  // namespace atl::block
