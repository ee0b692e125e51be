// amend: changes an image's options after its creation.
#include "img/command.h"
#include "img/create_options.h"
#include "img/nodes.h"

namespace atl::img {
namespace {

Error cannot_amend(std::string_view format) {
  return Error(ErrorKind::Unsupported, fmt::format("Format driver '{}' does not support option amendment", format));
}

Result<std::string> amend_help(const std::string& format) {
  const block::Driver* driver = block::find_driver(format);
  if (!driver) return Error(ErrorKind::Invalid, fmt::format("Unknown file format '{}'", format));
  if (driver->amend_options.empty()) return cannot_amend(format);
  return fmt::format("Amend options for '{}':\n", format) + option_help(driver->amend_options);
}

Result<CreateOptions> parse_options(const block::Driver& driver, const Arguments& arguments) {
  if (driver.amend_options.empty()) return cannot_amend(driver.name);
  CreateOptions options(driver.amend_options), creation(driver.create_options);
  for (const std::string& text : arguments.values("o")) {
    Status parsed = options.parse(text);
    if (parsed) continue;
    std::string reason = parsed.error().text();
    if (creation.parse(text)) reason += "\nThis option is only supported for image creation";
    return Error(ErrorKind::Invalid, reason);
  }
  return options;
}

Task<Status> amend(Tool& tool, const Arguments& arguments, CacheMode cache) {
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.writable = true;
  request.cache = cache;
  auto opened = co_await tool.open(request);
  NodePtr node = CO_TRY(std::move(opened));
  const block::Driver* driver = block::find_driver(format_of(*node));
  if (!driver || !node->image()) co_return cannot_amend(format_of(*node));
  CreateOptions options = CO_TRY(parse_options(*driver, arguments));
  tool.progress().set(0);
  Status status = co_await node->image()->amend(options.values(), arguments.has("force"), tool.progress_function());
  tool.progress().end();
  CO_TRY(std::move(status));
  co_return co_await node->close();
}

Task<int> run_amend(Tool& tool, Arguments arguments) {
  auto texts = arguments.values("o");
  if (texts.empty()) co_return tool.usage_error("Must specify options (-o)");
  auto wants_help = asks_option_help(texts);
  if (!wants_help) co_return tool.fail("{}", wants_help.error().text());
  if (*wants_help && arguments.has("f")) {
    auto help = amend_help(arguments.value("f"));
    if (!help) co_return tool.fail("{}", help.error().text());
    fmt::print("{}", *help);
    co_return 0;
  }
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  if (arguments.words().size() != 1) co_return tool.fail("Expecting one image file name");
  auto cache = parse_cache_mode(arguments.value("t", "writeback"));
  if (!cache) co_return tool.fail("Invalid cache option: {}", arguments.value("t"));
  Status status = co_await amend(tool, arguments, *cache);
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kAmend{
    "amend",
    "[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename",
    {kObject, kImageOpts, kProgress, kQuiet, kFormat, kCache, {0, "force"}, kCreateOptions},
    run_amend};

}  // namespace atl::img
