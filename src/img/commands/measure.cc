// measure: how large the file of a new image would be.
#include "base/math.h"
#include "block/job/copy.h"
#include "img/command.h"
#include "img/create_options.h"
#include "img/nodes.h"
#include "img/numbers.h"
#include "img/report.h"
#include "img/snapshot_param.h"

namespace atl::img {
namespace {

constexpr u64 kDefaultCluster = 65536;

/// Bytes that hold data, counted in whole clusters as the target would allocate them.
Task<Result<u64>> count_data(Tool& tool, Node& node, u64 cluster) {
  u64 size = disk_bytes(node), data = 0;
  for (u64 at = 0; at < size;) {
    if (tool.interrupted()) co_return Error(ErrorKind::Cancelled, "interrupted");
    auto answer = co_await block::status_above(node, nullptr, at, size - at);
    block::BlockStatus status = CO_TRY(std::move(answer));
    u64 end = at + status.bytes;
    if (status.allocated && status.data && !status.zero) {
      end = std::min(align_up(end, cluster), align_up(size, cluster));
      data += end - align_down(at, cluster);
    }
    at = end;
  }
  co_return std::min(data, align_up(size, cluster));
}

struct Input {
  NodePtr node;    // nullptr: --size
  u64 size_bytes = 0, data_bytes = 0;
};

Task<Result<Input>> open_input(Tool& tool, const Arguments& arguments, u64 cluster) {
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.force_share = arguments.has("force-share");
  auto opened = co_await tool.open(request);
  Input input;
  input.node = CO_TRY(std::move(opened));
  if (auto snapshot = arguments.find("l")) {
    auto view = co_await open_snapshot(input.node, *snapshot);
    if (!view) co_return Error(ErrorKind::Invalid, "Failed to load snapshot: " + view.error().text());
    input.node = *view;
  }
  input.size_bytes = disk_bytes(*input.node);
  auto data = co_await count_data(tool, *input.node, cluster);
  input.data_bytes = CO_TRY(std::move(data));
  co_return input;
}

Result<const block::Driver*> measurable_driver(const std::string& format) {
  const block::Driver* driver = block::find_driver(format);
  if (!driver) return Error(ErrorKind::Invalid, fmt::format("Unknown file format '{}'", format));
  if (!driver->create)
    return Error(ErrorKind::Unsupported, fmt::format("Format driver '{}' does not support image creation", format));
  return driver;
}

Result<CreateOptions> parse_options(const block::Driver& driver, const Arguments& arguments) {
  CreateOptions options = TRY(CreateOptions::of(driver, ""));
  for (const std::string& text : arguments.values("o")) {
    if (Status parsed = options.parse(text); !parsed)
      return Error(ErrorKind::Invalid, fmt::format("{}\fInvalid options for file format '{}'",
                                                   parsed.error().text(), driver.name));
  }
  options.complete();
  return options;
}

/// Bytes that the persistent bitmaps of `image` would take in a qcow2 image: data, tables and the directory.
Task<Result<u64>> bitmap_bytes(block::Image& image, u64 disk_size, u64 cluster) {
  constexpr u64 kDirectoryEntryBytes = 24;  // before the name
  auto listed = co_await image.bitmaps();
  auto bitmaps = CO_TRY(std::move(listed));
  u64 total = 0, directory = 0;
  for (const block::BitmapInfo& bitmap : bitmaps) {
    u64 bits = align_up(disk_size, bitmap.granularity) / bitmap.granularity;
    u64 bytes = align_up(align_up(bits, 8) / 8, cluster);
    total += bytes + align_up(bytes / cluster * sizeof(u64), cluster);
    directory += align_up(kDirectoryEntryBytes + bitmap.name.size(), 8);
  }
  co_return total + align_up(directory, cluster);
}

void print_measurement(const block::Measurement& m, OutputForm form) {
  if (form == OutputForm::JsonText) {
    Json json{{"required", m.required}, {"fully-allocated", m.fully_allocated}};
    if (m.bitmaps) json["bitmaps"] = *m.bitmaps;
    fmt::print("{}\n", json_text(json, true));
    return;
  }
  fmt::print("required size: {}\nfully allocated size: {}\n", m.required, m.fully_allocated);
  if (m.bitmaps) fmt::print("bitmaps size: {}\n", *m.bitmaps);
}

Status check_arguments(const Arguments& arguments) {
  bool has_file = !arguments.words().empty();
  bool needs_file = arguments.has("f") || arguments.has("image-opts") || arguments.has("l");
  if (!has_file && needs_file) return Error(ErrorKind::Invalid, "--image-opts, -f, and -l require a filename argument.");
  if (!has_file && !arguments.has("size"))
    return Error(ErrorKind::Invalid, "Either --size N or one filename must be specified.");
  if (has_file && arguments.has("size"))
    return Error(ErrorKind::Invalid, "--size N cannot be used together with a filename.");
  if (arguments.words().size() > 1) return Error(ErrorKind::Invalid, "At most one filename argument is allowed.");
  return {};
}

Task<int> run_measure(Tool& tool, Arguments arguments) {
  auto form = output_form(tool, arguments);
  if (!form) co_return 1;
  auto size = parse_amount("image size", arguments.value("size", "0"));
  if (!size) co_return tool.fail("{}", size.error().text());
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  if (Status usable = check_arguments(arguments); !usable) co_return tool.fail("{}", usable.error().text());
  auto driver = measurable_driver(arguments.value("O", "raw"));
  if (!driver) co_return tool.fail("{}", driver.error().text());
  auto options = parse_options(**driver, arguments);
  if (!options) co_return tool.fail("{}", options.error().text());
  if (!(*driver)->measure) co_return tool.fail("Block driver '{}' does not support size measurement", (*driver)->name);
  Input input{nullptr, align_up(*size, block::kSectorBytes), 0};
  u64 cluster = parse_amount("", options->get("cluster_size")).value_or(kDefaultCluster);
  if (!is_power_of_two(cluster)) cluster = kDefaultCluster;
  if (!arguments.words().empty()) {
    auto opened = co_await open_input(tool, arguments, cluster);
    if (!opened) co_return tool.fail("{}", opened.error().text());
    input = *std::move(opened);
    // How much of it the backing file shares is not known.
    if (!options->get("backing_file").empty()) input.data_bytes = input.size_bytes;
  }
  auto measurement = (*driver)->measure(input.size_bytes, input.data_bytes, options->values());
  if (!measurement) co_return tool.fail("{}", measurement.error().text());
  block::Image* image = input.node && options->get("compat") != "0.10" ? input.node->image() : nullptr;
  if (image && std::string_view((*driver)->name) == "qcow2" && format_of(*input.node) == "qcow2") {
    auto bitmaps = co_await bitmap_bytes(*image, input.size_bytes, cluster);
    if (!bitmaps) co_return tool.fail("{}", bitmaps.error().text());
    measurement->bitmaps = *bitmaps;
  }
  print_measurement(*measurement, *form);
  co_return 0;
}

}  // namespace

const Command kMeasure{
    "measure",
    "[--output=human|json] [-O output_fmt] [-o options] [--size N | [--object objectdef] [--image-opts] [-f fmt] [-l snapshot] "
    "filename]",
    {kObject, kImageOpts, kFormat, {'l', "", true}, kCreateOptions, kOutputFormat, kOutput, {0, "size", true}, kForceShare},
    run_measure};

}  // namespace atl::img
