#include "block/image.h"

#include <fmt/format.h>

namespace atl::block {
namespace {

Error unsupported(std::string_view what) {
  return Error(ErrorKind::Unsupported, fmt::format("this image format does not support {}", what), ENOTSUP);
}

}  // namespace

Task<Result<CheckReport>> Image::check(Repair, Progress) {
  co_return Error(ErrorKind::Unsupported, "This image format does not support checks", ENOTSUP);
}
Task<Status> Image::make_empty() { co_return unsupported("being emptied"); }
Task<Status> Image::change_backing(std::string, std::string) { co_return unsupported("changing its backing file"); }
Task<Status> Image::amend(Json, bool, Progress) { co_return unsupported("option amendment"); }

Task<Result<std::vector<SnapshotInfo>>> Image::snapshots() { co_return std::vector<SnapshotInfo>{}; }
Task<Status> Image::create_snapshot(SnapshotInfo) { co_return unsupported("internal snapshots"); }
Task<Status> Image::apply_snapshot(std::string) { co_return unsupported("internal snapshots"); }
Task<Status> Image::delete_snapshot(std::string) { co_return unsupported("internal snapshots"); }
Task<Result<NodePtr>> Image::open_snapshot(std::string) { co_return unsupported("internal snapshots"); }

Task<Result<std::vector<BitmapInfo>>> Image::bitmaps() { co_return std::vector<BitmapInfo>{}; }
Task<Status> Image::add_bitmap(BitmapInfo) { co_return unsupported("persistent bitmaps"); }
Task<Status> Image::remove_bitmap(std::string) { co_return unsupported("persistent bitmaps"); }
Task<Status> Image::clear_bitmap(std::string) { co_return unsupported("persistent bitmaps"); }
Task<Status> Image::enable_bitmap(std::string, bool) { co_return unsupported("persistent bitmaps"); }
Task<Result<Image::BitmapRun>> Image::bitmap_run(std::string, u64, u64) { co_return unsupported("persistent bitmaps"); }
Task<Status> Image::set_bitmap(std::string, u64, u64) { co_return unsupported("persistent bitmaps"); }

}  // namespace atl::block
