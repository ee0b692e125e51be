// One request from the driver: a descriptor chain, resolved to host memory. VIRTIO 1.2 sections 2.7.4 and 2.8.4.
//
// Threads: the queue's loop. The iovecs stay valid as long as the Chain exists, also while the device is being reset.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/types.h"
#include "memory/guest_memory.h"

namespace atl::devices {

class Queue;

/// Move-only. Its destructor hands the buffers back to the driver with the bytes told by add_written(); Queue::notify()
/// then tells the driver, once for as many chains as were completed.
class Chain {
 public:
  Chain() = default;
  Chain(Chain&& other) noexcept : body_(std::exchange(other.body_, nullptr)) {}
  Chain& operator=(Chain&& other) noexcept {
    if (this != &other) {
      complete();
      body_ = std::exchange(other.body_, nullptr);
    }
    return *this;
  }
  ~Chain() { complete(); }

  explicit operator bool() const { return body_ != nullptr; }
  /// The buffers that the device reads, in order. The driver may change their bytes at any time: copy, then decide.
  std::span<const iovec> readable() const { return body_->readable; }
  /// The buffers that the device writes. Bytes written through them count by add_written().
  std::span<const iovec> writable() const { return body_->writable; }
  /// The writable buffers by guest address, for devices that act on the memory itself.
  struct Buffer {
    GuestAddr address;
    u32 size;
  };
  std::span<const Buffer> writable_buffers() const { return body_->write_buffers; }
  u64 readable_bytes() const { return body_->readable_bytes; }
  u64 writable_bytes() const { return body_->writable_bytes; }

  /// Copies from the readable bytes at `offset`; fewer than out.size() where they end.
  u64 read(u64 offset, std::span<u8> out) const;
  /// Copies to the writable bytes at `offset`; fewer where they end. Does not count as written.
  u64 write(u64 offset, std::span<const u8> data);
  template <class T>
  bool read_object(u64 offset, T& out) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return read(offset, {reinterpret_cast<u8*>(&out), sizeof out}) == sizeof out;
  }
  template <class T>
  bool write_object(u64 offset, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return write(offset, {reinterpret_cast<const u8*>(&value), sizeof value}) == sizeof value;
  }
  /// The first `bytes` more of the writable buffers have been written; never counts past their end.
  void add_written(u64 bytes) {
    body_->written = bytes < body_->writable_bytes - body_->written ? body_->written + bytes : body_->writable_bytes;
  }
  /// Gives the buffers back now.
  void complete();
  Queue& queue() const { return *body_->queue; }

 private:
  friend class Queue;
  /// Pooled by the queue, so that the vectors keep their storage.
  struct Body {
    Queue* queue = nullptr;
    std::vector<iovec> readable, writable;
    std::vector<Buffer> write_buffers;  // guest addresses of `writable`, for GuestMemory::wrote
    std::shared_ptr<const memory::GuestMemory> memory;
    u64 readable_bytes = 0, writable_bytes = 0, written = 0;
    u16 id = 0;           // descriptor index (split) or buffer id (packed)
    u16 slots = 1;        // ring descriptors used (packed)
  };
  explicit Chain(Body* body) : body_(body) {}

  Body* body_ = nullptr;
};

}  // namespace atl::devices
