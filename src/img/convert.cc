#include "img/convert.h"

#include "base/strings.h"
#include "img/joined_node.h"
#include "img/offload.h"
#include "img/snapshot_param.h"

namespace atl::img {
namespace {

constexpr u64 kMostChunkBytes = 2 * kMiB, kChunkBytes = kMiB;   // of all workers together: less than the processor's cache

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

}  // namespace

Task<Status> Conversion::run() {
  tool_.progress().set(0);
  Status status = co_await open_sources();
  if (status) status = take_cache_mode();
  if (status && plan_.bitmaps) status = co_await check_bitmaps();
  if (status && !plan_.skip_create) status = co_await create_target();
  if (status) status = co_await open_target();
  if (status) status = co_await settle_target();
  if (status) status = co_await copy_all();
  if (status && plan_.bitmaps) status = co_await copy_bitmaps();
  if (status) {
    status = co_await target_->close();
    if (!status) status = invalid("error while closing: " + status.error().text());
  }
  if (status) tool_.progress().set(1);
  tool_.progress().end();
  co_return status;
}

Task<Status> Conversion::open_sources() {
  for (const std::string& name : plan_.sources) {
    OpenRequest request;
    request.name = name;
    request.format = plan_.source_format;
    request.image_opts = plan_.source_image_opts;
    request.force_share = plan_.force_share;
    request.cache = plan_.source_cache;
    auto node = co_await tool_.open(request);
    sources_.push_back(CO_TRY(std::move(node)));
  }
  if (plan_.snapshot && sources_.size() > 1)
    co_return invalid("No support for concatenating multiple snapshot");
  if (plan_.snapshot) {
    auto view = co_await open_snapshot(sources_[0], *plan_.snapshot);
    if (!view) co_return invalid("Failed to load snapshot: " + view.error().text());
    sources_[0] = *view;
  }
  for (const NodePtr& source : sources_) total_ += disk_bytes(*source);
  co_return Status{};
}

// --- the target ---

Result<CreateOptions> Conversion::target_options(const block::Driver& driver) {
  CreateOptions options = TRY(CreateOptions::of(driver, plan_.target));
  for (const std::string& text : plan_.option_texts) TRY(options.parse(text));
  if (!options.has("size")) TRY(options.set("size", std::to_string(total_)));
  if (plan_.backing && !driver.supports_backing)
    return invalid(fmt::format("Backing file not supported for file format '{}'", driver.name));
  if (plan_.backing) TRY(options.set("backing_file", *plan_.backing));
  if (plan_.backing_format) TRY(options.set("backing_fmt", *plan_.backing_format));
  has_backing_ = options.has("backing_file") && !options.get("backing_file").empty();
  if (has_backing_ && sources_.size() > 1)
    return invalid("Having a backing file for the target makes no sense when concatenating multiple input images");
  if (has_backing_ && !options.has("backing_fmt")) return invalid("Use of backing file requires explicit backing format");
  bool preallocated = options.has("preallocation") && options.get("preallocation") != "off";
  if (plan_.compressed && !driver.supports_compression) return invalid("Compression not supported for this file format");
  if (plan_.compressed && preallocated) return invalid("Compression and preallocation not supported at the same time");
  return options;
}

Status Conversion::take_cache_mode() {
  auto mode = parse_cache_mode(plan_.cache_name);
  if (!mode) return invalid("Invalid cache option: " + plan_.cache_name);
  plan_.cache = *mode;
  return {};
}

Task<Status> Conversion::create_target() {
  const block::Driver* driver = CO_TRY(creating_driver(plan_.target_format));
  CreateOptions options = CO_TRY(target_options(*driver));
  Status created = co_await tool_.graph().create(*driver, plan_.target, options.values());
  for (const auto& [name, value] : options.values().items())
    if (name.ends_with("key-secret")) secrets_[name] = value;
  if (!created)
    co_return invalid(fmt::format("{}: error while converting {}: {}", plan_.target, plan_.target_format, created.error().text()));
  co_return Status{};
}

Task<Status> Conversion::open_target() {
  OpenRequest request;
  request.name = plan_.target;
  request.format = plan_.target_image_opts ? "" : plan_.target_format;
  request.image_opts = plan_.target_image_opts;
  request.writable = true;
  request.cache = plan_.cache;
  request.more_options = secrets_;
  auto node = co_await tool_.open(request);
  target_ = CO_TRY(std::move(node));
  co_return Status{};
}

/// What the copy has to know about the target that is there now.
Task<Status> Conversion::settle_target() {
  if (plan_.skip_create) {
    const block::Driver* driver = block::find_driver(format_of(*target_));
    if (plan_.compressed && !(driver && driver->supports_compression))
      co_return invalid("Compression not supported for this file format");
    created_zero_ = plan_.target_is_zero;
    has_backing_ = plan_.backing.has_value() && target_->image();
    if (disk_bytes(*target_) < total_) co_return invalid("output file is smaller than input file");
    co_return Status{};
  }
  if (has_backing_ || plan_.sparse_bytes == 0) co_return Status{};
  auto zero = co_await is_known_zero(*target_);
  created_zero_ = CO_TRY(std::move(zero));
  co_return Status{};
}

// --- the data ---

Error Conversion::copy_error(Error error) const {
  if (error.kind() == ErrorKind::Cancelled)
    return Error(ErrorKind::Cancelled, fmt::format("interrupted: {} is incomplete", plan_.target));
  return error;
}

block::CopyOptions Conversion::copy_options(Node& source) {
  block::CopyOptions options;
  options.source = &source;
  options.target = target_.get();
  options.bytes = disk_bytes(source);
  options.workers = plan_.workers;
  options.chunk_bytes = kChunkBytes;
  options.in_order = plan_.in_order;
  options.target_is_zero = created_zero_;
  options.compressed = plan_.compressed;
  if (block::Image* image = target_->image()) options.cluster_bytes = image->cluster_bytes();
  // A compressed cluster is unpacked as a whole for every request that touches it.
  const u64 source_cluster = source.image() ? source.image()->cluster_bytes() : 0;
  options.chunk_bytes = std::max({options.chunk_bytes, options.cluster_bytes, std::min(source_cluster, kMostChunkBytes)});
  options.detect_zero_bytes = plan_.sparse_bytes;
  options.fill = plan_.sparse_bytes == 0;
  options.top_only = has_backing_;
  options.salvage = plan_.salvage;
  options.on_salvaged = [this](u64 offset, u64, const Error& error) {
    tool_.error("warning: error while reading offset {}: {}", offset, short_reason(error));
  };
  if (plan_.rate) options.rate = &rate_;
  options.progress = [this](u64 done, u64) {
    tool_.progress().set(static_cast<double>(done) / static_cast<double>(std::max<u64>(total_, 1)));
    return !tool_.interrupted();
  };
  return options;
}

Task<Status> Conversion::copy_all() {
  const NodePtr source = sources_.size() == 1 ? sources_[0] : join_nodes(sources_);
  if (plan_.offload) {
    auto done = co_await offload_copy(tool_, *source, *target_, 0);
    if (CO_TRY(std::move(done))) co_return Status{};  // else by hand
  }
  auto copied = co_await block::copy_range(tool_.loop(), copy_options(*source));
  if (!copied) co_return copy_error(std::move(copied).error());
  co_return Status{};
}

// --- bitmaps ---

Task<Status> Conversion::check_bitmaps() {
  if (sources_.size() > 1) co_return invalid("Copying bitmaps only possible with single source");
  block::Image* image = sources_[0]->image();
  Result<std::vector<block::BitmapInfo>> listed = invalid("");
  if (image) listed = co_await image->bitmaps();
  if (!listed) co_return invalid("Source lacks bitmap support");
  for (block::BitmapInfo& bitmap : *listed) {
    if (bitmap.in_use && !plan_.skip_broken_bitmaps)
      co_return invalid(fmt::format("Cannot copy inconsistent bitmap '{}'\nTry --skip-broken-bitmaps, or use '{} bitmap --remove'",
                                    bitmap.name, tool_.program()));
    if (bitmap.in_use)
      tool_.error("warning: Skipping inconsistent bitmap '{}'", bitmap.name);
    else
      bitmap_list_.push_back(bitmap);
  }
  co_return Status{};
}

Task<Status> Conversion::copy_bitmaps() {
  block::Image* target = target_->image();
  if (!target) co_return invalid(fmt::format("Format driver '{}' does not support bitmaps", format_of(*target_)));
  for (block::BitmapInfo bitmap : bitmap_list_) {
    bitmap.dirty_bytes = 0;
    bool enabled = bitmap.enabled;
    bitmap.enabled = false;  // its bits are set by hand
    Status added = co_await target->add_bitmap(bitmap);
    if (!added) co_return invalid(fmt::format("Failed to create bitmap {}: {}", bitmap.name, added.error().text()));
    Status merged = co_await merge_bitmap(*sources_[0]->image(), bitmap.name, *target, bitmap.name, total_);
    if (merged && enabled) merged = co_await target->enable_bitmap(bitmap.name, true);
    if (!merged) co_return invalid(fmt::format("Failed to populate bitmap {}: {}", bitmap.name, merged.error().text()));
  }
  co_return Status{};
}

Task<Status> merge_bitmap(block::Image& source, std::string source_name, block::Image& target, std::string target_name,
                          u64 disk_bytes) {
  for (u64 at = 0; at < disk_bytes;) {
    auto found = co_await source.bitmap_run(source_name, at, disk_bytes - at);
    auto run = CO_TRY(std::move(found));
    if (run.dirty) {
      Status set = co_await target.set_bitmap(target_name, at, run.bytes);
      CO_TRY(std::move(set));
    }
    at += run.bytes;
  }
  co_return Status{};
}

}  // namespace atl::img
