// What single formats do beyond plain reading and writing: keys, parents, compression, logs, and files that lie.
#include "block/format/formats.h"

#include <fmt/format.h>
#include <zlib.h>

#include "base/endian.h"
#include "block/format/format_test_support.h"
#include "block/format/vhdx_log.h"
#include "block/format/vpc_spec.h"

namespace atl::block {
namespace {

using namespace format_test;

class Formats : public testing::Test, public Fixture {
 protected:
  std::string raw_file(const std::string& name, std::string_view content) {
    std::string path = folder / name;
    write_file(path, content);
    return path;
  }
  void expect_same_there(const std::string& format, const std::string& image, std::string_view content) {
    Outcome compared =
        run(fmt::format("qemu-img compare -f {} -F raw {} {}", format, image, raw_file("model.raw", content)));
    EXPECT_EQ(compared.code, 0) << compared.output;
  }
  /// A hand-made image reads the same here and there.
  void expect_reads_as(const std::string& format, const std::string& path, std::string_view content) {
    auto node = open(format, path, true);
    ASSERT_TRUE(node) << node.error().text();
    ASSERT_EQ((*node)->size_bytes(), content.size());
    EXPECT_FALSE(first_difference(read(**node, 0, content.size()), content));
    if (has_program("qemu-img")) expect_same_there(format, path, content);
  }
};

void put_be32(std::string& to, u64 at, u32 value) { store_be(&to[at], value); }
void put_be64(std::string& to, u64 at, u64 value) { store_be(&to[at], value); }

std::string packed(std::string_view plain) {
  std::string out(::compressBound(plain.size()), '\0');
  uLongf size = out.size();
  CHECK(::compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(plain.data()),
                   plain.size()) == Z_OK);
  out.resize(size);
  return out;
}

TEST_F(Formats, BecomeWritableAndReadOnlyAgain) {
  const std::string content = make_content(100'000, 9);
  for (const char* format : {"raw", "qcow", "qcow2", "qed", "vmdk", "vhdx", "vpc", "vdi", "parallels"}) {
    SCOPED_TRACE(format);
    const std::string path = folder / format;
    ASSERT_TRUE(create(format, path, {{"size", "8M"}}));
    auto node = open(format, path, true);
    ASSERT_TRUE(node) << node.error().text();
    EXPECT_FALSE(write(**node, 70'000, content));
    ASSERT_TRUE(finish(*loop, (*node)->set_readonly(false)));
    EXPECT_TRUE(write(**node, 70'000, content));
    ASSERT_TRUE(finish(*loop, (*node)->set_readonly(true)));
    EXPECT_FALSE(write(**node, 70'000, content));
    node->reset();
    node = open(format, path, true);
    ASSERT_TRUE(node) << node.error().text();
    EXPECT_FALSE(first_difference(read(**node, 70'000, content.size()), content));
  }
}

// --- luks ---

class LuksInterop : public Formats, public testing::WithParamInterface<const char*> {
 protected:
  static constexpr u64 kSize = 3 * kMiB;
  void SetUp() override {
    if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
    graph.add_secret("s", "hunter2");
  }
  Result<NodePtr> open_luks(const std::string& path) {
    Json tree = {{"driver", "luks"}, {"key-secret", "s"}, {"file", {{"driver", "file"}, {"filename", path}}}};
    return finish(*loop, graph.open(std::move(tree), OpenMode{}));
  }
  std::string opts(const std::string& path) {
    return "--object secret,id=s,data=hunter2 --image-opts driver=luks,key-secret=s,file.filename=" + path;
  }
};

TEST_P(LuksInterop, BothReadWhatTheOtherWrote) {
  const std::string content = make_content(kSize, 3), raw = raw_file("in.raw", content);
  const std::string ours = folder / "ours.luks", theirs = folder / "theirs.luks", back = folder / "back.raw";
  Json options = {{"size", std::to_string(kSize)}, {"key-secret", "s"}, {"iter-time", "10"}};
  for (std::string_view rest = GetParam(); !rest.empty();) {
    std::string_view pair = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    options[std::string(pair.substr(0, pair.find('=')))] = std::string(pair.substr(pair.find('=') + 1));
  }
  Status created = create("luks", ours, options);
  ASSERT_TRUE(created) << created.error().text();
  auto node = open_luks(ours);
  ASSERT_TRUE(node) << node.error().text();
  ASSERT_EQ((*node)->size_bytes(), kSize);
  ASSERT_TRUE(write(**node, 0, content.substr(0, 1'000'001)));  // not at sectors' ends
  ASSERT_TRUE(write(**node, 1'000'001, content.substr(1'000'001)));
  EXPECT_FALSE(first_difference(read(**node, 777, 5000), content.substr(777, 5000)));
  node->reset();
  Outcome done = run(fmt::format("qemu-img convert {} -O raw {} && cmp {} {}", opts(ours), back, back, raw));
  EXPECT_EQ(done.code, 0) << done.output;
  done = run(fmt::format(
      "qemu-img convert --object secret,id=s,data=hunter2 -f raw -O luks -o key-secret=s,iter-time=10{}{} {} {}",
      *GetParam() ? "," : "", GetParam(), raw, theirs));
  if (done.output.find("accurate CPU usage") != std::string::npos)
    GTEST_SKIP() << "the host is too busy for qemu-img to measure it";
  ASSERT_EQ(done.code, 0) << done.output;
  node = open_luks(theirs);
  ASSERT_TRUE(node) << node.error().text();
  EXPECT_FALSE(first_difference(read(**node, 0, kSize), content));
}

INSTANTIATE_TEST_SUITE_P(Ciphers, LuksInterop,
                         testing::Values("", "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256",
                                         "cipher-alg=serpent-256,hash-alg=sha512",
                                         "cipher-alg=twofish-128,hash-alg=ripemd160",
                                         "cipher-alg=aes-192,ivgen-alg=plain,hash-alg=sha1"));

TEST_F(Formats, LuksNeedsItsKey) {
  graph.add_secret("s", "right");
  graph.add_secret("w", "wrong");
  const std::string path = folder / "a.luks";
  ASSERT_TRUE(create("luks", path, {{"size", "1M"}, {"key-secret", "s"}, {"iter-time", "1"}}));
  EXPECT_FALSE(open("luks", path));
  Json tree = {{"driver", "luks"}, {"key-secret", "w"}, {"file", {{"driver", "file"}, {"filename", path}}}};
  auto wrong = finish(*loop, graph.open(tree, OpenMode{}));
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().text().find("Invalid password"), std::string::npos);
}

// --- parents ---

class Parents : public Formats, public testing::WithParamInterface<const char*> {};

TEST_P(Parents, OverlayReadsThroughAndCopiesOnWrite) {
  if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const std::string format = GetParam(), base_format = format == "vmdk" ? "vmdk" : "raw";
  std::string model = make_content(5 * kMiB, 11);
  const std::string raw = raw_file("in.raw", model), base = folder / "base", overlay = folder / "overlay";
  Outcome made = run(fmt::format("qemu-img convert -f raw -O {} {} {}", base_format, raw, base));
  ASSERT_EQ(made.code, 0) << made.output;
  Status created = create(
      format, overlay, {{"size", std::to_string(model.size())}, {"backing_file", base}, {"backing_fmt", base_format}});
  ASSERT_TRUE(created) << created.error().text();
  auto node = open(format, overlay);
  ASSERT_TRUE(node) << node.error().text();
  EXPECT_FALSE(first_difference(read(**node, 0, model.size()), model));
  for (u64 at : {u64{0}, u64{70001}, u64{2 * kMiB + 511}, model.size() - 3}) {
    ASSERT_TRUE(write(**node, at, "new"));
    model.replace(at, 3, "new");
  }
  ASSERT_TRUE(zero(**node, 3 * kMiB, 200'000));
  std::fill_n(model.begin() + 3 * kMiB, 200'000, '\0');
  EXPECT_FALSE(first_difference(read(**node, 0, model.size()), model));
  auto status = finish(*loop, (*node)->block_status(4 * kMiB, 512));
  EXPECT_FALSE(status->allocated);
  ASSERT_TRUE(flush(**node));
  node->reset();
  expect_same_there(format, overlay, model);
}

INSTANTIATE_TEST_SUITE_P(Overlays, Parents, testing::Values("qed", "qcow", "vmdk"));

TEST_F(Formats, VmdkRefusesAParentThatHasChanged) {
  const std::string base = folder / "base.vmdk", overlay = folder / "overlay.vmdk";
  ASSERT_TRUE(create("vmdk", base, {{"size", "1M"}}));
  ASSERT_TRUE(create("vmdk", overlay, {{"size", "1M"}, {"backing_file", base}}));
  EXPECT_TRUE(open("vmdk", overlay));
  {
    auto node = open("vmdk", base);
    ASSERT_TRUE(write(**node, 0, "changed"));
    ASSERT_TRUE(flush(**node));
  }
  auto node = open("vmdk", overlay);
  ASSERT_FALSE(node);
  EXPECT_NE(node.error().text().find("content ID"), std::string::npos);
}

// --- compression, encryption ---

TEST_F(Formats, CompressedClustersGoBothWays) {
  if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  std::string model = make_content(2 * kMiB + 4096, 5);
  const std::string raw = raw_file("in.raw", model);
  for (std::string format : {"qcow", "vmdk"}) {
    const std::string extra = format == "vmdk" ? "-o subformat=streamOptimized" : "", theirs = folder / "theirs",
                      ours = folder / "ours";
    Outcome made = run(fmt::format("qemu-img convert -c -f raw -O {} {} {} {}", format, extra, raw, theirs));
    if (made.code != 0 && format == "qcow") continue;  // some versions of qemu-img do not compress into qcow
    ASSERT_EQ(made.code, 0) << made.output;
    auto node = open(format, theirs, true);
    ASSERT_TRUE(node) << node.error().text();
    EXPECT_FALSE(first_difference(read(**node, 0, model.size()), model)) << format;
    Json options = {{"size", std::to_string(model.size())}};
    if (format == "vmdk") options["subformat"] = "streamOptimized";
    ASSERT_TRUE(create(format, ours, options));
    node = open(format, ours);
    ASSERT_TRUE(node) << node.error().text();
    Status written = write_compressed(**node, 0, model);
    ASSERT_TRUE(written) << written.error().text();
    ASSERT_TRUE(write(**node, 70'000, "in the middle"));
    std::string changed = model;
    changed.replace(70'000, 13, "in the middle");
    EXPECT_FALSE(first_difference(read(**node, 0, model.size()), changed)) << format;
    ASSERT_TRUE(flush(**node));
    node->reset();
    expect_same_there(format, ours, changed);
    run("rm -f " + theirs + " " + ours);
  }
}

TEST_F(Formats, OldAesImagesAreReadOnly) {
  if (!has_program("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  std::string model = make_content(kMiB, 6);
  const std::string raw = raw_file("in.raw", model), path = folder / "a.qcow";
  Outcome made = run(fmt::format(
      "qemu-img convert --object secret,id=s,data=abc -f raw -O qcow -o encrypt.format=aes,encrypt.key-secret=s {} {}",
      raw, path));
  if (made.code) GTEST_SKIP() << "this qemu-img writes no AES images: " << made.output;
  graph.add_secret("s", "abc");
  Json tree = {
      {"driver", "qcow"}, {"encrypt", {{"key-secret", "s"}}}, {"file", {{"driver", "file"}, {"filename", path}}}};
  OpenMode mode;
  EXPECT_FALSE(finish(*loop, graph.open(tree, mode)));
  mode.readonly = true;
  auto node = finish(*loop, graph.open(tree, mode));
  ASSERT_TRUE(node) << node.error().text();
  EXPECT_FALSE(first_difference(read(**node, 0, model.size()), model));
  EXPECT_EQ(read(**node, 1001, 700), model.substr(1001, 700));
}

// --- vhdx's log, vhd's footer ---

TEST_F(Formats, VhdxReplaysItsLog) {
  using namespace vhdx;
  const std::string path = folder / "a.vhdx";
  ASSERT_TRUE(create("vhdx", path, {{"size", "20M"}, {"block_size", "1M"}}));
  {
    auto node = open("vhdx", path);
    ASSERT_TRUE(write(**node, 0, std::string(1000, 'x')));
    ASSERT_TRUE(flush(**node));
  }
  // The same state as a crash leaves: the log is complete, the table in place is old.
  auto file = finish(*loop, graph.open_name(path, "raw", OpenMode{}));
  ASSERT_TRUE(file);
  const u64 table_at = 2 * kMiB;
  std::string table = read(**file, table_at, kLogSectorBytes), old = table;
  store_le(&old[0], u64{0});
  ASSERT_TRUE(write(**file, table_at, old));
  Header header;
  header.log[0] = 1;
  header.sequence = 100;
  LoggedSector sector{table_at, {table.begin(), table.end()}};
  auto entry = build_log_entry(header, 7, {&sector, 1}, (*file)->size_bytes());
  ASSERT_TRUE(entry);
  ASSERT_TRUE(write(**file, header.log_offset, {reinterpret_cast<char*>(entry->data()), entry->size()}));
  std::vector<u8> head = build_header(header);
  ASSERT_TRUE(write(**file, kHeader1At, {reinterpret_cast<char*>(head.data()), head.size()}));
  file->reset();
  const std::string copy = folder / "copy.vhdx";
  run("cp " + path + " " + copy);
  EXPECT_FALSE(open("vhdx", path, true));
  auto node = open("vhdx", path);
  ASSERT_TRUE(node) << node.error().text();
  EXPECT_EQ(read(**node, 0, 1000), std::string(1000, 'x'));
  node->reset();
  EXPECT_TRUE(open("vhdx", path, true));
  if (!has_program("qemu-img")) return;
  Outcome checked = run("qemu-img check -r all " + copy + " && qemu-img compare " + copy + " " + path);
  EXPECT_EQ(checked.code, 0) << checked.output;
}

TEST_F(Formats, VhdSurvivesTheLossOfItsFooter) {
  const std::string path = folder / "a.vhd";
  ASSERT_TRUE(create("vpc", path, {{"size", "20M"}}));
  {
    auto node = open("vpc", path);
    ASSERT_TRUE(write(**node, 5 * kMiB, "kept"));
    ASSERT_TRUE(flush(**node));
  }
  run("truncate -s -512 " + path);
  auto node = open("vpc", path);
  ASSERT_TRUE(node) << node.error().text();
  ASSERT_TRUE(write(**node, 9 * kMiB, "more"));
  ASSERT_TRUE(flush(**node));
  EXPECT_EQ(read(**node, 5 * kMiB, 4), "kept");
  EXPECT_EQ(read(**node, 9 * kMiB, 4), "more");
}

TEST(VpcGeometry, HoldsEverySize) {
  for (u64 sectors = 1; sectors < 400'000'000; sectors += sectors / 7 + 1) {
    vpc::Geometry g = vpc::geometry_for(sectors);
    EXPECT_GE(g.total(), std::min(sectors, vpc::kLargest.total()));
  }
}

// --- formats that are only read ---

TEST_F(Formats, BochsReadsSectorsByItsBitmaps) {
  constexpr u64 kExtent = 8192, kDisk = 5 * kExtent;
  std::string image(512 + 4 * 8, '\0'), model(kDisk, '\0');
  image.replace(0, 22, "Bochs Virtual HD Image");
  image.replace(32, 7, "Redolog");
  image.replace(48, 7, "Growing");
  store_le(&image[64], u32{0x20000});
  store_le(&image[68], u32{512});
  store_le(&image[72], u32{8});
  store_le(&image[76], u32{2});
  store_le(&image[80], u32{kExtent});
  store_le(&image[88], kDisk);
  std::fill_n(&image[512], 32, '\xff');
  u32 place = 0;
  for (u32 extent : {3u, 1u}) {
    store_le(&image[512 + 4 * extent], place++);
    std::string bitmap(512, '\0'), data(kExtent, '\0');
    for (u32 sector : {0u, 1u, 7u, 15u}) {
      bitmap[sector / 8] = static_cast<char>(bitmap[sector / 8] | 1 << sector % 8);
      std::fill_n(&data[sector * 512], 512, static_cast<char>('a' + extent + sector));
    }
    model.replace(extent * kExtent, kExtent, data);
    image += bitmap + data;
  }
  expect_reads_as("bochs", raw_file("a.bochs", image), model);
}

TEST_F(Formats, CloopReadsItsBlocks) {
  std::string model = make_content(40 * 512 * 16, 8),
              image = "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";
  constexpr u64 kBlock = 16 * 512;
  const u32 blocks = static_cast<u32>(model.size() / kBlock);
  image.resize(136 + 8 * (blocks + 1));
  put_be32(image, 128, kBlock);
  put_be32(image, 132, blocks);
  for (u32 i = 0; i <= blocks; ++i) {
    put_be64(image, 136 + 8 * i, image.size());
    if (i < blocks) image += packed(std::string_view(model).substr(i * kBlock, kBlock));
  }
  expect_reads_as("cloop", raw_file("a.cloop", image), model);
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    u32 three = 0;
    for (size_t k = 0; k < 3; ++k) three = three << 8 | (i + k < bytes.size() ? static_cast<u8>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[three >> (18 - 6 * k) & 63];
  }
  return text;
}

/// Four chunks of 64 sectors: zlib, zero, raw, and one of `last_type`.
std::string make_dmg(std::string_view model, u32 last_type) {
  constexpr u64 kChunk = 64 * 512;
  const u32 types[] = {0x80000005, 0, 1, last_type};
  std::string image, mish(204 + 5 * 40, '\0');
  put_be32(mish, 0, 0x6d697368);
  put_be32(mish, 200, 5);
  for (u32 i = 0; i < 4; ++i) {
    std::string_view plain = model.substr(i * kChunk, kChunk);
    std::string stored = types[i] == 0 ? "" : types[i] == 1 ? std::string(plain) : packed(plain);
    const u64 at = 204 + 40 * i;
    put_be32(mish, at, types[i]);
    put_be64(mish, at + 8, i * 64);
    put_be64(mish, at + 16, 64);
    put_be64(mish, at + 24, image.size());
    put_be64(mish, at + 32, stored.size());
    image += stored;
  }
  put_be32(mish, 204 + 160, 0xffffffff);
  std::string list = "<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>\n" +
                     base64(mish) + "\n</data></dict></array></dict></dict></plist>\n",
              trailer(512, '\0');
  put_be32(trailer, 0, 0x6b6f6c79);
  put_be64(trailer, 0x20, image.size());
  put_be64(trailer, 0xd8, image.size());
  put_be64(trailer, 0xe0, list.size());
  put_be64(trailer, 0x1ec, 256);
  return image + list + trailer;
}

TEST_F(Formats, DmgReadsItsChunks) {
  std::string model = make_content(256 * 512, 9);
  std::fill_n(&model[64 * 512], 64 * 512, '\0');
  expect_reads_as("dmg", raw_file("a.dmg", make_dmg(model, 0x80000005)), model);
}

TEST_F(Formats, DmgNamesTheCompressionItLacks) {
  std::string model = make_content(256 * 512, 9);
  auto node = open("dmg", raw_file("a.dmg", make_dmg(model, 0x80000007)), true);
  ASSERT_TRUE(node) << node.error().text();
  std::string bytes(512, '\0');
  iovec v{bytes.data(), bytes.size()};
  Status status = finish(*loop, (*node)->read(200 * 512, {&v, 1}));
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text().find("LZFSE"), std::string::npos);
}

// --- files that lie ---

/// Every number of the first bytes set to its extremes in turn: opened, read, written; nothing may crash, hang or grow.
TEST_F(Formats, MutatedHeadersDoNoHarm) {
  const std::pair<const char*, Json> cases[] = {
      {"vdi", {}},
      {"vpc", {}},
      {"qed", {}},
      {"qcow", {}},
      {"vmdk", {}},
      {"vmdk", {{"subformat", "streamOptimized"}}},
      {"parallels", {{"cluster_size", "4096"}}},
  };
  for (auto& [format, given] : cases) {
    Json options = given.is_null() ? Json::object() : given;
    options["size"] = "3M";
    const std::string path = folder / "good";
    ASSERT_TRUE(create(format, path, options)) << format;
    {
      auto node = open(format, path);
      ASSERT_TRUE(write(**node, kMiB, make_content(100'000, 1)));
      ASSERT_TRUE(flush(**node));
    }
    auto raw = finish(*loop, graph.open_name(path, "raw", OpenMode{}));
    const std::string good = read(**raw, 0, std::min<u64>((*raw)->size_bytes(), 1600));
    for (u64 at = 0; at + 4 <= good.size(); at += 4)
      for (u32 value : {0u, 1u, 0x7fffffffu, 0xffffffffu, 0x01000000u}) {
        std::string bad = good;
        store_le(&bad[at], value);
        ASSERT_TRUE(write(**raw, 0, bad));
        auto node = open(format, path, true);
        if (!node) continue;
        std::string bytes(std::min<u64>((*node)->size_bytes(), 64 * kKiB), '\0');
        iovec v{bytes.data(), bytes.size()};
        if (!bytes.empty()) (void)finish(*loop, (*node)->read(0, {&v, 1}));
        if ((*node)->size_bytes() >= kMiB + bytes.size()) (void)finish(*loop, (*node)->read(kMiB, {&v, 1}));
      }
    raw->reset();
    run("rm -f " + path);
  }
}

TEST_F(Formats, DifferencingImagesAreRefusedByName) {
  const std::string path = folder / "a.vhd";
  ASSERT_TRUE(create("vpc", path, {{"size", "3M"}}));
  auto raw = finish(*loop, graph.open_name(path, "raw", OpenMode{}));
  std::string footer = read(**raw, 0, 512);
  store_be(&footer[60], u32{4});
  ASSERT_TRUE(write(**raw, 0, footer));
  raw->reset();
  auto node = open("vpc", path);
  ASSERT_FALSE(node);
  EXPECT_EQ(node.error().kind(), ErrorKind::Unsupported);
  EXPECT_NE(node.error().text().find("differencing"), std::string::npos);
}

TEST_F(Formats, CheckFindsWhatLies) {
  const std::string path = folder / "a.qed";
  ASSERT_TRUE(create("qed", path, {{"size", "3M"}}));
  {
    auto node = open("qed", path);
    ASSERT_TRUE(write(**node, 0, "one"));
    ASSERT_TRUE(write(**node, kMiB, "two"));
    ASSERT_TRUE(flush(**node));
  }
  auto raw = finish(*loop, graph.open_name(path, "raw", OpenMode{}));
  std::string l1 = read(**raw, 65536, 8);
  std::string first = read(**raw, load_le<u64>(l1.data()), 8);
  ASSERT_TRUE(write(**raw, load_le<u64>(l1.data()) + 8 * 16, first));  // two clusters in one place
  raw->reset();
  auto node = open("qed", path);
  auto report = finish(*loop, (*node)->image()->check(Repair::None, nullptr));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->corruptions, 1u);
  EXPECT_EQ(report->leaks, 1u);
  report = finish(*loop, (*node)->image()->check(Repair::All, nullptr));
  EXPECT_EQ(report->corruptions_fixed, 1u);
  EXPECT_EQ(read(**node, 0, 3), "one");
}

TEST_F(Formats, ADiskFullOfErrorsSurfacesThem) {
  auto memory = std::make_shared<MemoryNode>("", 2 * kMiB);  // no more room than that
  const Driver* driver = find_driver("vdi");
  ASSERT_TRUE(finish(*loop, driver->create(graph, memory, "memory", {{"size", "8M"}})));
  auto node = finish(*loop, open_vdi_node(memory, {}));
  ASSERT_TRUE(node);
  EXPECT_TRUE(write(**node, 0, "fits"));
  Status status = write(**node, 4 * kMiB, "does not");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().os_errno(), ENOSPC);
  EXPECT_EQ(read(**node, 0, 4), "fits");
  EXPECT_EQ(read(**node, 4 * kMiB, 8), std::string(8, '\0'));
}

}  // namespace
}  // namespace atl::block
