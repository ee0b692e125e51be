#include "devices/virtio/chain.h"

#include <algorithm>
#include <cstring>

#include "devices/virtio/queue.h"

namespace atl::devices {

namespace {

/// Calls copy(piece, done) for the parts of `list` from `offset` on, at most `size` bytes. The bytes covered.
template <class F>
u64 for_each_piece(std::span<const iovec> list, u64 offset, u64 size, F copy) {
  u64 done = 0;
  for (const iovec& part : list) {
    if (done == size) break;
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    u64 count = std::min<u64>(part.iov_len - offset, size - done);
    copy(static_cast<u8*>(part.iov_base) + offset, done, count);
    done += count;
    offset = 0;
  }
  return done;
}

}  // namespace

u64 Chain::read(u64 offset, std::span<u8> out) const {
  return for_each_piece(body_->readable, offset, out.size(),
                        [&](const u8* at, u64 done, u64 count) { std::memcpy(out.data() + done, at, count); });
}

u64 Chain::write(u64 offset, std::span<const u8> data) {
  return for_each_piece(body_->writable, offset, data.size(),
                        [&](u8* at, u64 done, u64 count) { std::memcpy(at, data.data() + done, count); });
}

void Chain::complete() {
  if (Body* body = std::exchange(body_, nullptr)) body->queue->complete(body);
}

}  // namespace atl::devices
