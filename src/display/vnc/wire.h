// Bytes that come from a viewer, and numbers that go to it in the protocol's order, the most significant byte first.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "base/types.h"

namespace atl::display::vnc {

inline void put16(std::vector<u8>& out, u32 value) {
  out.push_back(static_cast<u8>(value >> 8));
  out.push_back(static_cast<u8>(value));
}
inline void put32(std::vector<u8>& out, u32 value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}
inline void put_text(std::vector<u8>& out, std::string_view text) {
  put32(out, static_cast<u32>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

/// What a parser made of the bytes so far.
enum class Parsed : u8 { Done, NeedMore, Broken };

/// Bytes received and not parsed yet.
class InputBytes {
 public:
  void append(std::span<const u8> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  size_t left() const { return bytes_.size() - at_; }
  bool has(size_t bytes) const { return left() >= bytes; }
  u8 byte(size_t offset) const { return bytes_[at_ + offset]; }
  u16 be16(size_t offset) const { return load_be<u16>(&bytes_[at_ + offset]); }
  u32 be32(size_t offset) const { return load_be<u32>(&bytes_[at_ + offset]); }
  const u8* here() const { return bytes_.data() + at_; }
  void take(size_t bytes) { at_ += bytes; }
  /// Forgets what was taken.
  void compact() {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ = 0;
  }

 private:
  std::vector<u8> bytes_;
  size_t at_ = 0;
};

}  // namespace atl::display::vnc
