// create: a new, empty image.
#include "img/command.h"
#include "img/create_options.h"
#include "img/numbers.h"
#include "img/target.h"

namespace atl::img {
namespace {

struct Wish {
  std::string filename, format;
  std::optional<u64> size_bytes;
  std::optional<std::string> backing, backing_format;
  std::vector<std::string> option_texts;
  bool unsafe = false;  // -u: the backing file is not looked at
};

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

/// -b, -F and the size beside those that -o may hold.
Status add_own_options(CreateOptions& options, const Wish& wish, const block::Driver& driver) {
  if (wish.backing && !driver.supports_backing)
    return invalid(fmt::format("Backing file not supported for file format '{}'", wish.format));
  if (wish.backing_format && !options.knows("backing_fmt"))
    return invalid(fmt::format("Backing format not supported for file format '{}'", wish.format));
  if (wish.backing) TRY(options.set("backing_file", *wish.backing));
  if (wish.backing_format) TRY(options.set("backing_fmt", *wish.backing_format));
  if (wish.size_bytes && options.has("size")) return invalid("The image size must be specified only once");
  if (wish.size_bytes) TRY(options.set("size", std::to_string(*wish.size_bytes)));
  if (options.has("backing_file") && options.get("backing_file").empty())
    return invalid("Expected backing file name, got empty string");
  if (options.has("backing_file") && options.get("backing_file") == wish.filename)
    return invalid("Error: Trying to create an image with the same filename as the backing file");
  return {};
}

/// Opens the backing file, for its size and its format.
Task<Result<NodePtr>> open_backing(Tool& tool, const Wish& wish, const CreateOptions& options) {
  std::string format = options.get("backing_fmt");
  auto hint = [](Error error) { return invalid(error.text() + "\nCould not open backing image."); };
  if (!format.empty() && !block::find_driver(format)) co_return hint(invalid(fmt::format("Unknown driver '{}'", format)));
  auto full = block::full_backing_name(wish.filename, options.get("backing_file"));
  block::OpenMode mode;
  mode.readonly = true;
  mode.no_io = true;
  auto node = co_await tool.graph().open_name(full.value_or(options.get("backing_file")), format, mode);
  if (!node) co_return hint(std::move(node).error());
  co_return node;
}

Task<Status> settle_backing(Tool& tool, const Wish& wish, CreateOptions& options) {
  if (!options.has("backing_file")) co_return Status{};
  bool has_format = options.has("backing_fmt");
  if (wish.unsafe) {
    if (!has_format) co_return invalid("Backing file specified without backing format");
    co_return Status{};
  }
  auto opened = co_await open_backing(tool, wish, options);
  NodePtr backing = CO_TRY(std::move(opened));
  if (!has_format)
    co_return invalid(
        fmt::format("Backing file specified without backing format\nDetected format of {}.", format_of(*backing)));
  if (!options.has("size")) CO_TRY(options.set("size", std::to_string(disk_bytes(*backing))));
  co_return Status{};
}

Task<Status> create(Tool& tool, Wish wish) {
  const block::Driver* driver = CO_TRY(creating_driver(wish.format));
  CreateOptions options = CO_TRY(CreateOptions::of(*driver, wish.filename));
  for (const std::string& text : wish.option_texts) CO_TRY(options.parse(text));
  CO_TRY(add_own_options(options, wish, *driver));
  Status settled = co_await settle_backing(tool, wish, options);
  CO_TRY(std::move(settled));
  if (!options.has("size")) co_return invalid("Image creation needs a size parameter");
  tool.print("Formatting '{}', fmt={}{}\n", wish.filename, wish.format, options.line());
  std::fflush(stdout);
  if (options.has("backing_fmt") && !options.has("backing_file"))
    co_return invalid("Backing format cannot be used without backing file");
  co_return co_await tool.graph().create(*driver, wish.filename, options.values());
}

Task<int> run_create(Tool& tool, Arguments arguments) {
  Wish wish;
  wish.format = arguments.value("f", "raw");
  wish.backing = arguments.find("b");
  wish.backing_format = arguments.find("F");
  wish.option_texts = arguments.values("o");
  wish.unsafe = arguments.has("u");
  const auto& words = arguments.words();
  if (!words.empty()) wish.filename = words[0];
  auto wants_help = asks_option_help(wish.option_texts);
  if (!wants_help) co_return tool.fail("{}", wants_help.error().text());
  if (*wants_help) {
    auto help = creation_help(wish.format, wish.filename);
    if (!help) co_return tool.fail("{}", help.error().text());
    fmt::print("{}", *help);
    co_return 0;
  }
  if (words.empty()) co_return tool.usage_error("Expecting image file name");
  if (words.size() > 2) co_return tool.usage_error("Unexpected argument: " + words[2]);
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  if (words.size() == 2) {
    auto size = parse_amount("image size", words[1]);
    if (!size) co_return tool.fail("{}", size.error().text());
    wish.size_bytes = *size;
  }
  Status status = co_await create(tool, wish);
  if (!status) co_return tool.fail("{}: {}", wish.filename, status.error().text());
  co_return 0;
}

}  // namespace

const Command kCreate{
    "create",
    "[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]",
    {kObject, kQuiet, kFormat, {'b', "", true}, {'F', "", true}, {'u', ""}, kCreateOptions},
    run_create};

}  // namespace atl::img
