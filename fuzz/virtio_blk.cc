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

namespace {

using namespace atl;
using namespace atl::devices;

constexpr u64 kRam = 256 * kKiB;

Loop& loop() {
  static auto* shared = MUST(Loop::create(64)).release();  // a process-wide loop: io_uring set-up is slow
  return *shared;
}

struct Input {
  const uint8_t* data;
  size_t size;
  u8 byte() {
    if (size == 0) return 0;
    --size;
    return *data++;
  }
  u16 word() { return static_cast<u16>(byte() | byte() << 8); }
};

/// 2 bytes each: address (mostly inside RAM), size, flags and size's scale.
std::vector<TestBuffer> take_buffers(Input& in, size_t count) {
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
  Input in{data, size};
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
    size_t n = std::min<size_t>(in.size / 2, 4096);
    std::memcpy(guest.at(TestGuest::kFirst), in.data + in.size - n, n);
  }
  for (int step = 0; step < 32 && in.size > 0; ++step) {
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
