#include "block/format/qcow2/node.h"

#include <fmt/format.h>

#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/compressed.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/read.h"
#include "block/format/qcow2/write.h"
#include "block/iovecs.h"

namespace atl::block::qcow2 {

ImageNode::ImageNode(Loop& loop, NodePtr file, NodePtr data, NodePtr backing, Header header, Options options, Graph* graph)
    : core_(loop, std::move(file), std::move(data), std::move(header), std::move(options)), graph_(graph) {
  core_.backing = std::move(backing);
  core_.self = this;
}

void ImageNode::start_cleaning() {
  if (core_.options.clean_interval_s == 0) return;
  cleaning_ = std::make_unique<Loop::Timer>(core_.loop, [this] {
    core_.l2.drop_unused();
    core_.refcounts.blocks().drop_unused();
    cleaning_->arm_in(core_.options.clean_interval_s * 1'000'000'000);
  });
  cleaning_->arm_in(core_.options.clean_interval_s * 1'000'000'000);
}

NodeInfo ImageNode::info() const {
  NodeInfo info = core_.file->info();
  info.node_name = core_.options.node_name;
  info.driver = "qcow2";
  info.size_bytes = core_.header.size_bytes;
  info.readonly = core_.options.readonly;
  info.request_alignment = 1;
  info.can_discard = !core_.options.readonly && discard_;
  return info;
}

// --- requests ---

Task<Status> ImageNode::read(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  CO_TRY(check_range(offset, size, core_.header.size_bytes));
  if (size == 0) co_return Status{};
  Epochs::Request request(core_.epochs);
  // The usual case without another coroutine: all in one place, its table in memory.
  if (auto now = core_.lookup_now(offset, size); now && *now) {
    const Run& run = **now;
    const bool plain = run.kind == Extent::Data && run.bytes == size && !encrypted();
    if (plain && run.host + size <= core_.data->size_bytes()) {
      core_.step("read_aio");
      co_return co_await core_.data->read(run.host, out);
    }
  }
  co_return co_await read_disk(core_, offset, out);
}

Status ImageNode::check_write(u64 offset, u64 size) const {
  TRY(check_changeable());
  return check_range(offset, size, core_.header.size_bytes);
}

Status ImageNode::check_changeable() const {
  if (core_.options.readonly) return Error(ErrorKind::Permission, core_.name + " is open for reading only", EPERM);
  if (core_.broken) return Error(ErrorKind::Io, core_.name + " is marked corrupt", EIO);
  return {};
}

bool ImageNode::tracks_writes() const { return core_.bitmaps && core_.bitmaps->tracking(); }

Task<Status> ImageNode::finish_write(Status status, u32 flags) {
  if (core_.unwritten_mark) {
    core_.unwritten_mark = false;
    (void)co_await core_.set_features(kCorrupt, 0);  // the request's own error tells more
  }
  if (status && (flags & kFua)) co_return co_await flush();
  co_return status;
}

Task<Status> ImageNode::write(u64 offset, std::span<const iovec> data, u32 flags) {
  const u64 size = iovec_bytes(data);
  CO_TRY(check_write(offset, size));
  if (size == 0) co_return Status{};
  Epochs::Request request(core_.epochs);
  if (tracks_writes()) {
    Status marked = co_await core_.bitmaps->mark(offset, size);
    CO_TRY(std::move(marked));
  }
  if (core_.prepared && !encrypted()) {
    if (auto now = core_.lookup_now(offset, size); now && *now) {
      const Run& run = **now;
      const bool simple = run.in_place() && run.bytes == size && run.host + size <= core_.data->size_bytes();
      if (simple && core_.check_overlap(run.host, size)) {
        // FUA needs only the data: the tables have not changed for this request.
        core_.step("write_aio");
        Status status = co_await core_.data->write(run.host, data, kNoFlags);
        if (status && (flags & kFua)) co_return co_await flush();
        co_return status;
      }
    }
  }
  Status status = co_await write_disk(core_, offset, data);
  co_return co_await finish_write(std::move(status), flags);
}

Task<Status> ImageNode::write_compressed(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  CO_TRY(check_write(offset, size));
  if (size == 0) co_return Status{};
  Epochs::Request request(core_.epochs);
  if (tracks_writes()) {
    Status marked = co_await core_.bitmaps->mark(offset, size);
    CO_TRY(std::move(marked));
  }
  Status status = co_await write_compressed_clusters(core_, offset, data);
  co_return co_await finish_write(std::move(status), kNoFlags);
}

Task<Status> ImageNode::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  if (size == 0) co_return Status{};
  Epochs::Request request(core_.epochs);
  if (tracks_writes()) {
    Status marked = co_await core_.bitmaps->mark(offset, size);
    CO_TRY(std::move(marked));
  }
  Status status = co_await write_disk_zeroes(core_, offset, size, flags & kMayUnmap);
  co_return co_await finish_write(std::move(status), flags);
}

Task<Status> ImageNode::discard(u64 offset, u64 size) {
  CO_TRY(check_write(offset, size));
  if (!discard_ || size == 0) co_return Status{};
  Epochs::Request request(core_.epochs);
  if (tracks_writes()) {
    Status marked = co_await core_.bitmaps->mark(offset, size);
    CO_TRY(std::move(marked));
  }
  Status status = co_await discard_disk(core_, offset, size);
  co_return co_await finish_write(std::move(status), kNoFlags);
}

Task<Status> ImageNode::flush() {
  if (core_.options.readonly) co_return Status{};
  if (core_.external()) {
    Status status = co_await core_.data->flush();
    CO_TRY(std::move(status));
  }
  co_await core_.tables.exclusive();
  Status status = co_await core_.sync(false);
  core_.tables.release();
  co_return status;
}

Task<Status> ImageNode::close() {
  const bool changed = core_.prepared || (core_.bitmaps && core_.bitmaps->changed());
  if (!core_.options.readonly && changed && !core_.broken) {
    co_await core_.tables.exclusive();
    Status status = co_await core_.data->flush();
    if (status && core_.bitmaps) status = co_await core_.bitmaps->store();
    if (status) status = co_await core_.mark_clean();
    core_.tables.release();
    CO_TRY(std::move(status));
  }
  Status status = co_await flush();
  CO_TRY(std::move(status));
  if (core_.external()) {
    status = co_await core_.data->close();
    CO_TRY(std::move(status));
  }
  if (core_.backing) {
    status = co_await core_.backing->close();
    CO_TRY(std::move(status));
  }
  co_return co_await core_.file->close();
}

Task<Status> ImageNode::set_readonly(bool readonly) {
  if (readonly == core_.options.readonly) co_return Status{};
  if (!readonly && corrupt()) co_return Error(ErrorKind::Io, core_.name + " is marked corrupt", EIO);
  if (readonly) {
    Status status = co_await close();
    CO_TRY(std::move(status));
  }
  Status status = co_await core_.file->set_readonly(readonly);
  if (status && core_.external()) status = co_await core_.data->set_readonly(readonly);
  if (status) core_.options.readonly = readonly;
  co_return status;
}

Task<Result<BlockStatus>> ImageNode::block_status(u64 offset, u64 bytes) {
  CO_TRY(check_range(offset, bytes, core_.header.size_bytes));
  if (bytes == 0) co_return Error(ErrorKind::Invalid, "status of no bytes", EINVAL);
  Epochs::Request request(core_.epochs);
  co_return co_await disk_status(core_, offset, bytes);
}

// --- neighbours ---

std::vector<Child> ImageNode::children() const {
  std::vector<Child> list = {{"file", core_.file}};
  if (core_.external()) list.push_back({"data-file", core_.data});
  if (core_.backing) list.push_back({"backing", core_.backing});
  return list;
}

Status ImageNode::replace_child(std::string_view role, NodePtr node) {
  if (role == "backing") {
    core_.backing = std::move(node);
    return {};
  }
  return Error(ErrorKind::Unsupported, fmt::format("the {} of a qcow2 image cannot be replaced", role), ENOTSUP);
}

}  // namespace atl::block::qcow2
