// Power cuts: every write and flush that the driver issues is recorded, and what a disk could be left with at any moment is
// put together again. The image must open, repair, and hold all that had been flushed.
#include <algorithm>

#include "block/format/qcow2/test_support.h"
#include "block/image.h"

namespace atl::block {
namespace {

/// What was done to the file, in order.
struct Event {
  enum Kind : u8 { Write, Resize, Flush } kind = Write;
  u64 offset = 0;      // Resize: the new size
  std::string bytes;
};

/// A disk that keeps a diary.
class Recorder final : public Node {
 public:
  explicit Recorder(MemoryNode& below) : below_(below) {}
  std::vector<Event> events;

  NodeInfo info() const override { return below_.info(); }
  u64 size_bytes() const override { return below_.size_bytes(); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override { return below_.read(offset, out); }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    std::string bytes;
    for (const iovec& part : data) bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
    events.push_back({Event::Write, offset, std::move(bytes)});
    return below_.write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    events.push_back({Event::Write, offset, std::string(size, '\0')});
    return below_.write_zeroes(offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override { return write_zeroes(offset, size, 0); }
  Task<Status> resize(u64 size, Preallocation how) override {
    events.push_back({Event::Resize, size, {}});
    return below_.resize(size, how);
  }
  Task<Status> flush() override {
    events.push_back({Event::Flush, 0, {}});
    return below_.flush();
  }

 private:
  MemoryNode& below_;
};

void replay(std::string& disk, const Event& event) {
  if (event.kind == Event::Resize) disk.resize(std::max(disk.size(), event.offset));
  if (event.kind != Event::Write) return;
  if (disk.size() < event.offset + event.bytes.size()) disk.resize(event.offset + event.bytes.size());
  disk.replace(event.offset, event.bytes.size(), event.bytes);
}

/// Some sectors of a write.
Event torn(const Event& event, const std::string& disk, std::mt19937& random) {
  Event part = event;
  for (u64 at = 0; at < part.bytes.size(); at += 512) {
    if (random() % 2) continue;
    const u64 n = std::min<u64>(512, part.bytes.size() - at);
    std::string old = disk.substr(std::min<u64>(disk.size(), event.offset + at), n);
    old.resize(n);
    part.bytes.replace(at, n, old);
  }
  return part;
}

/// The disk's content at some moment when all of it had been flushed.
struct Flushed {
  size_t event = 0;    // events before it
  std::string disk;
};

struct Shape {
  const char* name;
  Qcow2CreateOptions options;
  bool snapshots = false;
};
void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

class PowerCut : public Qcow2Test, public testing::WithParamInterface<Shape> {
 protected:
  static constexpr u64 kSize = 256 * kKiB;
  std::mt19937 random{11};
  std::string model = std::string(kSize, '\0'), begin;
  std::vector<Flushed> flushed;
  std::vector<std::pair<size_t, std::pair<u64, u64>>> touched;   // by the event before which it began: what was written

  void one_request(Node& node, Recorder& recorder) {
    const u64 cluster = header().geometry.cluster_bytes();
    u64 offset = random() % kSize, size = std::min<u64>(1 + random() % 20000, kSize - offset);
    const u32 what = random() % 8;
    if (what == 0) {
      offset = align_down(offset, cluster);
      size = std::min(align_up(size, cluster), kSize - offset);
    }
    touched.push_back({recorder.events.size(), {offset, size}});
    Status status;
    if (what == 0) {
      std::string bytes(size, static_cast<char>(random()));
      status = write_compressed(node, offset, bytes);
      model.replace(offset, size, bytes);
    } else if (what == 1) {
      status = finish(*loop, node.write_zeroes(offset, size, kMayUnmap));
      model.replace(offset, size, size, '\0');
    } else if (what == 2) {
      status = finish(*loop, node.discard(offset, size));
      model = read(node, 0, kSize);
    } else {
      std::string bytes(size, static_cast<char>(random()));
      status = write(node, offset, bytes);
      model.replace(offset, size, bytes);
    }
    ASSERT_TRUE(status) << status.error().text();
  }

  /// Fills `recorder` and what was flushed when.
  void work(Recorder& recorder) {
    NodePtr node = MUST(finish(*loop, open_qcow2(*loop, borrowed(recorder), nullptr, nullptr, {}, "")));
    flushed.push_back({0, model});
    for (int i = 0; i < 60; ++i) {
      one_request(*node, recorder);
      if (random() % 5) continue;
      ASSERT_TRUE(finish(*loop, node->flush()));
      flushed.push_back({recorder.events.size(), model});
      if (GetParam().snapshots && random() % 2) {
        SnapshotInfo info;
        ASSERT_TRUE(finish(*loop, node->image()->create_snapshot(info)));
      }
    }
    ASSERT_TRUE(finish(*loop, node->close()));
    flushed.push_back({recorder.events.size(), model});
  }

  /// What the file may be after the first `count` events: all that was flushed, and of the rest something.
  std::string left_behind(const std::vector<Event>& events, size_t count, u32 seed) {
    std::mt19937 dice(seed);
    size_t safe = count;
    while (safe > 0 && events[safe - 1].kind != Event::Flush) --safe;
    std::string disk = begin;
    for (size_t i = 0; i < safe; ++i) replay(disk, events[i]);
    std::vector<const Event*> rest;
    for (size_t i = safe; i < count; ++i) rest.push_back(&events[i]);
    std::shuffle(rest.begin(), rest.end(), dice);
    for (const Event* event : rest) {
      const u32 fate = dice() % 4;
      if (fate == 0) continue;
      replay(disk, fate == 1 ? torn(*event, disk, dice) : *event);
    }
    return disk;
  }

  void expect_flushed(const std::string& now, size_t count) {
    const Flushed* last = &flushed.front();
    for (const Flushed& moment : flushed)
      if (moment.event <= count) last = &moment;
    std::string expected = last->disk, found = now;
    // Requests that began since may have done anything to their bytes; and those before the moment, nothing more.
    for (auto& [event, range] : touched) {
      if (event < last->event || event > count) continue;
      expected.replace(range.first, range.second, range.second, '?');
      found.replace(range.first, range.second, range.second, '?');
    }
    ASSERT_TRUE(found == expected);
  }

  void check_after_cut(const std::vector<Event>& events, size_t count, u32 seed) {
    SCOPED_TRACE(fmt::format("power cut after {} of {} events, seed {}", count, events.size(), seed));
    file.bytes = left_behind(events, count, seed);
    {
      auto node = open(readonly());
      ASSERT_TRUE(node) << node.error().text();
      expect_flushed(read(**node, 0, kSize), count);
      auto found = finish(*loop, (*node)->image()->check(Repair::None, nullptr));
      ASSERT_TRUE(found);
      // Damage is repaired when the image is opened only if it says that it is dirty.
      if (!GetParam().options.lazy_refcounts && !GetParam().snapshots) {
        ASSERT_EQ(found->corruptions, 0u) << found->messages[0];
      }
    }
    qcow2::Options for_check;
    for_check.for_check = true;
    auto node = open(for_check);
    ASSERT_TRUE(node) << node.error().text();
    auto report = finish(*loop, (*node)->image()->check(Repair::All, nullptr));
    ASSERT_TRUE(report) << report.error().text();
    ASSERT_EQ(report->corruptions + report->leaks + report->check_errors, 0u) << report->messages.back();
    if (!GetParam().snapshots) {
      ASSERT_EQ(check_refcounts(), "");
    }
    expect_flushed(read(**node, 0, kSize), count);
    ASSERT_TRUE(write(**node, 5, "after"));
    ASSERT_TRUE(finish(*loop, (*node)->close()));
  }
};

TEST_P(PowerCut, LosesNothingThatWasFlushed) {
  create([] {
    Qcow2CreateOptions options = GetParam().options;
    options.size_bytes = kSize;
    return options;
  }());
  begin = file.bytes;
  Recorder recorder(file);
  work(recorder);
  if (HasFatalFailure()) return;
  const std::vector<Event> events = recorder.events;
  for (size_t count = 0; count <= events.size(); ++count)
    for (u32 seed = 0; seed < 2 && !HasFatalFailure(); ++seed) check_after_cut(events, count, 1000 * seed + static_cast<u32>(count));
}

Qcow2CreateOptions shape(u32 cluster_bits, bool lazy = false, bool extended = false, u32 version = 3) {
  Qcow2CreateOptions options;
  options.cluster_bits = cluster_bits;
  options.lazy_refcounts = lazy;
  options.extended_l2 = extended;
  options.version = version;
  return options;
}

INSTANTIATE_TEST_SUITE_P(Shapes, PowerCut,
                         testing::Values(Shape{"cluster_512", shape(9)}, Shape{"cluster_4k", shape(12)},
                                         Shape{"version_2", shape(12, false, false, 2)}, Shape{"lazy", shape(12, true)},
                                         Shape{"extended", shape(14, false, true)}, Shape{"snapshots", shape(12), true}),
                         [](auto& param) { return param.param.name; });

}  // namespace
}  // namespace atl::block
