// What the split and the packed half of Queue share. Private to devices/virtio.
#pragma once

#include "base/endian.h"
#include "base/types.h"
#include "devices/virtio/queue.h"

namespace atl::devices {

/// One buffer as a descriptor names it, copied from guest memory once.
struct Queue::Descriptor {
  GuestAddr address = 0;
  u32 size = 0;
  u16 flags = 0;
};

inline constexpr u32 kDescriptorBytes = 16;
/// Buffers a chain may have, indirect ones included.
inline constexpr u32 kMaxBuffers = 1024;

/// Ring fields that the driver changes while we look. Rings are at least 2-byte aligned.
inline u16 load_shared(const u8* at) { return __atomic_load_n(reinterpret_cast<const u16*>(at), __ATOMIC_ACQUIRE); }
inline void store_shared(u8* at, u16 value) { __atomic_store_n(reinterpret_cast<u16*>(at), value, __ATOMIC_RELEASE); }
/// Between our store and a load of what the driver stores, and the other way round.
inline void full_fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/// Whether moving an index from `before` to `now` passed `event`. VIRTIO 1.2 section 2.7.7.2.
constexpr bool passed_event(u16 event, u16 now, u16 before) {
  return static_cast<u16>(now - event - 1) < static_cast<u16>(now - before);
}

}  // namespace atl::devices
