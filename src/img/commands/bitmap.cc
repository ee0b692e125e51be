// bitmap: adds, removes, clears, switches and merges persistent dirty bitmaps, in the order of the command line.
#include "base/math.h"
#include "img/command.h"
#include "img/convert.h"
#include "img/nodes.h"
#include "img/numbers.h"

namespace atl::img {
namespace {

constexpr u64 kMaxGranularity = 0xffffffff;

struct Work {
  NodePtr node, source;  // `source`: where --merge finds its bitmaps
  std::string bitmap;
  std::optional<u64> granularity;
};

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

/// As qemu-img chooses: the cluster size, in bounds; 64 KiB without clusters.
u32 default_granularity(const block::Image& image) {
  constexpr u64 kSmallest = 4096, kLargest = 65536;
  u64 cluster = image.cluster_bytes();
  return static_cast<u32>(cluster ? std::clamp(cluster, kSmallest, kLargest) : kLargest);
}

Task<Status> add(block::Image& image, const Work& work) {
  block::BitmapInfo info;
  info.name = work.bitmap;
  u64 granularity = work.granularity.value_or(default_granularity(image));
  if (granularity < 512 || !is_power_of_two(granularity) || granularity > kMaxGranularity)
    co_return invalid("Granularity must be power of 2 and at least 512");
  info.granularity = static_cast<u32>(granularity);
  co_return co_await image.add_bitmap(std::move(info));
}

Task<Status> merge(block::Image& image, const Work& work, std::string source_name) {
  block::Image* source = (work.source ? work.source : work.node)->image();
  if (!source) co_return invalid(fmt::format("Dirty bitmap '{}' not found", source_name));
  co_return co_await merge_bitmap(*source, source_name, image, work.bitmap, disk_bytes(*work.node));
}

Task<Status> perform(const Work& work, Arguments::Option action) {
  block::Image* image = work.node->image();
  Error none(ErrorKind::Unsupported,
             fmt::format("Can't store persistent bitmaps to {}: Operation not supported", work.node->info().node_name));
  if (!image) co_return none;
  Status status;
  if (action.name == "add") status = co_await add(*image, work);
  else if (action.name == "remove") status = co_await image->remove_bitmap(work.bitmap);
  else if (action.name == "clear") status = co_await image->clear_bitmap(work.bitmap);
  else if (action.name == "enable") status = co_await image->enable_bitmap(work.bitmap, true);
  else if (action.name == "disable") status = co_await image->enable_bitmap(work.bitmap, false);
  else status = co_await merge(*image, work, action.value);
  if (!status && status.error().kind() == ErrorKind::Unsupported) co_return none;
  co_return status;
}

std::vector<Arguments::Option> actions_of(const Arguments& arguments) {
  std::vector<Arguments::Option> actions;
  for (const auto& option : arguments.options())
    for (const char* name : {"add", "remove", "clear", "enable", "disable", "merge"})
      if (option.name == name) actions.push_back(option);
  return actions;
}

Status check_arguments(const Arguments& arguments) {
  auto actions = actions_of(arguments);
  if (actions.empty())
    return invalid("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
  if (arguments.words().size() != 2) return invalid("Expecting filename and bitmap name");
  if (arguments.has("granularity") && !arguments.has("add")) return invalid("granularity only supported with --add");
  if (arguments.has("source-format") && !arguments.has("source-file")) return invalid("-F only supported with -b");
  if (arguments.has("source-file") && !arguments.has("merge"))
    return invalid("Merge bitmap source file only supported with --merge");
  return {};
}

Task<Result<Work>> open_work(Tool& tool, const Arguments& arguments) {
  Work work;
  work.bitmap = arguments.words()[1];
  if (auto text = arguments.find("granularity")) work.granularity = CO_TRY(parse_amount("granularity", *text, 1, kMaxSize));
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.writable = true;
  auto node = co_await tool.open(request);
  work.node = CO_TRY(std::move(node));
  if (arguments.has("source-file")) {
    OpenRequest source;
    source.name = arguments.value("source-file");
    source.format = arguments.value("source-format");
    auto opened = co_await tool.open(source);
    work.source = CO_TRY(std::move(opened));
  }
  co_return work;
}

Task<int> run_bitmap(Tool& tool, Arguments arguments) {
  if (Status usable = check_arguments(arguments); !usable) co_return tool.fail("{}", usable.error().text());
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  auto work = co_await open_work(tool, arguments);
  if (!work) co_return tool.fail("{}", work.error().text());
  Status status;
  for (const auto& action : actions_of(arguments)) {
    status = co_await perform(*work, action);
    if (!status) {
      tool.error("Operation {} on bitmap {} failed: {}", action.name, work->bitmap, status.error().text());
      break;
    }
  }
  Status closed = co_await work->node->close();
  if (!closed) tool.error("{}", closed.error().text());
  co_return status && closed ? 0 : 1;
}

}  // namespace

const Command kBitmap{
    "bitmap",
    "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] [-g granularity] "
    "[--object objectdef] [--image-opts | -f fmt] filename bitmap",
    {kObject, kImageOpts, kFormat, {'b', "source-file", true}, {'F', "source-format", true}, {'g', "granularity", true}, {0, "add"}, {0, "remove"}, {0, "clear"},
     {0, "enable"}, {0, "disable"}, {0, "merge", true}},
    run_bitmap};

}  // namespace atl::img
