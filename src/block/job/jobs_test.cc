// Jobs on real images while somebody writes.
#include "block/job/jobs.h"

#include <gmock/gmock.h>

#include <random>

#include "block/test_support.h"

namespace atl::block {
namespace {

constexpr u64 kDiskBytes = 8 * kMiB;

class JobsTest : public testing::Test {
 protected:
  NodePtr make_qcow2(const TempFile& file, const std::string& backing = {}, bool readonly = false) {
    Json options = {{"size", std::to_string(kDiskBytes)}};
    if (!backing.empty()) {
      options["backing_file"] = backing;
      options["backing_fmt"] = "qcow2";
    }
    Status created = finish(*loop, graph.create(*find_driver("qcow2"), file.path(), std::move(options)));
    CHECK(created.has_value());
    return open(file, readonly);
  }
  NodePtr open(const TempFile& file, bool readonly = false) {
    OpenMode mode;
    mode.readonly = readonly;
    mode.discard = true;
    return MUST(finish(*loop, graph.open_name(file.path(), "qcow2", mode)));
  }
  void put(Node& node, u64 offset, u64 bytes, char value) {
    std::string data(bytes, value);
    iovec whole{data.data(), data.size()};
    Status status = finish(*loop, node.write(offset, {&whole, 1}, kNoFlags));
    ASSERT_TRUE(status) << status.error().text();
    model.replace(offset, bytes, data);
  }
  std::string content(Node& node) {
    std::string bytes(node.size_bytes(), '?');
    iovec whole{bytes.data(), bytes.size()};
    Status status = finish(*loop, node.read(0, {&whole, 1}));
    return status ? bytes : status.error().text();
  }
  /// Random writes of up to 100 KiB.
  void scribble(Node& node, int times) {
    for (int i = 0; i < times; ++i) {
      u64 offset = random() % kDiskBytes;
      put(node, offset, std::min(random() % (100 * kKiB) + 1, kDiskBytes - offset), static_cast<char>('a' + random() % 26));
    }
  }
  JobOptions options(const char* id) {
    JobOptions o;
    o.id = id;
    return o;
  }
  static std::string error_text(const JobEvent& event) {
    static constexpr const char* kActions[] = {"report", "ignore", "stop"};
    return std::string(event.is_read ? "read " : "write ") + kActions[static_cast<size_t>(event.action)];
  }
  /// A raw image whose requests fail by a rule.
  NodePtr failing(const TempFile& file, Json rule) {
    Json debug = {{"driver", "blkdebug"}, {"inject-error", Json::array({std::move(rule)})},
                  {"image", {{"driver", "file"}, {"filename", file.path()}}}};
    return MUST(finish(*loop, graph.open({{"driver", "raw"}, {"file", debug}}, OpenMode{})));
  }
  void begin(std::shared_ptr<Job> job) {
    Job::Listener listener = [this](const JobEvent& event) {
      if (event.kind == JobEvent::StatusChange) states.push_back(job_state_name(event.job.state));
      else if (event.kind == JobEvent::Completed) outcome = event.job.error.empty() ? "completed" : event.job.error;
      else if (event.kind == JobEvent::Cancelled) outcome = "cancelled";
      else if (event.kind == JobEvent::IoError) errors.push_back(error_text(event));
    };
    Status added = finish(*loop, jobs.add(graph, std::move(job), std::move(listener)));
    ASSERT_TRUE(added) << added.error().text();
  }
  void wait_for(JobState state, const char* id) {
    for (auto job = jobs.find(id); job && job->info().state != state && !job->is_over();) loop->run_once(10'000'000);
  }
  void wait_for_end() {
    while (outcome.empty()) loop->run_once(10'000'000);
    for (int i = 0; i < 5; ++i) loop->run_once(0);
    jobs.reap();
  }

  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create()); }  // io_uring works where the tests run

  std::unique_ptr<Loop> loop = make_loop();
  Graph graph{*loop};
  Jobs jobs;
  std::mt19937_64 random{7};
  std::string model = std::string(kDiskBytes, '\0');
  std::vector<std::string> states;
  std::vector<std::string> errors;   // "write stop"
  std::string outcome;
};

TEST_F(JobsTest, CopySkipsHolesAndFindsZeroes) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  scribble(*source, 20);
  put(*source, kMiB, 512 * kKiB, '\0');
  CopyOptions copy;
  copy.source = source.get();
  copy.target = target.get();
  copy.bytes = kDiskBytes;
  copy.target_is_zero = true;
  auto result = finish(*loop, copy_range(*loop, copy));
  ASSERT_TRUE(result) << result.error().text();
  EXPECT_EQ(content(*target), model);
  EXPECT_GE(result->zero_bytes, 512 * kKiB);
  EXPECT_EQ(result->zero_bytes + result->data_bytes, kDiskBytes);
}

TEST_F(JobsTest, CopyStopsWhenAsked) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  put(*source, 0, 4 * kMiB, 'x');
  CopyOptions copy;
  copy.source = source.get();
  copy.target = target.get();
  copy.bytes = kDiskBytes;
  copy.chunk_bytes = 64 * kKiB;
  copy.progress = [](u64 done, u64) { return done < kMiB; };
  auto result = finish(*loop, copy_range(*loop, copy));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::Cancelled);
}

TEST_F(JobsTest, SalvageGoesOnBehindABadSector) {
  TempFile a(kMiB), b(kMiB);
  a.put(0, std::string(kMiB, 'x'));
  Json rules = Json::array({{{"event", "none"}, {"iotype", "read"}, {"errno", EIO}, {"sector", 100}}});
  Json tree = {{"driver", "blkdebug"}, {"inject-error", rules}, {"image", {{"driver", "file"}, {"filename", a.path()}}}};
  NodePtr source = MUST(finish(*loop, graph.open(tree, OpenMode{})));
  NodePtr target = MUST(finish(*loop, graph.open_name(b.path(), "raw", OpenMode{})));
  CopyOptions copy;
  copy.source = source.get();
  copy.target = target.get();
  copy.bytes = kMiB;
  EXPECT_FALSE(finish(*loop, copy_range(*loop, copy)));
  copy.salvage = true;
  std::vector<u64> bad;
  copy.on_salvaged = [&](u64 offset, u64, const Error&) { bad.push_back(offset); };
  ASSERT_TRUE(finish(*loop, copy_range(*loop, copy)));
  EXPECT_THAT(bad, testing::ElementsAre(51200));
  EXPECT_EQ(b.text(51200, 512), std::string(512, '\0'));
  EXPECT_EQ(b.text(51712, 512), std::string(512, 'x'));
}

TEST_F(JobsTest, MirrorFollowsWritesAndTakesThePlace) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  Root root(graph, source);
  scribble(root, 20);
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  begin(MUST(make_mirror_job(graph, "d", options("m"), mirror)));
  scribble(root, 10);
  wait_for(JobState::Ready, "m");
  scribble(root, 10);
  ASSERT_TRUE(jobs.find("m")->complete());
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_EQ(root.node(), target);
  EXPECT_EQ(content(root), model);
  EXPECT_THAT(states, testing::ElementsAre("created", "running", "ready", "waiting", "pending", "concluded", "null"));
}

TEST_F(JobsTest, CancelledReadyMirrorLeavesTheSourceInPlace) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  Root root(graph, source);
  scribble(root, 10);
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  begin(MUST(make_mirror_job(graph, "d", options("m"), mirror)));
  wait_for(JobState::Ready, "m");
  ASSERT_TRUE(jobs.find("m")->cancel(false));
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_EQ(root.node(), source);
  EXPECT_EQ(content(*target), model);
}

TEST_F(JobsTest, BackupIsOfTheMomentItStarted) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  Root root(graph, source);
  scribble(root, 20);
  const std::string before = model;
  BackupOptions backup;
  backup.source = source;
  backup.target = target;
  JobOptions slow = options("b");
  slow.speed = 4 * kMiB;
  begin(MUST(make_backup_job(graph, "d", slow, backup)));
  scribble(root, 20);
  ASSERT_TRUE(jobs.find("b")->set_speed(0));
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_EQ(content(*target), before);
  EXPECT_EQ(content(root), model);
}

TEST_F(JobsTest, IncrementalBackupCopiesWhatTheBitmapSays) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  Root root(graph, source);
  put(root, 0, 64 * kKiB, 'a');
  auto bitmap = std::make_shared<DirtyBitmap>("inc", kDiskBytes, 65536);
  Observation watch(graph, *source, *bitmap);
  put(root, 2 * kMiB, 100, 'b');
  BackupOptions backup;
  backup.source = source;
  backup.target = target;
  backup.sync = SyncMode::Incremental;
  backup.bitmap = bitmap;
  begin(MUST(make_backup_job(graph, "d", options("b"), backup)));
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_TRUE(bitmap->is_clean());
  std::string expected(kDiskBytes, '\0');
  expected.replace(2 * kMiB, 100, std::string(100, 'b'));
  EXPECT_EQ(content(*target), expected);
}

TEST_F(JobsTest, StreamMakesTheImageStandAlone) {
  TempFile a, b;
  put(*make_qcow2(a), 0, kDiskBytes / 2, 'a');
  NodePtr top = make_qcow2(b, a.path());
  Root root(graph, top);
  scribble(root, 5);
  StreamOptions stream;
  stream.top = top;
  begin(MUST(make_stream_job(graph, "d", options("s"), stream)));
  scribble(root, 10);
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_EQ(backing_of(*top), nullptr);
  EXPECT_EQ(top->image()->backing_file(), "");
  EXPECT_EQ(content(root), model);
}

TEST_F(JobsTest, ActiveCommitEndsOnTheBase) {
  TempFile a, b;
  put(*make_qcow2(a), 0, kMiB, 'a');
  NodePtr top = make_qcow2(b, a.path());
  Root root(graph, top);
  scribble(root, 10);
  CommitOptions commit;
  commit.active = commit.top = top;
  commit.base = backing_of(*top);
  begin(MUST(make_commit_job(graph, "d", options("c"), commit)));
  scribble(root, 5);
  wait_for(JobState::Ready, "c");
  scribble(root, 5);
  ASSERT_TRUE(jobs.find("c")->complete());
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_EQ(root.node(), commit.base);
  EXPECT_EQ(content(root), model);
  scribble(root, 5);
  EXPECT_EQ(content(root), model);
}

TEST_F(JobsTest, CommitOfTheMiddleShortensTheChain) {
  TempFile a, b, c;
  put(*make_qcow2(a), 0, kMiB, 'a');
  put(*make_qcow2(b, a.path()), 512 * kKiB, kMiB, 'b');
  NodePtr top = make_qcow2(c, b.path());
  Root root(graph, top);
  scribble(root, 5);
  CommitOptions commit;
  commit.active = top;
  commit.top = backing_of(*top);
  commit.base = backing_of(*commit.top);
  begin(MUST(make_commit_job(graph, "d", options("c"), commit)));
  scribble(root, 5);
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_EQ(backing_of(*top), commit.base);
  EXPECT_EQ(top->image()->backing_file(), a.path());
  EXPECT_EQ(content(root), model);
}

TEST_F(JobsTest, PausedJobWaitsAndCancelledJobGoes) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  put(*source, 0, 4 * kMiB, 'x');
  BackupOptions backup;
  backup.source = source;
  backup.target = target;
  JobOptions slow = options("b");
  slow.speed = 1;
  begin(MUST(make_backup_job(graph, "d", slow, backup)));
  ASSERT_TRUE(jobs.find("b")->pause());
  EXPECT_FALSE(jobs.find("b")->pause());
  EXPECT_FALSE(jobs.find("b")->complete());
  ASSERT_TRUE(jobs.find("b")->cancel(false));
  wait_for_end();
  EXPECT_EQ(outcome, "cancelled");
  EXPECT_EQ(jobs.find("b"), nullptr);
}

TEST_F(JobsTest, AJobThatStopsOnAnErrorTriesAgainWhenResumed) {
  TempFile a, b(kDiskBytes);
  NodePtr source = make_qcow2(a);
  scribble(*source, 20);
  BackupOptions backup;
  backup.source = source;
  backup.target = failing(b, {{"event", "write_aio"}, {"errno", ENOSPC}, {"once", true}});
  JobOptions stops = options("b");
  stops.on_target_error = ErrorPolicy::StopOnNoSpace;
  begin(MUST(make_backup_job(graph, "d", stops, backup)));
  wait_for(JobState::Paused, "b");
  EXPECT_EQ(jobs.find("b")->info().io_status, JobInfo::IoStatus::NoSpace);
  ASSERT_TRUE(jobs.find("b")->resume());
  wait_for_end();
  EXPECT_EQ(outcome, "completed");
  EXPECT_THAT(errors, testing::ElementsAre("write stop"));
  EXPECT_EQ(content(*backup.target), model);
}

TEST_F(JobsTest, AJobThatReportsEndsWithTheError) {
  TempFile a, b(kDiskBytes);
  NodePtr source = make_qcow2(a);
  scribble(*source, 20);
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = failing(b, {{"event", "write_aio"}, {"errno", EIO}});
  begin(MUST(make_mirror_job(graph, "d", options("m"), mirror)));
  wait_for_end();
  EXPECT_EQ(outcome, "Input/output error");
  EXPECT_EQ(errors.at(0), "write report");
}

TEST_F(JobsTest, AStreamThatIgnoresErrorsGoesOnButFails) {
  TempFile a, b;
  put(*make_qcow2(a), 0, 2 * kMiB, 'a');
  Json rule = {{"event", "read_aio"}, {"errno", EIO}, {"once", true}};
  Json debug = {{"driver", "blkdebug"}, {"inject-error", Json::array({rule})}, {"image", {{"driver", "file"}, {"filename", a.path()}}}};
  make_qcow2(b, a.path());
  Json tree = {{"driver", "qcow2"}, {"file", {{"driver", "file"}, {"filename", b.path()}}}, {"backing", {{"driver", "qcow2"}, {"file", debug}}}};
  StreamOptions stream;
  stream.top = MUST(finish(*loop, graph.open(tree, OpenMode{})));
  JobOptions ignores = options("s");
  ignores.on_source_error = ErrorPolicy::Ignore;
  begin(MUST(make_stream_job(graph, "d", ignores, stream)));
  wait_for_end();
  EXPECT_EQ(outcome, "Input/output error");
  EXPECT_THAT(errors, testing::ElementsAre("read ignore"));
  EXPECT_NE(backing_of(*stream.top), nullptr);
}

TEST_F(JobsTest, AWriteBlockingMirrorHasEachWriteBeforeItCompletes) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  Root root(graph, source);
  scribble(root, 10);
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  mirror.write_blocking = true;
  begin(MUST(make_mirror_job(graph, "d", options("m"), mirror)));
  wait_for(JobState::Ready, "m");
  scribble(root, 10);
  EXPECT_EQ(content(*target), model);
  ASSERT_TRUE(jobs.find("m")->complete());
  wait_for_end();
  EXPECT_EQ(root.node(), target);
  EXPECT_EQ(content(root), model);
}

TEST_F(JobsTest, NodesWorkForOneJobAtATime) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  begin(MUST(make_mirror_job(graph, "d", options("m"), mirror)));
  auto second = MUST(make_mirror_job(graph, "d", options("n"), mirror));
  EXPECT_FALSE(finish(*loop, jobs.add(graph, second, nullptr)));
  ASSERT_TRUE(jobs.find("m")->cancel(true));
  wait_for_end();
}

TEST_F(JobsTest, FilterStandsAboveTheSourceWhileTheJobRuns) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  put(*source, 0, kMiB, 'x');
  Root root(graph, source);
  JobOptions job = options("m");
  job.filter_name = "above";
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  mirror.target_is_zero = true;
  begin(MUST(make_mirror_job(graph, "disk", job, mirror)));
  EXPECT_EQ(root.info().node_name, "above");
  EXPECT_EQ(below_filters(root.node()), source);
  wait_for(JobState::Ready, "m");
  put(root, 2 * kMiB, kMiB, 'y');   // seen through the filter
  ASSERT_TRUE(jobs.find("m")->complete());
  wait_for_end();
  EXPECT_EQ(root.node(), target);
  EXPECT_EQ(content(*target), model);
  EXPECT_FALSE(graph.find("above"));
}

TEST_F(JobsTest, MirrorCountsOnlyWhatIsCopied) {
  TempFile a, b;
  NodePtr source = make_qcow2(a), target = make_qcow2(b);
  put(*source, 0, kMiB, 'x');
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  mirror.target_is_zero = true;
  begin(MUST(make_mirror_job(graph, "disk", options("m"), mirror)));
  wait_for(JobState::Ready, "m");
  EXPECT_EQ(jobs.find("m")->info().total, kMiB);
  ASSERT_TRUE(jobs.find("m")->cancel(false));
  wait_for_end();
}

TEST_F(JobsTest, MirrorToADiskOfAnotherSizeFails) {
  TempFile a, b(kMiB);
  NodePtr source = make_qcow2(a);
  NodePtr target = MUST(finish(*loop, graph.open_name(b.path(), "raw", OpenMode{})));
  MirrorOptions mirror;
  mirror.source = source;
  mirror.target = target;
  begin(MUST(make_mirror_job(graph, "disk", options("m"), mirror)));
  wait_for_end();
  EXPECT_EQ(outcome, "Source and target image have different sizes");
}

}  // namespace
}  // namespace atl::block
