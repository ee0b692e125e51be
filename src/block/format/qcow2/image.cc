// What can be done with a qcow2 image beyond reading and writing: each request goes to the part that does it.
#include <fmt/format.h>

#include "block/format/qcow2/amend.h"
#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/check.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/node.h"
#include "block/format/qcow2/resize.h"
#include "block/format/qcow2/snapshots.h"

namespace atl::block::qcow2 {

Json ImageNode::specific_info() const {
  const Header& header = core_.header;
  Json info = {{"compat", header.version == 2 ? "0.10" : "1.1"},
               {"compression-type", header.compression == kZstd ? "zstd" : "zlib"},
               {"refcount-bits", 1u << header.geometry.refcount_order}};
  if (header.version >= 3) {
    info["lazy-refcounts"] = (header.compatible & kLazyRefcounts) != 0;
    info["corrupt"] = corrupt();
    info["extended-l2"] = header.geometry.extended_l2;
  }
  if (header.has_data_file()) {
    info["data-file"] = header.data_file;
    info["data-file-raw"] = header.has_raw_data_file();
  }
  if (header.encryption == kAes) info["encrypt"] = {{"format", "aes"}};
  if (core_.luks) {
    info["encrypt"] = crypto::luks_info(*core_.luks);
    info["encrypt"]["format"] = "luks";
  }
  return info;
}

// --- the disk as a whole ---

Task<Status> ImageNode::resize(u64 size_bytes, Preallocation how) {
  CO_TRY(check_changeable());
  co_return co_await resize_disk(core_, align_up(size_bytes, kSectorBytes), how);
}

Task<Result<CheckReport>> ImageNode::check(Repair repair, Progress progress) {
  co_return co_await check_image(core_, repair, std::move(progress));
}

Task<Status> ImageNode::make_empty() {
  CO_TRY(check_changeable());
  if (tracks_writes()) {
    Status status = co_await core_.bitmaps->mark(0, core_.header.size_bytes);
    CO_TRY(std::move(status));
  }
  co_return co_await empty_disk(core_);
}

Task<Status> ImageNode::change_backing(std::string file, std::string format) {
  CO_TRY(check_changeable());
  co_return co_await qcow2::change_backing(core_, std::move(file), std::move(format));
}

Task<Status> ImageNode::amend(Json options, bool force, Progress progress) {
  CO_TRY(check_changeable());
  co_return co_await amend_image(core_, graph_, std::move(options), force, std::move(progress));
}

// --- snapshots ---

Task<Result<std::vector<SnapshotInfo>>> ImageNode::snapshots() {
  Result<std::vector<Snapshot>> read = co_await read_snapshots(core_);
  std::vector<Snapshot> list = CO_TRY(std::move(read));
  std::vector<SnapshotInfo> infos;
  for (Snapshot& snapshot : list) infos.push_back(std::move(snapshot.info));
  co_return infos;
}

Task<Status> ImageNode::create_snapshot(SnapshotInfo snapshot) {
  CO_TRY(check_changeable());
  co_return co_await qcow2::create_snapshot(core_, std::move(snapshot));
}

Task<Status> ImageNode::apply_snapshot(std::string id_or_name) {
  CO_TRY(check_changeable());
  const u64 before = core_.header.size_bytes;
  if (tracks_writes()) {
    Status status = co_await core_.bitmaps->mark(0, before);
    CO_TRY(std::move(status));
  }
  if (core_.bitmaps && !core_.bitmaps->empty()) {
    Result<std::vector<Snapshot>> read = co_await read_snapshots(core_);
    std::vector<Snapshot> list = CO_TRY(std::move(read));
    const size_t index = CO_TRY(find_snapshot(list, id_or_name));
    if (list[index].info.disk_bytes != before)
      co_return Error(ErrorKind::Unsupported, "the snapshot's disk has another size than the image's bitmaps", ENOTSUP);
  }
  co_return co_await qcow2::apply_snapshot(core_, std::move(id_or_name));
}

Task<Status> ImageNode::delete_snapshot(std::string id_or_name) {
  CO_TRY(check_changeable());
  co_return co_await qcow2::delete_snapshot(core_, std::move(id_or_name));
}

Task<Result<NodePtr>> ImageNode::open_snapshot(std::string id_or_name) {
  Result<std::vector<Snapshot>> read = co_await read_snapshots(core_);
  std::vector<Snapshot> list = CO_TRY(std::move(read));
  const size_t index = CO_TRY(find_snapshot(list, id_or_name));
  const Snapshot& snapshot = list[index];
  Header header = core_.header;
  header.l1_offset = snapshot.l1_offset;
  header.l1_entries = snapshot.l1_entries;
  header.size_bytes = snapshot.info.disk_bytes;
  header.bitmaps.reset();
  if (header.geometry.l1_entries(header.size_bytes) > header.l1_entries)
    co_return core_.corrupt(fmt::format("the L1 table of snapshot {} is too small for its disk", snapshot.info.id));
  Options options = core_.options;
  options.readonly = true;
  options.node_name = generate_node_name();
  auto view = std::make_shared<ImageNode>(core_.loop, core_.file, core_.data, core_.backing, std::move(header), std::move(options), graph_);
  view->core_.cipher = core_.cipher;
  Status status = co_await view->core_.load();
  CO_TRY(std::move(status));
  co_return NodePtr(std::move(view));
}

// --- bitmaps ---

Task<Result<std::vector<BitmapInfo>>> ImageNode::bitmaps() {
  if (!core_.bitmaps) co_return std::vector<BitmapInfo>{};
  co_return co_await core_.bitmaps->list();
}

Task<Status> ImageNode::add_bitmap(BitmapInfo bitmap) {
  CO_TRY(check_changeable());
  co_await core_.tables.exclusive();
  Status status = co_await core_.bitmaps->add(std::move(bitmap));
  core_.tables.release();
  co_return status;
}

Task<Status> ImageNode::remove_bitmap(std::string name) {
  CO_TRY(check_changeable());
  co_await core_.tables.exclusive();
  Status status = co_await core_.bitmaps->remove(std::move(name));
  core_.tables.release();
  co_return status;
}

Task<Status> ImageNode::clear_bitmap(std::string name) {
  CO_TRY(check_changeable());
  co_await core_.tables.exclusive();
  Status status = co_await core_.bitmaps->clear(std::move(name));
  core_.tables.release();
  co_return status;
}

Task<Status> ImageNode::enable_bitmap(std::string name, bool enabled) {
  CO_TRY(check_changeable());
  co_await core_.tables.exclusive();
  Status status = co_await core_.bitmaps->enable(std::move(name), enabled);
  core_.tables.release();
  co_return status;
}

Task<Result<Image::BitmapRun>> ImageNode::bitmap_run(std::string name, u64 offset, u64 bytes) {
  CO_TRY(check_range(offset, bytes, core_.header.size_bytes));
  if (!core_.bitmaps || bytes == 0) co_return Error(ErrorKind::Invalid, "no bitmap, or no bytes to look at", EINVAL);
  Bitmap* bitmap = CO_TRY(core_.bitmaps->find_usable(name));
  co_return co_await bitmap->run(offset, bytes);
}

Task<Status> ImageNode::set_bitmap(std::string name, u64 offset, u64 bytes) {
  CO_TRY(check_changeable());
  CO_TRY(check_range(offset, bytes, core_.header.size_bytes));
  if (bytes == 0) co_return Status{};
  co_return co_await core_.bitmaps->set(std::move(name), offset, bytes);
}

}  // namespace atl::block::qcow2
