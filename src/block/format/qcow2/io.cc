#include "block/format/qcow2/io.h"

#include <algorithm>

#include "block/iovecs.h"

namespace atl::block::qcow2 {

Task<Status> read_padded(Node& file, u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out), file_bytes = file.size_bytes();
  const u64 inside = offset < file_bytes ? std::min(size, file_bytes - offset) : 0;
  if (inside == size) co_return co_await file.read(offset, out);
  iovec_clear(out, inside);
  if (inside == 0) co_return Status{};
  auto part = iovec_slice(out, 0, inside);
  co_return co_await file.read(offset, part);
}

Task<Status> read_padded(Node& file, u64 offset, std::span<u8> out) {
  iovec whole{out.data(), out.size()};
  co_return co_await read_padded(file, offset, std::span<const iovec>(&whole, 1));
}

Task<Status> grow_to(Node& file, u64 end) {
  if (end <= file.size_bytes()) co_return Status{};
  co_return co_await file.resize(end, Preallocation::Off);
}

Task<Status> write_growing(Node& file, u64 offset, std::span<const iovec> data) {
  Status status = co_await grow_to(file, offset + iovec_bytes(data));
  CO_TRY(std::move(status));
  co_return co_await file.write(offset, data, kNoFlags);
}

Task<Status> write_growing(Node& file, u64 offset, std::span<const u8> data) {
  iovec whole{const_cast<u8*>(data.data()), data.size()};  // only written from
  co_return co_await write_growing(file, offset, std::span<const iovec>(&whole, 1));
}

}  // namespace atl::block::qcow2
