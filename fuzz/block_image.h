// A hostile disk image in memory: opened, asked, read, then written, zeroed, checked and flushed.
#pragma once

#include "block/driver.h"
#include "block/format/formats.h"
#include "block/test_support.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace atl::fuzz {

inline constexpr u64 kImageLimit = 16 * kMiB;  // that a file may grow to

inline void read_some(block::Node& node, u64 offset, u64 most) {
  if (offset >= node.size_bytes()) return;
  std::string bytes(std::min(node.size_bytes() - offset, most), '\0');
  iovec v{bytes.data(), bytes.size()};
  (void)block::finish(loop(), node.read(offset, {&v, 1}));
  (void)block::finish(loop(), node.block_status(offset, bytes.size()));
}

inline void write_some(block::Node& node, u64 offset) {
  std::string bytes(std::min<u64>(node.size_bytes() - offset, 1000), 'w');
  iovec v{bytes.data(), bytes.size()};
  (void)block::finish(loop(), node.write(offset, {&v, 1}, block::kFua));
  const u64 length = std::min<u64>(node.size_bytes() - offset, 128 * kKiB);
  (void)block::finish(loop(), node.write_zeroes(offset, length, block::kMayUnmap));
  (void)block::finish(loop(), node.discard(offset, length));
  (void)block::finish(loop(), node.flush());
}

/// `open` takes a file and options and gives a task of a node.
template <class Open>
void try_image(const std::string& image, u64 place, Open open) {
  for (bool readonly : {true, false}) {
    auto file = std::make_shared<block::MemoryNode>(image, kImageLimit);
    auto node = block::finish(loop(), open(block::NodePtr(file), block::MappedOptions{"fuzz", readonly, true}));
    if (!node || (*node)->size_bytes() < 512) continue;
    read_some(**node, 0, 256 * kKiB);
    read_some(**node, place % (*node)->size_bytes(), 64 * kKiB);
    if (block::Image* extra = (*node)->image(); extra && (*node)->size_bytes() < kGiB) {
      (void)extra->specific_info();
      (void)block::finish(loop(), extra->check(block::Repair::None, nullptr));
    }
    if (!readonly) write_some(**node, place % (*node)->size_bytes());
  }
}

/// The usual target: two bytes choose a place, the rest is the image.
template <class Open>
int try_bytes(const u8* data, size_t size, Open open) {
  if (size < 4) return 0;
  const u64 place = data[0] * u64{65537} + data[1] * u64{509};
  try_image(std::string(reinterpret_cast<const char*>(data) + 2, size - 2), place, open);
  return 0;
}

/// An image that `driver` makes, for formats whose smallest one is too large to be a seed.
inline std::string make_image(const char* driver, block::Json options) {
  block::Graph graph(loop());
  graph.add_secret("s", "secret");
  auto file = std::make_shared<block::MemoryNode>("", kImageLimit);
  Status status = block::finish(loop(), block::find_driver(driver)->create(graph, file, "fuzz", std::move(options)));
  CHECK(status.has_value());
  return file->bytes;
}

}  // namespace atl::fuzz
