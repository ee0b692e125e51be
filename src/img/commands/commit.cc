// commit: writes what an image holds into its backing file, or with -b into one further down.
#include <filesystem>

#include "block/job/copy.h"
#include "img/command.h"
#include "img/nodes.h"
#include "img/numbers.h"

namespace atl::img {
namespace {

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code failed;
  return a == b || std::filesystem::equivalent(a, b, failed);
}

/// The image of that name below `top`: as the image above records it, or by any path to it. A relative one is relative to
/// the folder of the image above. nullptr if there is none.
NodePtr find_base(const NodePtr& top, const std::string& name) {
  for (NodePtr above = top, node; (node = block::backing_of(*above)); above = node) {
    const std::string recorded = above->image() ? above->image()->backing_file() : "";
    if (name == recorded) return node;
    const std::string wanted = block::full_backing_name(above->info().filename, name).value_or(name);
    if (is_same_file(node->info().filename, wanted)) return node;
  }
  return nullptr;
}

Result<NodePtr> choose_base(const NodePtr& top, const Arguments& arguments) {
  if (auto name = arguments.find("b")) {
    NodePtr base = find_base(top, *name);
    if (base) return base;
    return invalid(fmt::format("Did not find '{}' in the backing chain of '{}'", *name, arguments.words()[0]));
  }
  NodePtr base = block::backing_of(*top);
  if (base) return base;
  return invalid("Image does not have a backing file");
}

/// The base takes the top's content; it is on stable storage before the top lets go of anything.
Task<Status> commit_into(Tool& tool, NodePtr top, NodePtr base, u64 rate_bytes) {
  Status status = co_await base->set_readonly(false);
  CO_TRY(std::move(status));
  if (base->size_bytes() < top->size_bytes()) status = co_await base->resize(top->size_bytes(), block::Preallocation::Off);
  CO_TRY(std::move(status));
  block::RateLimit rate(rate_bytes);
  block::CopyOptions options;
  options.source = top.get();
  options.target = base.get();
  options.base = base.get();
  options.bytes = top->size_bytes();
  options.detect_zero_bytes = 0;
  if (rate_bytes) options.rate = &rate;
  options.progress = [&tool](u64 done, u64 total) {
    tool.progress().set(static_cast<double>(done) / static_cast<double>(total));
    return !tool.interrupted();
  };
  auto copied = co_await block::copy_range(tool.loop(), options);
  if (!copied && copied.error().kind() == ErrorKind::Cancelled)
    co_return Error(ErrorKind::Cancelled, "interrupted: both images keep their data; commit again to finish");
  if (!copied) co_return invalid("Block job failed: " + short_reason(copied.error()));
  co_return co_await base->close();
}

Task<Status> commit(Tool& tool, const Arguments& arguments, NodePtr top, u64 rate) {
  NodePtr base = CO_TRY(choose_base(top, arguments));
  tool.progress().set(0);
  Status status = co_await commit_into(tool, top, base, rate);
  CO_TRY(std::move(status));
  // What lies between would change its meaning if only the top were emptied.
  bool keep = arguments.has("d") || arguments.has("b");
  if (!keep && top->image()) {
    status = co_await top->image()->make_empty();
    if (!status) co_return invalid(fmt::format("Failed to empty {}: {}", tool.graph().name_of(*top), short_reason(status.error())));
  }
  status = co_await top->close();
  CO_TRY(std::move(status));
  tool.progress().set(1);
  tool.progress().end();
  tool.print("Image committed.\n");
  co_return Status{};
}

Task<int> run_commit(Tool& tool, Arguments arguments) {
  auto rate = parse_amount("rate limit", arguments.value("r", "0"));
  if (!rate) co_return tool.fail("{}", rate.error().text());
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  auto cache = parse_cache_mode(arguments.value("t", "writeback"));
  if (!cache) co_return tool.fail("Invalid cache option: {}", arguments.value("t"));
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.writable = true;
  request.cache = *cache;
  auto top = co_await tool.open(request);
  if (!top) co_return tool.fail("{}", top.error().text());
  Status status = co_await commit(tool, arguments, *top, *rate);
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kCommit{
    "commit",
    "[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate] [-d] [-p] filename",
    {kObject, kImageOpts, kQuiet, kFormat, kCache, kProgress, {'b', "", true}, {'r', "", true}, {'d', ""}},
    run_commit};

}  // namespace atl::img
