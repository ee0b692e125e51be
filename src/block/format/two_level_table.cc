#include "block/format/two_level_table.h"

#include <fmt/format.h>

#include "base/math.h"
#include "block/format/file_bytes.h"

namespace atl::block {

TwoLevelTable::TwoLevelTable(Node& file, TwoLevelShape shape, u64 cache_bytes)
    : file_(file),
      shape_(shape),
      first_cache_(file, cache_bytes / 4),
      second_cache_(file, cache_bytes),
      first_(first_cache_, shape.first_offset, shape.first_entries, shape.form),
      mirror_(first_cache_, shape.mirror_offset, shape.first_entries, shape.form) {}

Task<Result<u64>> TwoLevelTable::follow(FlatTable& first, u64 first_index) {
  Result<u64> got = co_await first.get(first_index);
  const u64 entry = CO_TRY(std::move(got));
  auto at = checked_mul(entry, shape_.unit);
  if (at == u64{0}) co_return u64{0};
  if (!at || *at % shape_.alignment || !range_fits(*at, second_bytes(), align_up(file_.size_bytes(), kSectorBytes)))
    co_return Error(ErrorKind::Io,
                    fmt::format("entry {} of the first-level table leads to {:#x}, where no table can be", first_index,
                                at.value_or(entry)),
                    EIO);
  co_return *at;
}

Task<Result<u64>> TwoLevelTable::table_at(u64 first_index) { return follow(first_, first_index); }

Task<Result<TwoLevelTable::Entry>> TwoLevelTable::get(u64 index) {
  if (index / shape_.second_entries >= shape_.first_entries) co_return Entry{};
  Result<u64> table = co_await follow(first_, index / shape_.second_entries);
  const u64 at = CO_TRY(std::move(table));
  if (at == 0) co_return Entry{};
  FlatTable second(second_cache_, at, shape_.second_entries, shape_.form);
  Result<u64> got = co_await second.get(index % shape_.second_entries);
  co_return Entry{CO_TRY(std::move(got)), true};
}

/// New tables come to lie where the file ended, and read as zeroes there.
Task<Result<u64>> TwoLevelTable::provide(FlatTable& first, u64 first_index) {
  Result<u64> table = co_await follow(first, first_index);
  const u64 there = CO_TRY(std::move(table));
  if (there) co_return there;
  Result<u64> place = co_await append_zeroes(file_, second_bytes(), std::max(shape_.alignment, kSectorBytes));
  const u64 at = CO_TRY(std::move(place));
  if (at / shape_.unit > byte_mask(shape_.form.width))
    co_return Error(ErrorKind::NoSpace, "the image file is as large as the format allows", EFBIG);
  Status status = co_await first.set(first_index, at / shape_.unit);
  CO_TRY(std::move(status));
  co_return at;
}

Task<Status> TwoLevelTable::set_in(FlatTable& first, u64 index, u64 value) {
  Result<u64> table = co_await provide(first, index / shape_.second_entries);
  const u64 at = CO_TRY(std::move(table));
  FlatTable second(second_cache_, at, shape_.second_entries, shape_.form);
  co_return co_await second.set(index % shape_.second_entries, value);
}

Task<Status> TwoLevelTable::set(u64 index, u64 value) {
  if (shape_.mirror_offset) {
    Status status = co_await set_in(mirror_, index, value);
    CO_TRY(std::move(status));
  }
  co_return co_await set_in(first_, index, value);
}

Task<Status> TwoLevelTable::write_back() {
  if (!is_dirty()) co_return Status{};
  Status status = co_await second_cache_.write_back();
  CO_TRY(std::move(status));
  if (first_cache_.has_dirty()) {
    status = co_await file_.flush();
    CO_TRY(std::move(status));
    status = co_await first_cache_.write_back();
    CO_TRY(std::move(status));
  }
  co_return co_await file_.flush();
}

}  // namespace atl::block
