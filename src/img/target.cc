#include "img/target.h"

#include "block/job/copy.h"

namespace atl::img {

Result<const block::Driver*> creating_driver(const std::string& format, std::string_view prefix) {
  const block::Driver* driver = block::find_driver(format);
  if (!driver) return Error(ErrorKind::Invalid, fmt::format("{}Unknown file format '{}'", prefix, format));
  if (driver->create) return driver;
  return Error(ErrorKind::Unsupported, fmt::format("{}Format driver '{}' does not support image creation", prefix, format));
}

Task<Result<bool>> is_known_zero(Node& node) {
  u64 size = node.size_bytes();
  for (u64 at = 0; at < size;) {
    auto answer = co_await block::status_above(node, nullptr, at, size - at);
    block::BlockStatus status = CO_TRY(std::move(answer));
    if (!status.zero) co_return false;
    at += status.bytes;
  }
  co_return true;
}

}  // namespace atl::img
