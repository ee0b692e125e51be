// The node of an open qcow2 image: checks requests, keeps its bitmaps right, and hands on to the parts.
#pragma once

#include "block/driver.h"
#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

class ImageNode final : public Node, public Image {
 public:
  ImageNode(Loop& loop, NodePtr file, NodePtr data, NodePtr backing, Header header, Options options, Graph* graph);
  Core& core() { return core_; }
  void set_discard(bool discard) { discard_ = discard; }
  void set_open_mode(OpenMode mode) { mode_ = std::move(mode); }
  /// Drops unused slices now and then.
  void start_cleaning();

  NodeInfo info() const override;
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;
  Task<Status> close() override;
  Task<Status> set_readonly(bool readonly) override;
  u64 size_bytes() const override { return core_.header.size_bytes; }
  Task<Status> resize(u64 size_bytes, Preallocation how) override;
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override;
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override;
  std::vector<Child> children() const override;
  Status replace_child(std::string_view role, NodePtr node) override;
  Image* image() override { return this; }

  Json specific_info() const override;
  u64 cluster_bytes() const override { return core_.geometry().cluster_bytes(); }
  bool encrypted() const override { return core_.header.encryption != kPlain; }
  bool dirty() const override { return core_.header.incompatible & kDirty; }
  bool corrupt() const override { return core_.broken || (core_.header.incompatible & kCorrupt); }
  std::string backing_file() const override { return core_.header.backing_file; }
  std::string backing_format() const override { return core_.header.backing_format; }
  Task<Result<CheckReport>> check(Repair repair, Progress progress) override;
  Task<Status> make_empty() override;
  Task<Status> change_backing(std::string file, std::string format) override;
  Task<Status> amend(Json options, bool force, Progress progress) override;
  Task<Result<std::vector<SnapshotInfo>>> snapshots() override;
  Task<Status> create_snapshot(SnapshotInfo snapshot) override;
  Task<Status> apply_snapshot(std::string id_or_name) override;
  Task<Status> delete_snapshot(std::string id_or_name) override;
  Task<Result<NodePtr>> open_snapshot(std::string id_or_name) override;
  Task<Result<std::vector<BitmapInfo>>> bitmaps() override;
  Task<Status> add_bitmap(BitmapInfo bitmap) override;
  Task<Status> remove_bitmap(std::string name) override;
  Task<Status> clear_bitmap(std::string name) override;
  Task<Status> enable_bitmap(std::string name, bool enabled) override;
  Task<Result<BitmapRun>> bitmap_run(std::string name, u64 offset, u64 bytes) override;
  Task<Status> set_bitmap(std::string name, u64 offset, u64 bytes) override;

 private:
  Status check_write(u64 offset, u64 size) const;
  Status check_changeable() const;
  /// After a change: the corrupt mark if damage was found, and the flush that FUA asks for.
  Task<Status> finish_write(Status status, u32 flags);
  bool tracks_writes() const;

  Core core_;
  Graph* graph_;
  OpenMode mode_;
  bool discard_ = true;
  std::unique_ptr<Loop::Timer> cleaning_;
};

}  // namespace atl::block::qcow2
