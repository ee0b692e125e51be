// dd: copies blocks from one image into a new one, with operands as dd(1) has them.
#include "base/math.h"
#include "block/job/copy.h"
#include "img/command.h"
#include "img/numbers.h"
#include "img/target.h"

namespace atl::img {
namespace {

constexpr u64 kMaxBlock = 0x7fffffff;

struct Operands {
  std::string input, output;
  u64 block_bytes = 512;
  std::optional<u64> count;
  u64 skip = 0;
};

Status parse_operand(Operands& operands, const std::string& word) {
  size_t equals = word.find('=');
  std::string name = word.substr(0, equals);
  std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
  if (equals == std::string::npos) return Error(ErrorKind::Invalid, "unrecognized operand " + name);
  if (name == "if") operands.input = value;
  else if (name == "of") operands.output = value;
  else if (name == "bs") operands.block_bytes = TRY(parse_amount("bs", value, 1, kMaxBlock));
  else if (name == "count") operands.count = TRY(parse_amount("count", value));
  else if (name == "skip") operands.skip = TRY(parse_amount("skip", value));
  else return Error(ErrorKind::Invalid, "unrecognized operand " + name);
  return {};
}

/// What is copied of an input of `input_bytes`.
struct Range {
  u64 start = 0, bytes = 0;
  bool beyond_end = false;
};

Range range_of(const Operands& o, u64 input_bytes) {
  Range range;
  auto start = checked_mul(o.skip, o.block_bytes);
  range.beyond_end = !start || *start > input_bytes;
  if (range.beyond_end) return range;
  range.start = *start;
  range.bytes = input_bytes - *start;
  if (o.count) range.bytes = std::min(range.bytes, checked_mul(*o.count, o.block_bytes).value_or(range.bytes));
  return range;
}

Task<Status> make_target(Tool& tool, const block::Driver& driver, const Operands& operands, u64 bytes) {
  CreateOptions options = CO_TRY(CreateOptions::of(driver, operands.output));
  CO_TRY(options.set("size", std::to_string(bytes)));
  Status created = co_await tool.graph().create(driver, operands.output, options.values());
  co_return std::move(created).context(fmt::format("{}: error while creating output image of type '{}'", operands.output, driver.name));
}

Task<Status> copy(Tool& tool, NodePtr source, NodePtr target, Range range) {
  block::CopyOptions options;
  options.source = source.get();
  options.target = target.get();
  options.source_offset = range.start;
  options.bytes = range.bytes;
  auto zero = co_await is_known_zero(*target);
  options.target_is_zero = CO_TRY(std::move(zero));
  options.chunk_bytes = kMiB;
  options.progress = [&tool](u64, u64) { return !tool.interrupted(); };
  auto copied = co_await block::copy_range(tool.loop(), options);
  CO_TRY(std::move(copied));
  co_return co_await target->close();
}

Task<int> dd(Tool& tool, Operands operands, Arguments arguments) {
  OpenRequest request;
  request.name = operands.input;
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.force_share = arguments.has("force-share");
  auto source = co_await tool.open(request);
  if (!source) co_return tool.fail("{}", source.error().text());
  std::string format = arguments.value("O", "raw");
  const block::Driver* driver = block::find_driver(format);
  if (!driver) co_return tool.fail("Unknown file format");
  if (!driver->create) co_return tool.fail("Format driver '{}' does not support image creation", format);
  Range range = range_of(operands, disk_bytes(**source));
  Status status = co_await make_target(tool, *driver, operands, align_up(range.bytes, block::kSectorBytes));
  if (!status) co_return tool.fail("{}", status.error().text());
  if (range.beyond_end) {
    tool.error("{}: cannot skip to specified offset", operands.input);
    co_return 0;
  }
  OpenRequest output;
  output.name = operands.output;
  output.format = format;
  output.writable = true;
  auto target = co_await tool.open(output);
  if (!target) co_return tool.fail("{}", target.error().text());
  status = co_await copy(tool, *source, *target, range);
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

Task<int> run_dd(Tool& tool, Arguments arguments) {
  Operands operands;
  for (const std::string& word : arguments.words())
    if (Status parsed = parse_operand(operands, word); !parsed) co_return tool.fail("{}", parsed.error().text());
  if (operands.input.empty() || operands.output.empty()) co_return tool.fail("Must specify both input and output files");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  co_return co_await dd(tool, std::move(operands), std::move(arguments));
}

}  // namespace

const Command kDd{
    "dd",
    "[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output",
    {kObject, kImageOpts, kForceShare, kFormat, kOutputFormat},
    run_dd};

}  // namespace atl::img
