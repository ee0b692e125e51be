#include "manage/rpc/call.h"

namespace atl::manage {

void Call::write_params(const TypedParams& params, i32 asked) {
  if (asked <= 0)
    write(TypedParams(), static_cast<i32>(params.size()));
  else
    write(params, i32{0});
}

Result<StreamJob::Chunk> BufferStream::read(size_t limit_bytes) {
  size_t count = std::min(limit_bytes, data_.size() - at_);
  Chunk chunk;
  chunk.data.assign(data_.begin() + static_cast<ptrdiff_t>(at_), data_.begin() + static_cast<ptrdiff_t>(at_ + count));
  at_ += count;
  return chunk;
}

}  // namespace atl::manage
