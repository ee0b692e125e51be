// A hostile qcow2 image in memory: opened, read, checked; then written, discarded, repaired and its lists walked.
#include "block/format/qcow2/qcow2.h"

#include "block/image.h"
#include "block/test_support.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using fuzz::loop;

constexpr u64 kLimit = 4 * kMiB;

struct Opened {
  block::MemoryNode file, data;
  block::NodePtr node;

  Opened(const std::string& image, bool readonly, bool for_check) : file(image, kLimit), data({}, kLimit) {
    auto borrowed = [](block::Node& node_of_ours) { return block::NodePtr(&node_of_ours, [](block::Node*) {}); };
    block::qcow2::Options options;
    options.readonly = readonly;
    options.for_check = for_check;
    auto opened = block::finish(loop(), block::open_qcow2(loop(), borrowed(file), borrowed(data), nullptr, options, ""));
    if (opened) node = std::move(*opened);
  }
};

void read_some(block::Node& node) {
  const u64 size = std::min<u64>(node.size_bytes(), 256 * kKiB);
  std::string bytes(size, '\0');
  iovec v{bytes.data(), bytes.size()};
  (void)block::finish(loop(), node.read(0, {&v, 1}));
  (void)block::finish(loop(), node.read(node.size_bytes() - size, {&v, 1}));
  if (size) (void)block::finish(loop(), node.block_status(0, size));
}

void walk_lists(block::Image& image) {
  auto snapshots = block::finish(loop(), image.snapshots());
  if (snapshots && !snapshots->empty()) {
    auto view = block::finish(loop(), image.open_snapshot(snapshots->front().id));
    if (view) read_some(**view);
  }
  (void)block::finish(loop(), image.bitmaps());
  (void)block::finish(loop(), image.check(block::Repair::None, nullptr));
}

void write_some(block::Node& node, u64 place, u32 flags) {
  if (node.size_bytes() < 512) return;
  const u64 offset = place % (node.size_bytes() - 100);
  std::string bytes(100, 'w');
  iovec v{bytes.data(), bytes.size()};
  (void)block::finish(loop(), node.write(offset, {&v, 1}, block::kFua));
  const u64 length = std::min<u64>(node.size_bytes() - offset, 128 * kKiB);
  (void)block::finish(loop(), node.write_zeroes(offset, length, flags));
  (void)block::finish(loop(), node.discard(offset, length));
  (void)block::finish(loop(), node.flush());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const u64 place = data[0] * u64{997} + data[1];
  std::string image(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (Opened opened(image, true, false); opened.node) {
    read_some(*opened.node);
    walk_lists(*opened.node->image());
  }
  if (Opened opened(image, false, false); opened.node) {
    write_some(*opened.node, place, data[0] & 1);
    (void)block::finish(loop(), opened.node->image()->create_snapshot({}));
    (void)block::finish(loop(), opened.node->close());
  }
  if (Opened opened(image, false, true); opened.node) {
    (void)block::finish(loop(), opened.node->image()->check(block::Repair::All, nullptr));
    read_some(*opened.node);
  }
  return 0;
}
