// Saved state: numbered fields. One visit() function saves, restores and compares; numbers are forever.
//
// The stream is a list of records: number and length as LEB128, then the bytes. Integers are little-endian without
// leading zero bytes; a part's bytes are a stream again.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl {

/// Writes or reads fields. When reading, a missing field leaves its variable alone, an unknown one is skipped, and a
/// malformed stream makes the archive fail (status()); values are hostile until the visitor has checked them.
class Archive {
 public:
  /// An archive that writes.
  Archive() = default;
  /// An archive that reads `data`, which must outlive it.
  explicit Archive(std::span<const u8> data);

  bool loading() const { return loading_; }
  template <class T>
  void field(u32 number, const char* name, T& value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>, "integers, enums and booleans; use bytes() for arrays");
    u64 wide = static_cast<u64>(value);
    if (!integer(number, name, wide)) return;
    if (static_cast<u64>(static_cast<T>(wide)) != wide) return fail(std::string(name) + " is out of range");
    value = static_cast<T>(wide);
  }
  /// A byte array of fixed size.
  void bytes(u32 number, const char* name, std::span<u8> value);
  void blob(u32 number, const char* name, std::vector<u8>& value, u64 limit_bytes);
  /// A nested object: calls visitor(Archive&) on a part of its own.
  template <class F>
  void part(u32 number, const char* name, F visitor) {
    std::vector<u8> inner;
    if (!loading_) {
      Archive out;
      visitor(out);
      if (!out.error_.empty()) fail(out.error_);
      inner = out.take();
    }
    blob(number, name, inner, 64u << 20);
    if (loading_ && status_ok() && !inner.empty()) {
      Archive in{std::span<const u8>(inner)};
      visitor(in);
      if (!in.error_.empty()) fail(in.error_);
    }
  }
  /// For visitors that find a value out of range.
  void fail(std::string why);

  std::vector<u8> take() { return std::move(out_); }
  Status status() const;

 private:
  struct Record {
    u32 number;
    std::span<const u8> value;
  };

  bool status_ok() const { return error_.empty(); }
  /// When writing, writes; when reading, whether the field is there and well-formed.
  bool integer(u32 number, const char* name, u64& value);
  const Record* find(u32 number) const;
  void put(u32 number, std::span<const u8> value);
  void index(std::span<const u8> data);

  bool loading_ = false;
  std::vector<Record> records_;  // of the stream being read, by number
  std::vector<u8> out_;
  std::string error_;
};

}  // namespace atl
