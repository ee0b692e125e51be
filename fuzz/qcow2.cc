// A hostile qcow2 image in memory: opened, read, then written, discarded and flushed.
#include "block/format/qcow2.h"

#include "block/test_support.h"

namespace {

using namespace atl;

Loop& loop() {
  static auto* shared = MUST(Loop::create(8)).release();  // nothing here waits for it; a node needs one to belong to
  return *shared;
}

std::unique_ptr<block::Node> open(const std::string& image, bool readonly) {
  auto node = block::finish(loop(), block::open_qcow2_node(std::make_unique<block::MemoryNode>(image, 4 * kMiB),
                                                           nullptr, {.readonly = readonly}));
  return node ? std::move(*node) : nullptr;
}

void read_some(block::Node& node) {
  std::string bytes(std::min<u64>(node.size_bytes(), 256 * kKiB), '\0');
  iovec v{bytes.data(), bytes.size()};
  (void)block::finish(loop(), node.read(0, {&v, 1}));
  (void)block::finish(loop(), node.read(node.size_bytes() - bytes.size(), {&v, 1}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const u64 place = data[0] * u64{997} + data[1];
  std::string image(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (auto node = open(image, true)) read_some(*node);
  auto node = open(image, false);
  if (!node || node->size_bytes() < 512) return 0;
  u64 offset = place % (node->size_bytes() - 100);
  std::string bytes(100, 'w');
  iovec v{bytes.data(), bytes.size()};
  if (block::finish(loop(), node->write(offset, {&v, 1}, block::kFua))) {
    std::string back(100, '?');
    iovec in{back.data(), back.size()};
    (void)block::finish(loop(), node->read(offset, {&in, 1}));
  }
  u64 length = std::min<u64>(node->size_bytes() - offset, 128 * kKiB);
  (void)block::finish(loop(), node->write_zeroes(offset, length, data[0] & 1));
  (void)block::finish(loop(), node->discard(offset, length));
  (void)block::finish(loop(), node->flush());
  return 0;
}
