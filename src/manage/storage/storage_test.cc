#include <fcntl.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "manage/storage/definition.h"
#include "manage/storage/images.h"
#include "manage/storage/volumes.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using ::testing::HasSubstr;

Code pool_refusal(std::string_view text) {
  auto pool = parse_pool(text);
  return pool ? Code::Ok : pool.error().code();
}

TEST(PoolDefinitionTest, AFolderNeedsANameAndAPath) {
  auto pool = parse_pool("<pool type='dir'><name>p</name><target><path>/srv/vm/</path></target></pool>");
  ASSERT_TRUE(pool);
  EXPECT_EQ(pool->path, "/srv/vm");
  EXPECT_THAT(xml::write(pool->tree), HasSubstr("<path>/srv/vm</path>"));
  EXPECT_EQ(pool_refusal("<pool type='dir'><name>p</name></pool>"), Code::XmlError);
  EXPECT_EQ(pool_refusal("<pool type='dir'><target><path>/x</path></target></pool>"), Code::NoName);
  EXPECT_EQ(pool_refusal("<pool type='dir'><name>p</name><target><path>x</path></target></pool>"), Code::XmlError);
}

TEST(PoolDefinitionTest, OtherKindsAreRefusedByName) {
  EXPECT_EQ(pool_refusal("<pool type='rbd'><name>p</name></pool>"), Code::InternalError);
  EXPECT_EQ(pool_refusal("<pool type='mpath'><name>p</name></pool>"), Code::ConfigUnsupported);
  EXPECT_EQ(pool_refusal("<pool type='heap'><name>p</name></pool>"), Code::XmlError);
}

TEST(PoolDefinitionTest, SourcesThatWouldBeOptionsOfToolsAreRefused) {
  EXPECT_EQ(pool_refusal("<pool type='netfs'><name>p</name><source><host name='-oexec'/><dir path='/x'/></source>"
                         "<target><path>/x</path></target></pool>"),
            Code::XmlError);
  EXPECT_EQ(pool_refusal("<pool type='logical'><name>p</name><source><name>-f</name></source></pool>"), Code::XmlError);
}

TEST(VolumeDefinitionTest, SizesFormatsAndPermissionsAreRead) {
  auto volume = parse_volume(
      "<volume><name>v</name><capacity unit='G'>2</capacity><allocation>5</allocation><target><format type='qcow2'/>"
      "<permissions><mode>0640</mode><owner>7</owner></permissions><features><lazy_refcounts/></features></target></"
      "volume>",
      PoolType::Dir);
  ASSERT_TRUE(volume);
  EXPECT_EQ(volume->capacity_bytes, 2 * kGiB);
  EXPECT_EQ(volume->allocation_bytes, 5u);
  EXPECT_EQ(volume->format, "qcow2");
  EXPECT_EQ(volume->permissions.mode, mode_t{0640});
  EXPECT_EQ(volume->permissions.owner, uid_t{7});
  EXPECT_TRUE(volume->lazy_refcounts);
}

TEST(VolumeDefinitionTest, NamesThatLeaveTheFolderAreRefused) {
  EXPECT_FALSE(parse_volume("<volume><name>../v</name><capacity>1</capacity></volume>", PoolType::Dir));
  EXPECT_FALSE(parse_volume("<volume><name>v</name></volume>", PoolType::Dir));
  EXPECT_FALSE(parse_volume("<volume><name>v</name><capacity unit='E'>99</capacity></volume>", PoolType::Dir));
}

class VolumesTest : public ::testing::Test {
 protected:
  VolumesTest() {
    std::string pattern = ::testing::TempDir() + "volumesXXXXXX";
    root_ = ::mkdtemp(pattern.data());
    std::filesystem::create_directory(root_ + "/pool");
    records_.emplace(*StateFolder::open(root_ + "/records"));
    record_.emplace(*records_, "pool");
  }
  ~VolumesTest() override { std::filesystem::remove_all(root_); }
  std::string path(const std::string& name) const { return root_ + "/pool/" + name; }
  std::vector<Volume> scan() {
    auto volumes = scan_folder(root_ + "/pool", *record_);
    EXPECT_TRUE(volumes);
    return *std::move(volumes);
  }

  std::string root_;
  std::optional<StateFolder> records_;
  std::optional<FormatRecord> record_;
};

TEST_F(VolumesTest, ImagesAreMadeAndLookedAt) {
  ASSERT_TRUE(create_image({path("a"), "qcow2", 64 * kMiB}));
  ImageRequest top{path("b"), "qcow2", 128 * kMiB};
  top.backing_path = path("a");
  top.backing_format = "qcow2";
  ASSERT_TRUE(create_image(top));
  auto volumes = scan();
  ASSERT_EQ(volumes.size(), 2u);
  EXPECT_EQ(volumes[1].format, "qcow2");
  EXPECT_EQ(volumes[1].capacity_bytes, 128 * kMiB);
  EXPECT_EQ(volumes[1].backing_path, path("a"));
  ASSERT_TRUE(resize_image(path("a"), "qcow2", 96 * kMiB, false));
  EXPECT_EQ(inspect_image(path("a"), "qcow2")->capacity_bytes, 96 * kMiB);
}

TEST_F(VolumesTest, AGuestThatWritesAnotherHeaderDoesNotChangeTheFormat) {
  std::ofstream(path("disk")) << std::string(1 << 20, '\0');
  ASSERT_EQ(scan()[0].format, "raw");
  ASSERT_TRUE(record_->save());
  ASSERT_TRUE(create_image({path("other"), "qcow2", kMiB}));
  std::ifstream header(path("other"), std::ios::binary);
  std::string bytes(4096, '\0');
  header.read(bytes.data(), 4096);
  std::fstream(path("disk"), std::ios::in | std::ios::out | std::ios::binary).write(bytes.data(), 4096);
  FormatRecord again(*records_, "pool");
  again.load();
  auto volumes = scan_folder(root_ + "/pool", again);
  ASSERT_TRUE(volumes);
  EXPECT_EQ((*volumes)[0].format, "raw");
  EXPECT_EQ((*volumes)[1].format, "qcow2");
}

TEST_F(VolumesTest, WhatACutOffCreationLeftIsRemoved) {
  std::ofstream(path(unfinished_name("v"))) << "half";
  EXPECT_TRUE(scan().empty());
  EXPECT_FALSE(std::filesystem::exists(path(unfinished_name("v"))));
}

TEST_F(VolumesTest, CopiesReadAsTheirSource) {
  std::string content(3 << 20, 'x');
  std::ofstream(path("a")) << content;
  ASSERT_TRUE(create_image({path("b"), "qcow2", content.size()}));
  ASSERT_TRUE(copy_image(path("a"), "raw", path("b"), "qcow2"));
  ASSERT_TRUE(create_image({path("c"), "raw", content.size()}));
  ASSERT_TRUE(copy_image(path("b"), "qcow2", path("c"), "raw"));
  std::ifstream copy(path("c"), std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(copy), {}), content);
}

}  // namespace
}  // namespace atl::manage
