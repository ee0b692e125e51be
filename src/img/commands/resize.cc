// resize: grows an image, or shrinks it with --shrink.
#include "base/strings.h"
#include "img/command.h"
#include "img/nodes.h"
#include "img/numbers.h"

namespace atl::img {
namespace {

/// "+5M", "-5M" or "5M".
struct SizeChange {
  enum Kind : u8 { To, Up, Down } kind = To;
  u64 bytes = 0;

  /// 0 or less is no size.
  i64 applied_to(u64 current) const {
    i64 now = static_cast<i64>(current), amount = static_cast<i64>(std::min(bytes, kMaxSize));
    if (kind == To) return amount;
    if (kind == Down) return now - amount;
    i64 sum = 0;
    return __builtin_add_overflow(now, amount, &sum) ? -1 : sum;
  }
};

Result<SizeChange> parse_change(std::string_view text) {
  SizeChange change;
  if (text.starts_with('+') || text.starts_with('-')) {
    change.kind = text[0] == '+' ? SizeChange::Up : SizeChange::Down;
    text.remove_prefix(1);
  }
  auto bytes = parse_size(text);
  if (!bytes)
    return Error(ErrorKind::Invalid,
                 "Parameter 'size' expects a non-negative number below 2^64\n"
                 "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.");
  change.bytes = *bytes;
  return change;
}

/// The size comes last, whatever it looks like.
Result<std::vector<std::string>> hide_size(std::vector<std::string> words) {
  if (words.size() < 2) return Error(ErrorKind::Invalid, "Not enough arguments");
  words.back() = fmt::format("={}", words.back());
  return words;
}

Task<Status> resize_image(Tool& tool, Node& node, SizeChange change, const Arguments& arguments) {
  auto how = block::parse_preallocation(arguments.value("preallocation", "off"));
  if (!how)
    co_return Error(ErrorKind::Invalid, fmt::format("Invalid preallocation mode '{}'", arguments.value("preallocation")));
  u64 current = node.size_bytes();
  i64 wanted = change.applied_to(current);
  if (wanted <= 0) co_return Error(ErrorKind::Invalid, "New image size must be positive");
  u64 size = static_cast<u64>(wanted);
  if (size <= current && *how != block::Preallocation::Off)
    co_return Error(ErrorKind::Invalid, "Preallocation can only be used for growing images");
  if (size < current && !arguments.has("shrink"))
    co_return Error(ErrorKind::Invalid,
                    "Use the --shrink option to perform a shrink operation.\fwarning: Shrinking an image will delete "
                    "all data beyond the shrunken image's end. Before performing such an operation, make sure there is no "
                    "important data there.");
  Status status = co_await node.resize(size, *how);
  CO_TRY(std::move(status));
  status = co_await node.close();
  CO_TRY(std::move(status));
  tool.print("Image resized.\n");
  co_return Status{};
}

Task<int> run_resize(Tool& tool, Arguments arguments) {
  if (arguments.words().size() != 2) co_return tool.usage_error("Expecting image file name and size");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  auto change = parse_change(std::string_view(arguments.words()[1]).substr(1));
  if (!change) co_return tool.fail("{}", change.error().text());
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.writable = true;
  auto node = co_await tool.open(request);
  if (!node) co_return tool.fail("{}", node.error().text());
  Status status = co_await resize_image(tool, **node, *change, arguments);
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kResize{
    "resize",
    "[--object objectdef] [--image-opts] [-f fmt] [--preallocation=off|metadata|falloc|full] [-q] [--shrink] filename [+|-]size",
    {kObject, kImageOpts, kFormat, kQuiet, {0, "preallocation", true}, {0, "shrink"}},
    run_resize,
    hide_size};

}  // namespace atl::img
