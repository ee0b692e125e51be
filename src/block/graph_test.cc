#include <gmock/gmock.h>

#include "block/debug_points.h"
#include "block/root.h"
#include "block/test_support.h"

namespace atl::block {
namespace {

using testing::HasSubstr;

class GraphTest : public testing::Test {
 protected:
  Result<NodePtr> open(Json tree, OpenMode mode = {}) { return finish(*loop, graph.open(std::move(tree), std::move(mode))); }
  Result<NodePtr> open_name(std::string name, std::string format = {}, OpenMode mode = {}) {
    return finish(*loop, graph.open_name(std::move(name), std::move(format), std::move(mode)));
  }
  std::string error_of(Json tree) {
    auto opened = open(std::move(tree));
    return opened ? "no error" : opened.error().text();
  }
  std::string read(Node& node, u64 offset, size_t size) {
    std::string bytes(size, '?');
    iovec whole{bytes.data(), size};
    Status status = finish(*loop, node.read(offset, {&whole, 1}));
    return status ? bytes : status.error().text();
  }
  Status write(Node& node, u64 offset, std::string bytes) {
    iovec whole{bytes.data(), bytes.size()};
    return finish(*loop, node.write(offset, {&whole, 1}, kNoFlags));
  }
  Status create(const char* format, const std::string& path, Json options) {
    return finish(*loop, graph.create(*find_driver(format), path, std::move(options)));
  }

  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }  // io_uring works where the tests run

  std::unique_ptr<Loop> loop = make_loop();
  Graph graph{*loop};
};

TEST_F(GraphTest, TreesAreFlatOrNested) {
  TempFile file(4096);
  file.put(512, "hello");
  auto flat = MUST(open({{"driver", "raw"}, {"offset", "512"}, {"file.driver", "file"}, {"file.filename", file.path()}}));
  EXPECT_EQ(read(*flat, 0, 5), "hello");
  auto nested = MUST(open({{"driver", "raw"}, {"offset", 512}, {"read-only", true}, {"file", {{"driver", "file"}, {"filename", file.path()}, {"locking", "off"}}}}));
  EXPECT_EQ(read(*nested, 0, 5), "hello");
  EXPECT_EQ(nested->info().driver, "raw");
}

TEST_F(GraphTest, WhatNobodyKnowsIsRefusedByName) {
  TempFile file(4096);
  Json protocol = {{"driver", "file"}, {"filename", file.path()}};
  EXPECT_THAT(error_of({{"driver", "raw"}, {"file", protocol}, {"fast", "on"}}), HasSubstr("'fast'"));
  EXPECT_THAT(error_of({{"driver", "nothing"}}), HasSubstr("Unknown driver 'nothing'"));
  EXPECT_THAT(error_of({{"driver", "raw"}, {"file", "nobody"}}), HasSubstr("nobody"));
  EXPECT_THAT(error_of({{"filename", "sheepdog:x"}}), HasSubstr("sheepdog"));
  EXPECT_THAT(error_of({{"filename", "gopher://x"}}), HasSubstr("Unknown protocol 'gopher'"));
  EXPECT_THAT(error_of({{"filename", "json:{"}}), HasSubstr("JSON"));
}

TEST_F(GraphTest, NamedNodesCanBeStoodOn) {
  ASSERT_TRUE(graph.name_node(MUST(open({{"driver", "null-co"}, {"node-name", "n"}, {"size", "1M"}, {"read-zeroes", "on"}}))));
  auto raw = MUST(open({{"driver", "raw"}, {"file", "n"}}));
  EXPECT_EQ(raw->size_bytes(), kMiB);
  EXPECT_THAT(error_of({{"driver", "null-co"}, {"node-name", "n"}}), HasSubstr("Duplicate nodes with node-name='n'"));
  EXPECT_THAT(error_of({{"driver", "null-co"}, {"node-name", "0n"}}), HasSubstr("Invalid node-name"));
}

TEST_F(GraphTest, GuessedRawRefusesAnotherFormatsHeader) {
  TempFile file(64 * kKiB);
  auto guessed = MUST(open_name(file.path()));
  EXPECT_EQ(guessed->info().driver, "raw");
  EXPECT_EQ(write(*guessed, 0, std::string("QFI\xfb\0\0\0\3", 8) + std::string(504, '\0')).error().os_errno(), EPERM);
  EXPECT_TRUE(write(*guessed, 0, "no header"));
  guessed.reset();
  auto told = MUST(open_name(file.path(), "raw"));
  EXPECT_TRUE(write(*told, 0, std::string("QFI\xfb\0\0\0\3", 8)));
}

TEST_F(GraphTest, JsonNamesMergeWithWhatIsThere) {
  TempFile file(4096);
  Json tree = {{"driver", "raw"}, {"file", {{"driver", "file"}, {"filename", file.path()}}}, {"size", 1024}};
  auto node = MUST(open_name("json:" + tree.dump()));
  EXPECT_EQ(node->size_bytes(), 1024u);
}

TEST_F(GraphTest, BackingFilesAreRelativeToTheirImage) {
  EXPECT_EQ(resolve_backing_name("b.raw", "/images/a.qcow2"), "/images/b.raw");
  EXPECT_EQ(resolve_backing_name("/b.raw", "/images/a.qcow2"), "/b.raw");
  EXPECT_EQ(resolve_backing_name("b.raw", "a.qcow2"), "b.raw");
  EXPECT_EQ(resolve_backing_name("b", "http://host/x/a?q"), "http://host/x/b");
  EXPECT_EQ(resolve_backing_name("nbd:unix:/x", "/images/a"), "nbd:unix:/x");
}

TEST_F(GraphTest, LoopsOfBackingFilesAreRefused) {
  TempFile a, b;
  ASSERT_TRUE(create("qcow2", a.path(), {{"size", "1M"}, {"backing_file", b.path()}, {"backing_fmt", "qcow2"}}));
  ASSERT_TRUE(create("qcow2", b.path(), {{"size", "1M"}, {"backing_file", a.path()}, {"backing_fmt", "qcow2"}}));
  OpenMode mode;
  mode.readonly = true;
  auto opened = open_name(a.path(), "qcow2", mode);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().text(), HasSubstr("infinite loop"));
}

TEST_F(GraphTest, CreationChecksOptionsBeforeAnythingIsTouched) {
  TempFile file;
  file.put(0, "precious");
  EXPECT_THAT(create("qcow2", file.path(), {{"size", "1M"}, {"fast", "on"}}).error().text(), HasSubstr("'fast'"));
  EXPECT_THAT(create("raw", file.path(), {{"size", "much"}}).error().text(), HasSubstr("'size'"));
  EXPECT_EQ(file.text(0, 8), "precious");
  ASSERT_TRUE(create("raw", file.path(), {{"size", "8k"}}));
  EXPECT_EQ(MUST(open_name(file.path(), "raw"))->size_bytes(), 8192u);
}

TEST_F(GraphTest, CreationLeavesAnImageInUseAlone) {
  TempFile file;
  ASSERT_TRUE(create("raw", file.path(), {{"size", "8k"}}));
  auto user = MUST(open_name(file.path(), "raw"));
  EXPECT_THAT(create("raw", file.path(), {{"size", "4k"}}).error().text(), HasSubstr("lock"));
  EXPECT_EQ(user->size_bytes(), 8192u);
}

TEST_F(GraphTest, DetectedZeroesBecomeHoles) {
  TempFile file(kMiB);
  file.put(0, std::string(64 * kKiB, 'x'));
  auto node = MUST(open({{"driver", "raw"}, {"discard", "unmap"}, {"detect-zeroes", "unmap"}, {"file", {{"driver", "file"}, {"filename", file.path()}}}}));
  ASSERT_TRUE(write(*node, 0, std::string(64 * kKiB, '\0')));
  auto status = finish(*loop, node->block_status(0, 64 * kKiB));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->zero);
  EXPECT_THAT(error_of({{"driver", "null-co"}, {"detect-zeroes", "unmap"}}), HasSubstr("discard"));
}

TEST_F(GraphTest, AccessModeChangesBothWays) {
  TempFile file(4096);
  OpenMode mode;
  mode.readonly = true;
  auto node = MUST(open_name(file.path(), "raw", mode));
  EXPECT_FALSE(write(*node, 0, "x"));
  ASSERT_TRUE(finish(*loop, node->set_readonly(false)));
  EXPECT_TRUE(write(*node, 0, "x"));
  ASSERT_TRUE(finish(*loop, node->set_readonly(true)));
  EXPECT_FALSE(write(*node, 0, "y"));
  EXPECT_EQ(file.text(0, 1), "x");
}

TEST_F(GraphTest, DrainedRootKeepsRequestsWaiting) {
  auto node = MUST(open({{"driver", "null-co"}, {"size", 4096}, {"read-zeroes", true}}));
  Root root(graph, node);
  finish(*loop, graph.drain()).value();
  bool ended = false;
  std::string bytes(512, 'x');
  iovec whole{bytes.data(), bytes.size()};
  start(root.read(0, {&whole, 1}), [&](Status status) { ended = status.has_value(); });
  loop->run_once(0);
  EXPECT_FALSE(ended);
  graph.resume();
  while (!ended) loop->run_once(1'000'000);
  EXPECT_EQ(root.stats().read.operations, 1u);
  EXPECT_EQ(root.stats().read.bytes, 512u);
}

// --- test doubles ---

TEST_F(GraphTest, BlkdebugFailsWhatItsRulesSay) {
  TempFile file(64 * kKiB);
  Json rules = Json::array({{{"event", "write_aio"}, {"errno", ENOSPC}, {"sector", 8}, {"once", true}}});
  Json debug = {{"driver", "blkdebug"}, {"inject-error", rules}, {"image", {{"driver", "file"}, {"filename", file.path()}}}};
  auto node = MUST(open({{"driver", "raw"}, {"file", debug}}));
  EXPECT_TRUE(write(*node, 0, std::string(512, 'a')));
  EXPECT_EQ(write(*node, 4096, std::string(512, 'a')).error().os_errno(), ENOSPC);
  EXPECT_TRUE(write(*node, 4096, std::string(512, 'a')));
  Json unknown = Json::array({{{"event", "vmstate_load"}}});
  EXPECT_THAT(error_of({{"driver", "blkdebug"}, {"inject-error", unknown}, {"image", {{"driver", "null-co"}}}}), HasSubstr("'vmstate_load'"));
}

TEST_F(GraphTest, BlkdebugFailsStepsInsideOfFormats) {
  TempFile file;
  ASSERT_TRUE(finish(*loop, graph.create(*find_driver("qcow2"), file.path(), {{"size", "1048576"}})));
  Json rules = Json::array({{{"event", "cluster_alloc"}, {"errno", ENOSPC}, {"once", true}}});
  Json debug = {{"driver", "blkdebug"}, {"inject-error", rules}, {"image", {{"driver", "file"}, {"filename", file.path()}}}};
  auto node = MUST(open({{"driver", "qcow2"}, {"file", debug}}));
  EXPECT_EQ(write(*node, 0, "a").error().os_errno(), ENOSPC);
  EXPECT_TRUE(write(*node, 0, "a"));
  EXPECT_EQ(read(*node, 0, 1), "a");
}

TEST_F(GraphTest, BreakpointsHoldOneRequest) {
  TempFile file(4096);
  Json debug = {{"driver", "blkdebug"}, {"image", {{"driver", "file"}, {"filename", file.path()}}}};
  auto node = MUST(open({{"driver", "raw"}, {"file", debug}}));
  DebugPoints& points = *node->debug_points();
  ASSERT_TRUE(points.set_break("write_aio", "A"));
  EXPECT_FALSE(points.set_break("no_event", "B"));
  std::string bytes = "held";
  iovec whole{bytes.data(), bytes.size()};
  bool ended = false;
  start(node->write(0, {&whole, 1}, kNoFlags), [&](Status status) { ended = status.has_value(); });
  EXPECT_TRUE(points.is_held("A"));
  EXPECT_TRUE(write(*node, 512, "free"));
  EXPECT_FALSE(ended);
  ASSERT_TRUE(points.release("A"));
  while (!ended) loop->run_once(1'000'000);
  EXPECT_EQ(file.text(0, 4), "held");
  EXPECT_FALSE(points.remove_break("A"));
}

TEST_F(GraphTest, BlkdebugStatesChangeWithRequests) {
  TempFile config;
  config.put(0, "[set-state]\nevent = \"flush_to_disk\"\nnew_state = \"2\"\n[inject-error]\nevent = \"read_aio\"\nstate = \"2\"\nerrno = \"5\"\n");
  auto node = MUST(open_name("blkdebug:" + config.path() + ":null-co://", "raw"));
  EXPECT_NE(read(*node, 0, 1), "blkdebug: Input/output error");
  ASSERT_TRUE(finish(*loop, node->flush()));
  EXPECT_EQ(read(*node, 0, 1), "blkdebug: Input/output error");
}

TEST_F(GraphTest, BlkverifyNamesTheFirstByteThatDiffers) {
  TempFile raw(4096), test(4096);
  test.put(1000, "x");
  auto node = MUST(open({{"driver", "blkverify"}, {"raw", {{"driver", "file"}, {"filename", raw.path()}}}, {"test", {{"driver", "raw"}, {"file", {{"driver", "file"}, {"filename", test.path()}}}}}}));
  EXPECT_THAT(read(*node, 512, 1024), HasSubstr("offset 1000"));
  ASSERT_TRUE(write(*node, 1000, "y"));
  EXPECT_EQ(read(*node, 1000, 1), "y");
}

TEST_F(GraphTest, QuorumGoesWithTheMajorityAndRepairsTheRest) {
  TempFile files[3] = {TempFile(4096), TempFile(4096), TempFile(4096)};
  Json children = Json::array();
  for (TempFile& file : files) children.push_back({{"driver", "raw"}, {"file", {{"driver", "file"}, {"filename", file.path()}}}});
  auto node = MUST(open({{"driver", "quorum"}, {"vote-threshold", 2}, {"rewrite-corrupted", true}, {"children", children}}));
  ASSERT_TRUE(write(*node, 0, "good"));
  files[1].put(0, "evil");
  EXPECT_EQ(read(*node, 0, 4), "good");
  EXPECT_EQ(files[1].text(0, 4), "good");
  files[0].put(0, "evil");
  files[1].put(0, "live");
  EXPECT_THAT(read(*node, 0, 4), HasSubstr("only 1 of 3 children agree"));
}

TEST_F(GraphTest, ChildrenOfAQuorumComeAndGo) {
  TempFile files[3] = {TempFile(4096), TempFile(4096), TempFile(4096)};
  auto tree = [](const TempFile& file) { return Json{{"driver", "raw"}, {"file", {{"driver", "file"}, {"filename", file.path()}}}}; };
  auto node = MUST(open({{"driver", "quorum"}, {"vote-threshold", 1}, {"children", {tree(files[0]), tree(files[1])}}}));
  ASSERT_TRUE(node->replace_child("children.0", nullptr));
  EXPECT_FALSE(node->replace_child("children.0", nullptr));
  EXPECT_FALSE(node->replace_child("children.1", nullptr));   // the last vote
  ASSERT_TRUE(node->replace_child("", MUST(open(tree(files[2])))));
  EXPECT_EQ(node->children()[0].role, "children.1");
  EXPECT_EQ(node->children()[1].role, "children.2");
  ASSERT_TRUE(write(*node, 0, "new"));
  EXPECT_EQ(files[0].text(0, 3), std::string(3, '\0'));
  EXPECT_EQ(files[2].text(0, 3), "new");
}

TEST_F(GraphTest, NamesInJsonMayHaveSingleQuotes) {
  auto node = MUST(open_name("json:{'driver': 'null-co', 'size': 512, 'read-zeroes': true}", ""));
  EXPECT_EQ(node->size_bytes(), 512u);
}

TEST_F(GraphTest, NamesSayWhatANodeIs) {
  TempFile a, b;
  ASSERT_TRUE(create("qcow2", a.path(), {{"size", "65536"}}));
  ASSERT_TRUE(create("qcow2", b.path(), {{"size", "65536"}, {"backing_file", a.path()}, {"backing_fmt", "qcow2"}}));
  EXPECT_EQ(graph.name_of(*MUST(open_name(b.path(), "qcow2"))), b.path());
  Json file = {{"driver", "file"}, {"filename", a.path()}};
  EXPECT_EQ(graph.name_of(*MUST(open({{"driver", "raw"}, {"offset", 512}, {"file", file}}))),
            "json:{\"offset\": 512, \"driver\": \"raw\", \"file\": {\"driver\": \"file\", \"filename\": \"" + a.path() + "\"}}");
  EXPECT_THAT(graph.name_of(*MUST(open({{"driver", "qcow2"}, {"file", {{"driver", "file"}, {"filename", b.path()}}}, {"backing", nullptr}}))),
              HasSubstr("\"backing\": null"));
  EXPECT_EQ(graph.name_of(*MUST(open({{"driver", "raw"}, {"file", {{"driver", "blkdebug"}, {"image", file}}}}))), "blkdebug::" + a.path());
}

TEST_F(GraphTest, OptionsOfABackingFileNeedNoName) {
  TempFile a, b;
  ASSERT_TRUE(create("qcow2", a.path(), {{"size", "65536"}}));
  ASSERT_TRUE(create("qcow2", b.path(), {{"size", "65536"}, {"backing_file", a.path()}, {"backing_fmt", "qcow2"}}));
  auto top = MUST(open({{"driver", "qcow2"}, {"file.driver", "file"}, {"file.filename", b.path()}, {"backing.node-name", "below"}}));
  NodePtr below = graph.find("below");
  ASSERT_TRUE(below);
  EXPECT_EQ(graph.name_of(*below), a.path());
}

}  // namespace
}  // namespace atl::block
