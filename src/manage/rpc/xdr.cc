#include "manage/rpc/xdr.h"

#include <algorithm>
#include <bit>

#include "base/endian.h"

namespace atl::manage {

namespace {

constexpr size_t padded(size_t bytes) { return (bytes + 3) & ~size_t{3}; }

}  // namespace

bool XdrReader::take(size_t bytes, std::span<const u8>& out) {
  if (remaining() < bytes) return false;
  out = data_.subspan(at_, bytes);
  at_ += bytes;
  return true;
}

bool XdrReader::get(u32& value) {
  std::span<const u8> bytes;
  if (!take(4, bytes)) return false;
  value = load_be<u32>(bytes.data());
  return true;
}

bool XdrReader::get(u64& value) {
  std::span<const u8> bytes;
  if (!take(8, bytes)) return false;
  value = load_be<u64>(bytes.data());
  return true;
}

bool XdrReader::get(i32& value) {
  u32 raw = 0;
  if (!get(raw)) return false;
  value = static_cast<i32>(raw);
  return true;
}

bool XdrReader::get(i64& value) {
  u64 raw = 0;
  if (!get(raw)) return false;
  value = static_cast<i64>(raw);
  return true;
}

bool XdrReader::get(double& value) {
  u64 raw = 0;
  if (!get(raw)) return false;
  value = std::bit_cast<double>(raw);
  return true;
}

bool XdrReader::get(bool& value) {
  u32 raw = 0;
  if (!get(raw) || raw > 1) return false;
  value = raw == 1;
  return true;
}

/// A count that the rest of the message can hold.
bool XdrReader::get_count(u32& count, u32 limit, u32 bytes_each) {
  return get(count) && count <= limit && u64{count} * bytes_each <= remaining();
}

bool XdrReader::get(std::string& value) {
  u32 length = 0;
  std::span<const u8> bytes;
  if (!get_count(length, xdr::kStringMax, 1) || !take(padded(length), bytes)) return false;
  value.assign(reinterpret_cast<const char*>(bytes.data()), length);
  return value.find('\0') == std::string::npos;
}

bool XdrReader::get(Uuid& value) {
  std::span<const u8> bytes;
  if (!take(value.size(), bytes)) return false;
  std::ranges::copy(bytes, value.begin());
  return true;
}

bool XdrReader::get(Opaque& value) {
  u32 length = 0;
  std::span<const u8> bytes;
  if (!get_count(length, xdr::kOpaqueMax, 1) || !take(padded(length), bytes)) return false;
  value.bytes.assign(bytes.begin(), bytes.begin() + length);
  return true;
}

bool XdrReader::get(CharArray& value) {
  u32 count = static_cast<u32>(value.fixed);
  if (count == 0 && !get_count(count, xdr::kStringMax, 4)) return false;
  value.text.clear();
  for (u32 i = 0; i < count; ++i) {
    u32 character = 0;
    if (!get(character)) return false;
    value.text += static_cast<char>(character);
  }
  return true;
}

void XdrWriter::put(u32 value) {
  u8 bytes[4];
  store_be<u32>(bytes, value);
  data_.insert(data_.end(), bytes, bytes + 4);
}

void XdrWriter::put(u64 value) {
  u8 bytes[8];
  store_be<u64>(bytes, value);
  data_.insert(data_.end(), bytes, bytes + 8);
}

void XdrWriter::put(double value) { put(std::bit_cast<u64>(value)); }

void XdrWriter::put_padded(std::span<const u8> bytes) {
  data_.insert(data_.end(), bytes.begin(), bytes.end());
  data_.resize(data_.size() + padded(bytes.size()) - bytes.size());
}

void XdrWriter::put(std::string_view value) {
  put(static_cast<u32>(value.size()));
  put_padded({reinterpret_cast<const u8*>(value.data()), value.size()});
}

void XdrWriter::put(const Uuid& value) { put_padded(value); }

void XdrWriter::put(const Opaque& value) {
  put(static_cast<u32>(value.bytes.size()));
  put_padded(value.bytes);
}

void XdrWriter::put(const CharArray& value) {
  if (value.fixed == 0) put(static_cast<u32>(value.text.size()));
  size_t count = value.fixed != 0 ? value.fixed : value.text.size();
  for (size_t i = 0; i < count; ++i) {
    // The characters are C's signed char, widened.
    i32 character = i < value.text.size() ? static_cast<signed char>(value.text[i]) : 0;
    put(character);
  }
}

}  // namespace atl::manage
