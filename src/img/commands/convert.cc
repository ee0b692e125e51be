// convert: copies one or several images into a new one.
#include "img/convert.h"

#include "img/command.h"
#include "img/numbers.h"

namespace atl::img {
namespace {

constexpr u64 kMaxSparse = 16 * kMiB;
constexpr u64 kMaxWorkers = 16;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Result<u64> sparse_bytes(const std::string& text) {
  u64 bytes = TRY(parse_amount("buffer size for sparse output", text));
  if (bytes % block::kSectorBytes || bytes > kMaxSparse)
    return invalid(fmt::format("Invalid buffer size for sparse output specified. Valid sizes are multiples of {} up to {}. "
                               "Select 0 to disable sparse detection (fully allocates output).",
                               block::kSectorBytes, kMaxSparse));
  return bytes;
}

/// The plain values of a command line.
Result<ConvertPlan> read_plan(const Arguments& arguments) {
  ConvertPlan plan;
  plan.source_format = arguments.value("f");
  plan.target_format = arguments.value("O", "raw");
  plan.target_format_given = arguments.has("O");
  plan.backing = arguments.find("B");
  plan.backing_format = arguments.find("F");
  plan.option_texts = arguments.values("o");
  plan.snapshot = arguments.find("l");
  plan.source_image_opts = arguments.has("image-opts");
  plan.target_image_opts = arguments.has("target-image-opts");
  plan.target_is_zero = arguments.has("target-is-zero");
  plan.force_share = arguments.has("force-share");
  plan.compressed = arguments.has("c");
  plan.skip_create = arguments.has("n");
  plan.in_order = !arguments.has("W");
  plan.offload = arguments.has("C");
  plan.salvage = arguments.has("salvage");
  plan.bitmaps = arguments.has("bitmaps");
  plan.skip_broken_bitmaps = arguments.has("skip-broken-bitmaps");
  if (auto text = arguments.find("S")) plan.sparse_bytes = TRY(sparse_bytes(*text));
  if (auto text = arguments.find("m"))
    plan.workers = static_cast<u32>(TRY(parse_count(
        *text, 1, kMaxWorkers, "Invalid number of coroutines. Allowed number of coroutines is between 1 and 16")));
  if (auto text = arguments.find("r")) plan.rate = TRY(parse_amount("rate limit", *text));
  plan.sources = arguments.words();
  return plan;
}

/// What does not go together.
Status check_plan(const ConvertPlan& plan, const Arguments& arguments) {
  const struct {
    bool wrong;
    const char* text;
  } rules[] = {
      {!plan.skip_create && plan.target_image_opts, "--target-image-opts requires use of -n flag"},
      {plan.target_image_opts && plan.target_format_given, "--image-opts and --format are mutually exclusive"},
      {plan.skip_create && !plan.option_texts.empty(), "-o has no effect when skipping image creation"},
      {!plan.skip_create && plan.target_is_zero, "--target-is-zero requires use of -n flag"},
      {plan.skip_broken_bitmaps && !plan.bitmaps, "Use of --skip-broken-bitmaps requires --bitmaps"},
      {plan.offload && plan.salvage, "Cannot use copy offloading in salvaging mode"},
      {plan.offload && arguments.has("S"), "Cannot enable copy offloading when -S is used"},
      {plan.offload && plan.compressed, "Cannot enable copy offloading when -c is used"},
      {plan.sources.empty(), "Must specify image file name"},
  };
  for (const auto& rule : rules)
    if (rule.wrong) return invalid(rule.text);
  return {};
}

Task<int> run_convert(Tool& tool, Arguments arguments) {
  auto plan = read_plan(arguments);
  if (!plan) co_return tool.fail("{}", plan.error().text());
  auto wants_help = asks_option_help(plan->option_texts);
  if (!wants_help) co_return tool.fail("{}", wants_help.error().text());
  if (*wants_help) {
    auto help = creation_help(plan->target_format, plan->sources.empty() ? "" : plan->sources.back());
    if (!help) co_return tool.fail("{}", help.error().text());
    fmt::print("{}", *help);
    co_return 0;
  }
  if (plan->sources.size() == 1) plan->sources.clear();  // it is the target, and then there is no source
  if (!plan->sources.empty()) {
    plan->target = plan->sources.back();
    plan->sources.pop_back();
  }
  if (Status usable = check_plan(*plan, arguments); !usable) co_return tool.fail("{}", usable.error().text());
  auto source_cache = parse_cache_mode(arguments.value("T", "writeback"));
  if (!source_cache) co_return tool.fail("Invalid source cache option: {}", arguments.value("T"));
  plan->source_cache = *source_cache;
  plan->cache_name = arguments.value("t", "unsafe");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  Conversion conversion(tool, *std::move(plan));
  Status status = co_await conversion.run();
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kConvert{
    "convert",
    "[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps [--skip-broken-bitmaps]] [-U] [-C] "
    "[-c] [-p] [-q] [-n] [-f fmt] [-t cache] [-T cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] [-o options] "
    "[-l snapshot] [-S sparse_size] [-r rate] [-m requests] [-W] [--salvage] filename [filename2 [...]] output_filename",
    {kObject, kImageOpts, kForceShare, kFormat, kOutputFormat, kCreateOptions, kProgress, kQuiet, kCache, kSourceCache,
     {'B', "", true}, {'F', "", true}, {'c', ""}, {'C', ""}, {'n', ""}, {'l', "", true}, {'S', "", true}, {'m', "", true},
     {'W', ""}, {'r', "", true}, {0, "target-image-opts"}, {0, "target-is-zero"}, {0, "salvage"}, {0, "bitmaps"},
     {0, "skip-broken-bitmaps"}},
    run_convert};

}  // namespace atl::img
