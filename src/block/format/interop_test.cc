// Every format against qemu-img, both ways, with each of its create options.
#include <fmt/format.h>

#include "block/format/format_test_support.h"

namespace atl::block {
namespace {

using namespace format_test;

struct Case {
  const char* format;
  std::vector<std::pair<const char*, const char*>> options;
  bool check = true;        // `qemu-img check` knows the format
  bool extra_size = false;  // the format rounds sizes up

  Json json(u64 size) const {
    Json all = {{"size", std::to_string(size)}};
    for (auto& [name, value] : options) all[name] = value;
    return all;
  }
  std::string text() const {
    std::string text;
    for (auto& [name, value] : options) text += std::string(text.empty() ? "" : ",") + name + "=" + value;
    return text.empty() ? "" : "-o " + text;
  }
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.format << " " << c.text(); }

const Case kCases[] = {
    {"vdi", {}},
    {"vdi", {{"static", "on"}}},
    {"vpc", {}, false, true},
    {"vpc", {{"subformat", "fixed"}}, false, true},
    {"vpc", {{"force_size", "on"}}, false},
    {"vpc", {{"force_size", "on"}, {"subformat", "fixed"}}, false},
    {"qed", {}},
    {"qed", {{"cluster_size", "16384"}, {"table_size", "8"}}},
    {"qed", {{"cluster_size", "2M"}, {"table_size", "4"}}},
    {"qcow", {}, false},
    {"vhdx", {}},
    {"vhdx", {{"subformat", "fixed"}}},
    {"vhdx", {{"block_size", "1M"}, {"log_size", "2M"}, {"block_state_zero", "off"}}},
    {"vhdx", {{"block_size", "32M"}}},
    {"parallels", {}},
    {"parallels", {{"cluster_size", "65536"}}},
    {"vmdk", {}},
    {"vmdk", {{"subformat", "monolithicFlat"}}},
    {"vmdk", {{"subformat", "twoGbMaxExtentSparse"}}},
    {"vmdk", {{"subformat", "twoGbMaxExtentFlat"}}},
    {"vmdk", {{"subformat", "streamOptimized"}}},
    {"vmdk", {{"adapter_type", "lsilogic"}, {"zeroed_grain", "on"}}},
    {"vmdk", {{"compat6", "on"}, {"toolsversion", "10341"}}},
    {"vmdk", {{"hwversion", "7"}, {"adapter_type", "buslogic"}}},
    {"vmdk", {{"adapter_type", "legacyESX"}}},
};

class Interop : public testing::TestWithParam<Case>, public Fixture {
 protected:
  static constexpr u64 kSize = 21 * kMiB + 512 * 3;
  void SetUp() override {
    if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  }
  std::string raw_with(std::string_view content) {
    std::string path = folder / "model.raw";
    write_file(path, content);
    return path;
  }
  void expect_same(const std::string& image, std::string content) {
    Outcome compared =
        run(fmt::format("qemu-img compare -f {} -F raw {} {}", GetParam().format, image, raw_with(content)));
    EXPECT_EQ(compared.code, 0) << compared.output;
    if (!GetParam().check) return;
    Outcome checked = run(fmt::format("qemu-img check -f {} {}", GetParam().format, image));
    EXPECT_EQ(checked.code, 0) << checked.output;
  }
  /// Overwrites pieces of the disk and of the model alike.
  void scribble(Node& node, std::string& model, u32 seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 60; ++i) {
      u64 size = std::min<u64>(1 + random() % (i % 10 ? 9000 : 3'000'000), model.size());
      u64 offset = random() % (model.size() - size + 1);
      if (i % 4 == 3) {
        ASSERT_TRUE(zero(node, offset, size));
        std::fill_n(model.begin() + static_cast<long>(offset), size, '\0');
        continue;
      }
      std::string bytes(size, static_cast<char>(random()));
      Status status = write(node, offset, bytes);
      ASSERT_TRUE(status) << status.error().text();
      model.replace(offset, size, bytes);
      if (i % 20 == 19) {
        ASSERT_TRUE(flush(node));
      }
    }
  }
};

TEST_P(Interop, OurImageReadsTheSameThere) {
  const std::string path = folder / "ours";
  Status created = create(GetParam().format, path, GetParam().json(kSize));
  ASSERT_TRUE(created) << created.error().text();
  auto node = open(GetParam().format, path);
  ASSERT_TRUE(node) << node.error().text();
  if (GetParam().extra_size)
    EXPECT_GE((*node)->size_bytes(), kSize);
  else
    EXPECT_EQ((*node)->size_bytes(), kSize);
  std::string model((*node)->size_bytes(), '\0');
  scribble(**node, model, 1);
  EXPECT_FALSE(first_difference(read(**node, 0, model.size()), model));
  ASSERT_TRUE(flush(**node));
  node->reset();
  expect_same(path, model);
}

TEST_P(Interop, TheirImageReadsAndWritesTheSameHere) {
  const std::string path = folder / "theirs";
  std::string model = make_content(kSize, 7);
  Outcome converted = run(fmt::format("qemu-img convert -f raw -O {} {} {} {}", GetParam().format, GetParam().text(),
                                      raw_with(model), path));
  ASSERT_EQ(converted.code, 0) << converted.output;
  auto node = open(GetParam().format, path);
  ASSERT_TRUE(node) << node.error().text();
  model.resize((*node)->size_bytes());
  ASSERT_FALSE(first_difference(read(**node, 0, model.size()), model));
  scribble(**node, model, 2);
  ASSERT_TRUE(flush(**node));
  node->reset();
  node = open(GetParam().format, path, true);
  ASSERT_TRUE(node) << node.error().text();
  EXPECT_FALSE(first_difference(read(**node, 0, model.size()), model));
  node->reset();
  expect_same(path, model);
}

TEST_P(Interop, SizesAreTheSame) {
  for (u64 size : {kMiB, u64{33333 * 512}, 3 * kGiB + 7 * 512, 140 * kGiB}) {
    if (std::string_view(GetParam().text()).find("fixed") != std::string::npos && size > kGiB) continue;
    const std::string ours = folder / "ours", theirs = folder / "theirs";
    Status created = create(GetParam().format, ours, GetParam().json(size));
    ASSERT_TRUE(created) << created.error().text();
    Outcome made =
        run(fmt::format("qemu-img create -f {} {} {} {}", GetParam().format, GetParam().text(), theirs, size));
    ASSERT_EQ(made.code, 0) << made.output;
    auto a = open(GetParam().format, ours, true), b = open(GetParam().format, theirs, true);
    ASSERT_TRUE(a && b);
    EXPECT_EQ((*a)->size_bytes(), (*b)->size_bytes());
    a->reset();
    b->reset();
    Outcome compared =
        run(fmt::format("qemu-img info -f {} {} | grep -v -e disk.size -e image: -e ' cid:' -e filename: > {}.info; "
                        "qemu-img info -f {} {} | "
                        "grep -v -e disk.size -e image: -e ' cid:' -e filename: | diff - {}.info",
                        GetParam().format, ours, ours, GetParam().format, theirs, ours));
    EXPECT_EQ(compared.code, 0) << compared.output;
    run("rm -rf " + ours + "* " + theirs + "*");
  }
}

std::string case_name(const testing::TestParamInfo<Case>& test) {
  std::string name = test.param.format;
  for (auto& [key, value] : test.param.options) name += "_" + std::string(value);
  std::string clean;
  for (char c : name) clean += isalnum(c) ? c : '_';
  return clean + "_" + std::to_string(test.index);
}

INSTANTIATE_TEST_SUITE_P(Formats, Interop, testing::ValuesIn(kCases), case_name);

}  // namespace
}  // namespace atl::block
