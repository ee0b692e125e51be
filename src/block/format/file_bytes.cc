#include "block/format/file_bytes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"

namespace atl::block {

Task<Result<std::vector<u8>>> read_bytes(Node& file, u64 offset, u64 size, std::string what) {
  if (!range_fits(offset, size, align_up(file.size_bytes(), kSectorBytes)))
    co_return Error(ErrorKind::Invalid,
                    fmt::format("{} ({} bytes at {:#x}) lies behind the file's end", what, size, offset), EINVAL);
  std::vector<u8> bytes(size);
  iovec whole{bytes.data(), bytes.size()};
  Status status = co_await read_padded(file, offset, {&whole, 1});
  CO_TRY(std::move(status).context("read " + what));
  co_return bytes;
}

Task<Result<std::vector<u8>>> read_head(Node& file, u64 size) {
  const u64 there = std::min(size, file.size_bytes());
  return read_bytes(file, 0, there, "the header");
}

Task<Result<u64>> append_zeroes(Node& file, u64 size, u64 alignment) {
  const u64 end = file.size_bytes();
  const u64 start = (end / alignment + (end % alignment != 0)) * alignment;
  auto new_end = checked_add(start, size);
  if (!new_end) co_return Error(ErrorKind::NoSpace, "the image file cannot grow any further", EFBIG);
  Status status = co_await file.resize(*new_end, Preallocation::Off);
  CO_TRY(std::move(status));
  co_return start;
}

Error bad_image(const char* format, std::string text) {
  return Error(ErrorKind::Invalid, fmt::format("{}: {}", format, text), EINVAL);
}

}  // namespace atl::block
