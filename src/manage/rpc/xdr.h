// XDR, the encoding of libvirt's payloads (RFC 4506): big-endian words, every item padded to four bytes.
//
// One overload a type, the same in both directions: 32 and 64-bit integers, double, bool, std::string, std::optional (a "pointer"),
// std::vector (a counted list), Uuid, Opaque (counted bytes), CharArray (libvirt's char x[n] and char x<>: a word for each character), and any
// struct with a field list:
//
//   struct PoolRef { std::string name; Uuid uuid; static constexpr auto kFields = std::tuple{&PoolRef::name, &PoolRef::uuid}; };
//
// A reader never allocates more than the message is long. Errors say what could not be decoded.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::manage {

using Uuid = std::array<u8, 16>;

/// XDR's opaque<>: secret values, cpumaps, memory that was peeked at.
struct Opaque {
  std::vector<u8> bytes;
};

/// Characters that travel as one word each. `fixed` is the length of char x[n]; 0 for char x<>.
struct CharArray {
  std::string text;
  size_t fixed = 0;
};

namespace xdr {

// Limits of libvirt 9 for what one item may hold.
inline constexpr u32 kStringMax = 4'194'304;
inline constexpr u32 kOpaqueMax = 16'777'216;
inline constexpr u32 kListMax = 262'144;

template <class T>
concept Struct = requires { T::kFields; };

}  // namespace xdr

class XdrReader {
 public:
  explicit XdrReader(std::span<const u8> data) : data_(data) {}

  /// Decodes in order; the first failure ends it.
  template <class... T>
  atl::Status read(T&... values) {
    bool good = (get(values) && ...);
    if (!good) return atl::Error(ErrorKind::Invalid, "Unable to decode message payload");
    return {};
  }
  size_t remaining() const { return data_.size() - at_; }
  std::span<const u8> rest() const { return data_.subspan(at_); }

 private:
  bool get(i32& value);
  bool get(u32& value);
  bool get(i64& value);
  bool get(u64& value);
  bool get(double& value);
  bool get(bool& value);
  bool get(std::string& value);
  bool get(Uuid& value);
  bool get(Opaque& value);
  bool get(CharArray& value);
  bool get_count(u32& count, u32 limit, u32 bytes_each);
  bool take(size_t bytes, std::span<const u8>& out);

  template <class T>
  bool get(std::optional<T>& value) {
    bool there = false;
    if (!get(there)) return false;
    // Filled before it is put in: GCC 12 takes the other way round for a use of something uninitialized.
    T item{};
    if (there && !get(item)) return false;
    value = there ? std::optional<T>(std::move(item)) : std::nullopt;
    return true;
  }
  template <class T>
  bool get(std::vector<T>& list) {
    u32 count = 0;
    if (!get_count(count, xdr::kListMax, 4)) return false;
    list.clear();
    for (u32 i = 0; i < count; ++i)
      if (!get(list.emplace_back())) return false;
    return true;
  }
  template <xdr::Struct T>
  bool get(T& value) {
    return std::apply([&](auto... field) { return (get(value.*field) && ...); }, T::kFields);
  }
  /// A union decodes itself: `bool decode(XdrReader&)` and `void encode(XdrWriter&) const`.
  template <class T>
    requires requires(T& t, XdrReader& r) { t.decode(r); }
  bool get(T& value) {
    return value.decode(*this);
  }

  std::span<const u8> data_;
  size_t at_ = 0;
};

class XdrWriter {
 public:
  /// Encodes in order.
  template <class... T>
  void write(const T&... values) {
    (put(values), ...);
  }
  /// Bytes that are encoded already.
  void append(std::span<const u8> encoded) { data_.insert(data_.end(), encoded.begin(), encoded.end()); }
  const std::vector<u8>& data() const { return data_; }
  std::vector<u8> take() { return std::move(data_); }
  void clear() { data_.clear(); }

 private:
  void put(i32 value) { put(static_cast<u32>(value)); }
  void put(u32 value);
  void put(i64 value) { put(static_cast<u64>(value)); }
  void put(u64 value);
  void put(double value);
  void put(bool value) { put(static_cast<u32>(value)); }
  void put(std::string_view value);
  void put(const std::string& value) { put(std::string_view(value)); }
  void put(const char* value) { put(std::string_view(value)); }
  void put(const Uuid& value);
  void put(const Opaque& value);
  void put(const CharArray& value);
  void put_padded(std::span<const u8> bytes);

  template <class T>
  void put(const std::optional<T>& value) {
    put(value.has_value());
    if (value) put(*value);
  }
  template <class T>
  void put(const std::vector<T>& list) {
    put(static_cast<u32>(list.size()));
    for (const T& item : list) put(item);
  }
  template <xdr::Struct T>
  void put(const T& value) {
    std::apply([&](auto... field) { (put(value.*field), ...); }, T::kFields);
  }
  template <class T>
    requires requires(const T& t, XdrWriter& w) { t.encode(w); }
  void put(const T& value) {
    value.encode(*this);
  }

  std::vector<u8> data_;
};

}  // namespace atl::manage
