// A driver that puts anything into descriptors, headers and rings of a block device. The disk is a null node, so that
// the loop never waits for the host.
//
// Input: one byte of options (packed ring, indirect, event index, read-only), then steps: a byte that says how many
// descriptors follow, 8 bytes a descriptor, and at the end raw bytes for the guest's memory.
#include "devices/storage/virtio_blk.h"

#include <algorithm>
#include <cstring>

#include "block/node.h"
#include "devices/virtio/test_driver.h"
#include "fuzz_input.h"
#include "shared_loop.h"

namespace {

using namespace atl;
using namespace atl::devices;
using fuzz::loop;

constexpr u64 kRam = 256 * kKiB;

/// 2 bytes each: address (mostly inside RAM), size, flags and size's scale.
std::vector<TestBuffer> take_buffers(fuzz::Input& in, size_t count) {
  std::vector<TestBuffer> buffers;
  for (size_t i = 0; i < count; ++i) {
    u64 address = u64{in.word()} * 4;
    u32 size = in.word();
    u8 flags = in.byte();
    if (flags & 2) size = flags & 4 ? 16 : flags & 8 ? 1 : 512;
    if (flags & 64) address |= u64{flags} << 32;
    buffers.push_back({address, size, (flags & 1) != 0});
  }
  return buffers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  u8 options = in.byte();
  TestGuest guest(kRam);
  auto disk = block::make_null_node(loop(), {.size = 64 * kKiB});
  VirtioBlk blk({.queues = 2, .queue_size = 16, .readonly = (options & 8) != 0}, *disk, loop(), guest.space());
  TestDriver driver(guest, blk);
  u64 features = blk.features() & ~virtio::kRingFeatures;
  if (options & 1) features |= virtio::kFeaturePacked;
  if (options & 2) features |= virtio::kFeatureIndirect;
  if (options & 4) features |= virtio::kFeatureEventIdx;
  driver.start(features, 16);
  if (options & 16) {  // raw bytes over the rings themselves
    const auto tail = in.rest().last(std::min<size_t>(in.rest().size() / 2, 4096));
    std::copy(tail.begin(), tail.end(), guest.at(TestGuest::kFirst));
  }
  for (int step = 0; step < 32 && !in.empty(); ++step) {
    u8 shape = in.byte();
    size_t count = 1 + shape % 7;
    std::vector<TestBuffer> buffers = take_buffers(in, count);
    // A header that often makes sense, at the place where the first descriptor points.
    if (shape & 0x40 && !buffers.empty() && buffers[0].address + 16 <= kRam) {
      virtio_blk::Header header{in.byte() % 16u, 0, in.byte()};
      std::memcpy(guest.at(buffers[0].address), &header, sizeof header);
    }
    driver.queue(shape >> 7).add(buffers);
    driver.kick(shape >> 7);
  }
  driver.stop();
  return 0;
}
