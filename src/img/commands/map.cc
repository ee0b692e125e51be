// map: where each run of bytes is stored.
#include <fmt/printf.h>

#include "img/command.h"
#include "img/nodes.h"
#include "img/numbers.h"
#include "img/print.h"
#include "img/report.h"

namespace atl::img {
namespace {

struct Entry {
  u64 start = 0;
  ChainStatus status;

  /// Whether `next` goes on where this ends, in every respect.
  bool joins(const Entry& next) const {
    const ChainStatus &a = status, &b = next.status;
    if (a.zero != b.zero || a.data != b.data || a.present != b.present || a.depth != b.depth || a.file != b.file) return false;
    if (a.offset.has_value() != b.offset.has_value()) return false;
    return !a.offset || *a.offset + a.bytes == *b.offset;
  }
};

class Printer {
 public:
  explicit Printer(OutputForm form) : json_(form == OutputForm::JsonText) {}

  void begin() { print_out("{}", json_ ? "[" : fmt::sprintf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File")); }
  Status print(const Entry& entry, bool last) { return json_ ? print_json(entry, last) : print_human(entry); }
  void end() {
    if (json_) print_out("]\n");
  }

 private:
  Status print_human(const Entry& entry) {
    const ChainStatus& s = entry.status;
    if (!s.data || s.zero) return {};
    if (!s.offset) return Error(ErrorKind::Unsupported, "File contains external, encrypted or compressed clusters.");
    print_out("{}", fmt::sprintf("%#-16x%#-16x%#-16x%s\n", entry.start, s.bytes, *s.offset, s.file ? s.file->info().filename : ""));
    return {};
  }
  Status print_json(const Entry& entry, bool last) {
    const ChainStatus& s = entry.status;
    print_out(R"({{ "start": {}, "length": {}, "depth": {}, "present": {}, "zero": {}, "data": {})", entry.start, s.bytes,
               s.depth, s.present, s.zero, s.data);
    if (s.offset) print_out(R"(, "offset": {})", *s.offset);
    print_out("{}", last ? "}" : "},\n");
    return {};
  }

  const bool json_;
};

Task<Status> print_map(Tool& tool, Node& node, u64 start, u64 end, OutputForm form) {
  Printer printer(form);
  printer.begin();
  Entry pending;
  for (u64 at = start; at < end;) {
    if (tool.interrupted()) co_return Error(ErrorKind::Cancelled, "interrupted");
    auto answer = co_await chain_status(node, at, end - at);
    if (!answer) co_return Error(ErrorKind::Io, "Failed to read image metadata: " + answer.error().text());
    Entry next{at, *answer};
    at += next.status.bytes;
    if (pending.status.bytes && pending.joins(next)) {
      pending.status.bytes += next.status.bytes;
      continue;
    }
    if (pending.status.bytes) CO_TRY(printer.print(pending, false));
    pending = next;
  }
  if (pending.status.bytes) CO_TRY(printer.print(pending, true));
  printer.end();
  co_return Status{};
}

Task<int> run_map(Tool& tool, Arguments arguments) {
  auto start = parse_amount("start offset", arguments.value("start-offset", "0"));
  if (!start) co_return tool.fail("{}", start.error().text());
  auto length = parse_amount("max length", arguments.value("max-length", std::to_string(kMaxSize)));
  if (!length) co_return tool.fail("{}", length.error().text());
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  auto form = output_form(tool, arguments);
  if (!form) co_return 1;
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.force_share = arguments.has("force-share");
  auto node = co_await tool.open(request);
  if (!node) co_return tool.fail("{}", node.error().text());
  u64 size = disk_bytes(**node);
  u64 end = *length < size && *start < size - *length ? *start + *length : size;
  Status status = co_await print_map(tool, **node, *start, end, *form);
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kMap{"map",
                   "[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] "
                   "[--output=human|json] [-U] filename",
                   {kObject, kImageOpts, kFormat, {'s', "start-offset", true}, {'l', "max-length", true}, kOutput, kForceShare},
                   run_map};

}  // namespace atl::img
