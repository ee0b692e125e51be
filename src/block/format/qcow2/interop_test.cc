// qcow2 against qemu-img, both ways: create options, compression, snapshots, bitmaps, encryption, checks and repairs.
#include <fmt/format.h>

#include "block/format/format_test_support.h"
#include "block/format/qcow2/core.h"
#include "block/image.h"

namespace atl::block {
namespace {

using namespace format_test;

/// Create options as qemu-img takes them.
struct Case {
  const char* name;
  const char* options;
  bool data_file = false;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const Case kCases[] = {
    {"plain", ""},
    {"v2", "compat=0.10"},
    {"v2_small", "compat=v2,cluster_size=512"},
    {"cluster_512", "cluster_size=512"},
    {"cluster_4k", "cluster_size=4k"},
    {"cluster_2m", "cluster_size=2M"},
    {"refcount_1", "refcount_bits=1"},
    {"refcount_2", "refcount_bits=2,cluster_size=1k"},
    {"refcount_8", "refcount_bits=8"},
    {"refcount_64", "refcount_bits=64,cluster_size=2k"},
    {"lazy", "lazy_refcounts=on"},
    {"extended", "extended_l2=on"},
    {"extended_16k", "extended_l2=on,cluster_size=16k"},
    {"extended_2m", "extended_l2=on,cluster_size=2M"},
    {"metadata", "preallocation=metadata"},
    {"metadata_v2", "preallocation=metadata,compat=0.10"},
    {"falloc", "preallocation=falloc"},
    {"full", "preallocation=full,cluster_size=8k"},
    {"extended_metadata", "preallocation=metadata,extended_l2=on"},
    {"zstd", "compression_type=zstd"},
    {"zstd_extended", "compression_type=zstd,extended_l2=on,cluster_size=128k"},
    {"data_file", "data_file=@", true},
    {"data_file_raw", "data_file=@,data_file_raw=on", true},
    {"data_file_extended", "data_file=@,extended_l2=on", true},
    {"data_file_metadata", "data_file=@,preallocation=metadata", true},
};

class Qcow2Interop : public testing::TestWithParam<Case>, public Fixture {
 protected:
  static constexpr u64 kSize = 9 * kMiB + 512 * 3;

  void SetUp() override {
    if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  }
  std::string options(const char* side) {
    std::string text = GetParam().options;
    if (size_t at = text.find('@'); at != text.npos) text.replace(at, 1, folder / (std::string(side) + ".data"));
    return text;
  }
  Json json(const char* side) {
    Json all = {{"size", std::to_string(kSize)}};
    std::string text = options(side);
    for (size_t at = 0; at < text.size();) {
      size_t end = std::min(text.find(',', at), text.size()), equals = text.find('=', at);
      all[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
      at = end + 1;
    }
    return all;
  }
  void make_theirs(const std::string& path) {
    std::string text = options("theirs");
    Outcome made = run(fmt::format("qemu-img create -f qcow2 {} {} {}", text.empty() ? "" : "-o " + text, path, kSize));
    ASSERT_EQ(made.code, 0) << made.output;
  }
  void make_ours(const std::string& path) {
    Status status = create("qcow2", path, json("ours"));
    ASSERT_TRUE(status) << status.error().text();
  }
  void check(const std::string& path) {
    Outcome checked = run("qemu-img check -U -f qcow2 " + path);
    EXPECT_EQ(checked.code, 0) << checked.output;
  }
  void compare(const std::string& path, std::string_view content) {
    write_file(folder / "model.raw", content);
    Outcome compared = run(fmt::format("qemu-img compare -U -f qcow2 -F raw {} {}", path, folder / "model.raw"));
    EXPECT_EQ(compared.code, 0) << compared.output;
  }
  /// Random changes to the disk and to the model alike.
  void scribble(Node& node, std::string& model, u32 seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 60; ++i) {
      const u64 size = 1 + random() % (i % 10 ? 9000 : 1'500'000), offset = random() % (model.size() - size + 1);
      Status status;
      if (i % 4 == 3) {
        status = finish(*loop, node.write_zeroes(offset, size, i % 8 == 3 ? u32{kMayUnmap} : 0));
        std::fill_n(model.begin() + static_cast<long>(offset), size, '\0');
      } else {
        std::string bytes(size, static_cast<char>(random()));
        status = write(node, offset, bytes);
        model.replace(offset, size, bytes);
      }
      ASSERT_TRUE(status) << status.error().text();
    }
  }
  void close(NodePtr node) {
    Status status = finish(*loop, node->close());
    EXPECT_TRUE(status) << status.error().text();
  }
  void scribble_and_compare(const std::string& path, std::string& model) {
    auto node = open("qcow2", path);
    ASSERT_TRUE(node) << node.error().text();
    ASSERT_EQ((*node)->size_bytes(), kSize);
    EXPECT_FALSE(first_difference(read(**node, 0, kSize), model));
    scribble(**node, model, 5);
    EXPECT_FALSE(first_difference(read(**node, 0, kSize), model));
    close(std::move(*node));
    check(path);
    compare(path, model);
  }
};

TEST_P(Qcow2Interop, OursReadsTheSameThere) {
  const std::string path = folder / "ours";
  make_ours(path);
  check(path);
  std::string model(kSize, '\0');
  scribble_and_compare(path, model);
}

TEST_P(Qcow2Interop, TheirsReadsAndWritesTheSameHere) {
  const std::string path = folder / "theirs";
  make_theirs(path);
  std::string model = make_content(kSize, 3);
  write_file(folder / "content.raw", model);
  Outcome filled = run(fmt::format("qemu-img convert -n -f raw -O qcow2 {} {}", folder / "content.raw", path));
  ASSERT_EQ(filled.code, 0) << filled.output;
  scribble_and_compare(path, model);
}

TEST_P(Qcow2Interop, CompressedClustersBothWays) {
  const std::string_view asked = GetParam().options;
  if (GetParam().data_file) GTEST_SKIP() << "no compressed clusters beside data files";
  if (asked.find("preallocation") != asked.npos) GTEST_SKIP() << "qemu-img does not compress over allocated clusters";
  std::string model = make_content(kSize, 4);
  write_file(folder / "content.raw", model);
  const std::string theirs = folder / "theirs", ours = folder / "ours";
  make_theirs(theirs);
  Outcome filled = run(fmt::format("qemu-img convert -n -c -f raw -O qcow2 {} {}", folder / "content.raw", theirs));
  ASSERT_EQ(filled.code, 0) << filled.output;
  std::string changed = model;
  scribble_and_compare(theirs, changed);
  make_ours(ours);
  auto node = open("qcow2", ours);
  ASSERT_TRUE(node);
  Status status = write_compressed(**node, 0, model);
  ASSERT_TRUE(status) << status.error().text();
  close(std::move(*node));
  check(ours);
  scribble_and_compare(ours, model);
}

TEST_P(Qcow2Interop, SnapshotsBothWays) {
  if (GetParam().data_file) GTEST_SKIP() << "no snapshots beside data files";
  if (std::string_view(GetParam().options).find("refcount_bits=1") == 0 && GetParam().options[15] == '\0')
    GTEST_SKIP() << "refcounts of one bit cannot count snapshots";
  if (std::string_view(GetParam().options).find("refcount_bits=2") == 0)
    GTEST_SKIP() << "qemu-img counts higher than two bits reach while it applies a snapshot";
  const std::string path = folder / "ours";
  make_ours(path);
  auto node = open("qcow2", path);
  ASSERT_TRUE(node);
  std::string model(kSize, '\0'), first;
  scribble(**node, model, 1);
  SnapshotInfo info;
  info.name = "one";
  Status status = finish(*loop, (*node)->image()->create_snapshot(info));
  ASSERT_TRUE(status) << status.error().text();
  first = model;
  scribble(**node, model, 2);
  auto view = finish(*loop, (*node)->image()->open_snapshot("one"));
  ASSERT_TRUE(view) << view.error().text();
  EXPECT_FALSE(first_difference(read(**view, 0, kSize), first));
  view->reset();
  close(std::move(*node));
  check(path);
  compare(path, model);
  Outcome theirs = run(fmt::format("qemu-img snapshot -c two {0} && qemu-img snapshot -a one {0} && qemu-img check {0}", path));
  ASSERT_EQ(theirs.code, 0) << theirs.output;
  compare(path, first);
  node = open("qcow2", path);
  auto list = finish(*loop, (*node)->image()->snapshots());
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[1].name, "two");
  status = finish(*loop, (*node)->image()->apply_snapshot("two"));
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_FALSE(first_difference(read(**node, 0, kSize), model));
  close(*node);
  check(path);
  status = finish(*loop, (*node)->image()->delete_snapshot("one"));
  ASSERT_TRUE(status) << status.error().text();
  close(*node);
  check(path);
  status = finish(*loop, (*node)->image()->delete_snapshot("two"));
  ASSERT_TRUE(status) << status.error().text();
  close(std::move(*node));
  check(path);
  compare(path, model);
}

TEST_P(Qcow2Interop, ResizedImageIsWhole) {
  const std::string path = folder / "ours";
  make_ours(path);
  auto node = open("qcow2", path);
  ASSERT_TRUE(node);
  std::string model(kSize, '\0');
  scribble(**node, model, 6);
  for (u64 size : {kSize + 40 * kMiB, 3 * kMiB + 512, 5 * kMiB}) {
    Status status = finish(*loop, (*node)->resize(size, Preallocation::Off));
    ASSERT_TRUE(status) << status.error().text();
    model.resize(size);
    close(*node);
    check(path);
    compare(path, model);
  }
}

TEST_P(Qcow2Interop, CheckFindsNothingInTheirs) {
  const std::string path = folder / "theirs";
  make_theirs(path);
  write_file(folder / "content.raw", make_content(kSize, 8));
  run(fmt::format("qemu-img convert -n -f raw -O qcow2 {} {}", folder / "content.raw", path));
  auto node = open("qcow2", path);
  ASSERT_TRUE(node) << node.error().text();
  auto report = finish(*loop, (*node)->image()->check(Repair::None, nullptr));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->corruptions + report->leaks + report->check_errors, 0u) << (report->messages.empty() ? "" : report->messages[0]);
  Json theirs = Json::parse(run("qemu-img check -U --output=json " + path).output, nullptr, false);
  EXPECT_EQ(theirs.value("allocated-clusters", u64{0}), report->allocated_clusters);
  EXPECT_EQ(theirs.value("fragmented-clusters", u64{0}), report->fragmented_clusters);
  EXPECT_EQ(theirs.value("total-clusters", u64{0}), report->total_clusters);
  EXPECT_EQ(theirs.value("image-end-offset", u64{0}), report->image_end_offset);
}

INSTANTIATE_TEST_SUITE_P(All, Qcow2Interop, testing::ValuesIn(kCases), [](auto& param) { return param.param.name; });

// --- one at a time ---

struct Qcow2Real : testing::Test, Fixture {
  std::string path = folder / "image";

  void SetUp() override {
    if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  }
  NodePtr make(Json options) {
    Status status = create("qcow2", path, std::move(options));
    EXPECT_TRUE(status) << (status ? "" : status.error().text());
    auto node = open("qcow2", path);
    EXPECT_TRUE(node) << node.error().text();
    return node ? *node : nullptr;
  }
  void close(NodePtr& node) {
    Status status = finish(*loop, node->close());
    EXPECT_TRUE(status) << status.error().text();
    node.reset();
  }
  int their_check() { return run("qemu-img check -U -f qcow2 " + path).code; }
};

TEST_F(Qcow2Real, BitmapsAreSeenThereAndKeptByWrites) {
  NodePtr node = make({{"size", "64M"}});
  BitmapInfo info;
  info.name = "b0";
  Status status = finish(*loop, node->image()->add_bitmap(info));
  ASSERT_TRUE(status) << status.error().text();
  ASSERT_TRUE(write(*node, 10 * kMiB, std::string(100'000, 'x')));
  close(node);
  EXPECT_EQ(their_check(), 0);
  Json theirs = Json::parse(run("qemu-img info --output=json " + path).output);
  Json bitmap = theirs["format-specific"]["data"]["bitmaps"][0];
  EXPECT_EQ(bitmap["name"], "b0");
  EXPECT_EQ(bitmap["granularity"], 65536);
  EXPECT_EQ(bitmap["flags"], Json::array({"auto"}));
  ASSERT_EQ(run("qemu-img bitmap --add --granularity 4k " + path + " b1").code, 0);
  ASSERT_EQ(run("qemu-img bitmap --merge b0 " + path + " b1").code, 0);
  node = *open("qcow2", path);
  auto list = finish(*loop, node->image()->bitmaps());
  ASSERT_TRUE(list) << list.error().text();
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[1].granularity, 4096u);
  EXPECT_EQ((*list)[0].dirty_bytes, 131072u);
  EXPECT_EQ((*list)[1].dirty_bytes, 131072u);
  auto run_at = finish(*loop, node->image()->bitmap_run("b1", 0, 64 * kMiB));
  ASSERT_TRUE(run_at);
  EXPECT_FALSE(run_at->dirty);
  EXPECT_EQ(run_at->bytes, 10 * kMiB);
  status = finish(*loop, node->image()->remove_bitmap("b0"));
  ASSERT_TRUE(status) << status.error().text();
  ASSERT_TRUE(finish(*loop, node->image()->clear_bitmap("b1")));
  ASSERT_TRUE(finish(*loop, node->image()->enable_bitmap("b1", false)));
  close(node);
  EXPECT_EQ(their_check(), 0) << run("qemu-img check -U " + path).output;
}

TEST_F(Qcow2Real, BitmapOfAnImageThatWasNotClosedIsInconsistent) {
  NodePtr node = make({{"size", "64M"}});
  BitmapInfo info;
  info.name = "b0";
  ASSERT_TRUE(finish(*loop, node->image()->add_bitmap(info)));
  ASSERT_TRUE(write(*node, 0, "x"));
  ASSERT_TRUE(flush(*node));
  node.reset();
  node = *open("qcow2", path);
  auto list = finish(*loop, node->image()->bitmaps());
  ASSERT_TRUE(list && list->size() == 1);
  EXPECT_TRUE((*list)[0].in_use);
  EXPECT_FALSE(finish(*loop, node->image()->bitmap_run("b0", 0, 1)));
  ASSERT_TRUE(finish(*loop, node->image()->remove_bitmap("b0")));
  close(node);
  EXPECT_EQ(their_check(), 0) << run("qemu-img check -U " + path).output;
}

TEST_F(Qcow2Real, LuksBothWays) {
  graph.add_secret("s0", "secret");
  const std::string secret = "--object secret,id=s0,data=secret ";
  NodePtr node;
  ASSERT_TRUE(create("qcow2", path, {{"size", "4M"}, {"encrypt.format", "luks"}, {"encrypt.key-secret", "s0"}, {"encrypt.iter-time", "10"}}));
  Json tree = {{"driver", "qcow2"}, {"encrypt.key-secret", "s0"}, {"file", {{"driver", "file"}, {"filename", path}}}};
  auto opened = finish(*loop, graph.open(*nest_options(tree), OpenMode{}));
  ASSERT_TRUE(opened) << opened.error().text();
  node = *opened;
  opened = NodePtr();
  std::string model = make_content(4 * kMiB, 2);
  ASSERT_TRUE(write(*node, 0, model));
  ASSERT_TRUE(write(*node, 12345, "odd"));
  model.replace(12345, 3, "odd");
  EXPECT_FALSE(first_difference(read(*node, 0, model.size()), model));
  close(node);
  write_file(folder / "model.raw", model);
  const std::string image = "driver=qcow2,encrypt.key-secret=s0,file.filename=" + path;
  Outcome compared = run("qemu-img compare --image-opts " + secret + image + " driver=raw,file.filename=" + folder / "model.raw");
  EXPECT_EQ(compared.code, 0) << compared.output;
  Outcome checked = run("qemu-img check --image-opts " + secret + image);
  EXPECT_EQ(checked.code, 0) << checked.output;
  EXPECT_FALSE(open("qcow2", path));
}

TEST_F(Qcow2Real, AesImageOfTheirsIsReadAndWritten) {
  graph.add_secret("s0", "geheim");
  std::string model = make_content(2 * kMiB, 2);
  write_file(folder / "model.raw", model);
  Outcome made = run("qemu-img convert --object secret,id=s0,data=geheim -f raw -O qcow2 -o encrypt.format=aes,encrypt.key-secret=s0 " +
                     (folder / "model.raw") + " " + path);
  if (made.code != 0) GTEST_SKIP() << made.output;
  Json tree = {{"driver", "qcow2"}, {"encrypt.key-secret", "s0"}, {"file", {{"driver", "file"}, {"filename", path}}}};
  auto opened = finish(*loop, graph.open(*nest_options(tree), OpenMode{}));
  ASSERT_TRUE(opened) << opened.error().text();
  EXPECT_FALSE(first_difference(read(**opened, 0, model.size()), model));
  std::string change(70'000, 'x');
  ASSERT_TRUE(write(**opened, 1000, change));
  ASSERT_TRUE(finish(*loop, (*opened)->close()));
  model.replace(1000, change.size(), change);
  write_file(folder / "model.raw", model);
  Outcome same = run("qemu-img compare -U --object secret,id=s0,data=geheim --image-opts "
                     "driver=qcow2,encrypt.key-secret=s0,file.filename=" + path + " driver=raw,file.filename=" + (folder / "model.raw"));
  EXPECT_EQ(same.code, 0) << same.output;
}

TEST_F(Qcow2Real, AmendedImageIsWhole) {
  NodePtr node = make({{"size", "8M"}});
  std::string model = make_content(8 * kMiB, 5);
  ASSERT_TRUE(write(*node, 0, model));
  ASSERT_TRUE(zero(*node, kMiB, kMiB));
  std::fill_n(model.begin() + kMiB, kMiB, '\0');
  const Json steps[] = {{{"refcount_bits", "64"}}, {{"lazy_refcounts", "on"}}, {{"refcount_bits", "1"}},
                        {{"refcount_bits", "16"}, {"lazy_refcounts", "off"}}, {{"compat", "0.10"}}, {{"compat", "1.1"}},
                        {{"size", "9M"}}};
  for (const Json& step : steps) {
    Status status = finish(*loop, node->image()->amend(step, false, nullptr));
    ASSERT_TRUE(status) << step.dump() << status.error().text();
    ASSERT_TRUE(finish(*loop, node->close()));
    EXPECT_EQ(their_check(), 0) << step.dump() << run("qemu-img check -U " + path).output;
    EXPECT_FALSE(first_difference(read(*node, 0, model.size()), model));
  }
  EXPECT_FALSE(finish(*loop, node->image()->amend({{"cluster_size", "4096"}}, false, nullptr)));
}

TEST_F(Qcow2Real, MeasureSaysTheSame) {
  const Driver* driver = find_driver("qcow2");
  for (const char* options : {"", "cluster_size=4k", "refcount_bits=1,cluster_size=2M", "extended_l2=on", "preallocation=full"}) {
    Json parsed = Json::object();
    std::string text = options;
    for (size_t at = 0; at < text.size();) {
      size_t end = std::min(text.find(',', at), text.size()), equals = text.find('=', at);
      parsed[text.substr(at, equals - at)] = text.substr(equals + 1, end - equals - 1);
      at = end + 1;
    }
    auto ours = driver->measure(100 * kGiB, 0, parsed);
    ASSERT_TRUE(ours) << ours.error().text();
    Json theirs = Json::parse(run(fmt::format("qemu-img measure --output=json -O qcow2 {} --size 100G", text.empty() ? "" : "-o " + text)).output);
    EXPECT_EQ(ours->required, theirs["required"].get<u64>()) << options;
    EXPECT_EQ(ours->fully_allocated, theirs["fully-allocated"].get<u64>()) << options;
  }
}

/// Damage of each kind, repaired here, then checked there.
class Qcow2Damage : public Qcow2Real, public testing::WithParamInterface<int> {};

TEST_P(Qcow2Damage, IsFoundAndRepaired) {
  NodePtr node = make({{"size", "8M"}, {"cluster_size", "4096"}});
  std::string model = make_content(8 * kMiB, 9);
  ASSERT_TRUE(write(*node, 0, model));
  close(node);
  int fd = ::open(path.c_str(), O_RDWR);
  auto put = [&](u64 at, u64 value, int bytes) {
    u8 big[8];
    store_be(big, value << (64 - 8 * bytes));
    ASSERT_EQ(::pwrite(fd, big, static_cast<size_t>(bytes), static_cast<off_t>(at)), bytes);
  };
  auto get = [&](u64 at) {
    u8 big[8] = {};
    EXPECT_EQ(::pread(fd, big, 8, static_cast<off_t>(at)), 8);
    return load_be<u64>(big);
  };
  const u64 table = get(48), block = get(table), l1 = get(40), l2 = get(l1) & qcow2::kOffsetMask;
  switch (GetParam()) {
    case 0: put(block + 2 * 20, 7, 2); break;                              // leak
    case 1: put(block + 2 * 20, 0, 2); break;                              // in use but free
    case 2: put(table, 0, 8); break;                                       // no block
    case 3: put(table, block + 512, 8); break;                             // block not aligned
    case 4: put(table, u64{1} << 50, 8); break;                            // block past the end
    case 5: put(l2 + 8, get(l2 + 8) & ~qcow2::kCopied, 8); break;          // mark missing
    case 6: put(l1, get(l1) & ~qcow2::kCopied, 8); break;
    case 7: put(56, 0, 4); break;                                          // no refcount table at all
    case 8: put(72, 1, 8); put(block + 2 * 30, 0, 2); break;               // dirty
    case 9: put(72, 2, 8); break;                                          // marked corrupt, but is not
  }
  ::close(fd);
  OpenMode mode;
  mode.check = true;
  auto opened = finish(*loop, graph.open_name(path, "qcow2", mode));
  ASSERT_TRUE(opened) << opened.error().text();
  node = *opened;
  *opened = nullptr;
  auto report = finish(*loop, node->image()->check(Repair::None, nullptr));
  ASSERT_TRUE(report) << report.error().text();
  if (GetParam() != 9) {
    EXPECT_GT(report->corruptions + report->leaks, 0u);
  }
  report = finish(*loop, node->image()->check(Repair::All, nullptr));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->corruptions + report->leaks + report->check_errors, 0u) << (report->messages.empty() ? "" : report->messages.back());
  report = finish(*loop, node->image()->check(Repair::None, nullptr));
  EXPECT_EQ(report->corruptions + report->leaks + report->check_errors, 0u) << (report->messages.empty() ? "" : report->messages.back());
  close(node);
  EXPECT_EQ(their_check(), 0) << run("qemu-img check -U " + path).output;
  write_file(folder / "model.raw", model);
  EXPECT_EQ(run(fmt::format("qemu-img compare -U -f qcow2 -F raw {} {}", path, folder / "model.raw")).code, 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Qcow2Damage, testing::Range(0, 10));

}  // namespace
}  // namespace atl::block
