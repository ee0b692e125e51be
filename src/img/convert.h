// The work of `convert`: sources opened and laid end to end, the target made, data copied, bitmaps after them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/job/copy.h"
#include "img/target.h"

namespace atl::img {

struct ConvertPlan {
  std::vector<std::string> sources;
  std::string target, source_format, target_format;
  bool target_format_given = false;
  std::optional<std::string> backing, backing_format, snapshot;
  std::vector<std::string> option_texts;
  bool source_image_opts = false, target_image_opts = false, target_is_zero = false, force_share = false;
  bool compressed = false, skip_create = false, in_order = true, offload = false, salvage = false;
  bool bitmaps = false, skip_broken_bitmaps = false;
  u64 sparse_bytes = 4096;
  u32 workers = 8;
  u64 rate = 0;  // bytes a second, 0: as fast as possible
  CacheMode cache, source_cache;
  std::string cache_name;   // of the target, read once the sources are open
};

class Conversion {
 public:
  Conversion(Tool& tool, ConvertPlan plan) : tool_(tool), plan_(std::move(plan)), rate_(plan_.rate) {}
  /// Errors are complete.
  Task<Status> run();

 private:
  Task<Status> open_sources();
  Status take_cache_mode();
  Task<Status> create_target();
  Result<CreateOptions> target_options(const block::Driver& driver);
  Task<Status> open_target();
  Task<Status> settle_target();
  Task<Status> copy_all();
  block::CopyOptions copy_options(Node& source);
  Task<Status> check_bitmaps();
  Task<Status> copy_bitmaps();
  Error copy_error(Error error) const;

  Tool& tool_;
  ConvertPlan plan_;
  block::RateLimit rate_;
  std::vector<NodePtr> sources_;
  NodePtr target_;
  std::vector<block::BitmapInfo> bitmap_list_;
  u64 total_ = 0;            // bytes of all sources
  Json secrets_ = Json::object();   // ids that the new target needs to be opened
  bool created_zero_ = false;
  bool has_backing_ = false;
};

/// The part of a bitmap's name and bits that convert and bitmap --merge share: sets in `target` what is set in `source`.
Task<Status> merge_bitmap(block::Image& source, std::string source_name, block::Image& target, std::string target_name,
                          u64 disk_bytes);

}  // namespace atl::img
