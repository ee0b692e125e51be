#include "base/archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/endian.h"

namespace atl {
namespace {

constexpr size_t kMaxRecords = 65536;

void put_number(std::vector<u8>& out, u64 value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<u8>(value | 0x80));
  out.push_back(static_cast<u8>(value));
}

/// Cuts a LEB128 number off the front of `data`; nothing if it is cut short or exceeds 64 bits.
std::optional<u64> cut_number(std::span<const u8>& data) {
  u64 value = 0;
  for (unsigned shift = 0; shift < 63 && !data.empty(); shift += 7) {
    u8 byte = data.front();
    data = data.subspan(1);
    value |= u64{byte & 0x7fu} << shift;
    if (!(byte & 0x80)) return value;
  }
  return std::nullopt;
}

}  // namespace

Archive::Archive(std::span<const u8> data) : loading_(true) { index(data); }

void Archive::index(std::span<const u8> data) {
  const size_t size = data.size();
  while (!data.empty()) {
    size_t at = size - data.size();
    auto number = cut_number(data);
    auto length = number ? cut_number(data) : std::nullopt;
    if (!length || *number > ~u32{0} || *length > data.size() || records_.size() == kMaxRecords)
      return fail(fmt::format("malformed record at byte {}", at));
    records_.push_back({static_cast<u32>(*number), data.first(*length)});
    data = data.subspan(*length);
  }
  std::sort(records_.begin(), records_.end(), [](auto& a, auto& b) { return a.number < b.number; });
  auto twin =
      std::adjacent_find(records_.begin(), records_.end(), [](auto& a, auto& b) { return a.number == b.number; });
  if (twin != records_.end()) fail(fmt::format("field {} is there twice", twin->number));
}

const Archive::Record* Archive::find(u32 number) const {
  auto at = std::lower_bound(records_.begin(), records_.end(), number,
                             [](const Record& r, u32 wanted) { return r.number < wanted; });
  return at != records_.end() && at->number == number ? &*at : nullptr;
}

void Archive::put(u32 number, std::span<const u8> value) {
  put_number(out_, number);
  put_number(out_, value.size());
  out_.insert(out_.end(), value.begin(), value.end());
}

bool Archive::integer(u32 number, const char* name, u64& value) {
  if (!loading_) {
    u8 raw[8];
    store_le(raw, value);
    size_t length = (64 - static_cast<size_t>(std::countl_zero(value)) + 7) / 8;
    put(number, {raw, length});
    return false;
  }
  const Record* record = status_ok() ? find(number) : nullptr;
  if (!record) return false;
  if (record->value.size() > 8) {
    fail(fmt::format("{} is longer than 8 bytes", name));
    return false;
  }
  value = load_le_n(record->value.data(), static_cast<unsigned>(record->value.size()));
  return true;
}

void Archive::bytes(u32 number, const char* name, std::span<u8> value) {
  if (!loading_) return put(number, value);
  const Record* record = status_ok() ? find(number) : nullptr;
  if (!record) return;
  if (record->value.size() != value.size())
    return fail(fmt::format("{} has {} bytes, not {}", name, record->value.size(), value.size()));
  std::copy(record->value.begin(), record->value.end(), value.begin());
}

void Archive::blob(u32 number, const char* name, std::vector<u8>& value, u64 limit_bytes) {
  if (!loading_) return put(number, value);
  const Record* record = status_ok() ? find(number) : nullptr;
  if (!record) return;
  if (record->value.size() > limit_bytes)
    return fail(fmt::format("{} has {} bytes, more than {}", name, record->value.size(), limit_bytes));
  value.assign(record->value.begin(), record->value.end());
}

void Archive::fail(std::string why) {
  if (error_.empty()) error_ = std::move(why);
}

Status Archive::status() const {
  if (error_.empty()) return {};
  return Error(ErrorKind::Invalid, "saved state: " + error_);
}

}  // namespace atl
