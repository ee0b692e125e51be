// check: looks for inconsistencies of an image's metadata, and repairs them with -r.
#include <cstring>

#include "img/command.h"
#include "img/nodes.h"
#include "img/report.h"

namespace atl::img {
namespace {

using block::CheckReport;
using block::Repair;

enum Outcome { kClean = 0, kFailed = 1, kCorrupt = 2, kLeaks = 3, kNoChecks = 63 };

std::string allocation_line(const CheckReport& r) {
  auto percent = [](u64 part, u64 all) { return static_cast<double>(part) * 100.0 / static_cast<double>(all); };
  return fmt::format("{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n", r.allocated_clusters,
                     r.total_clusters, percent(r.allocated_clusters, r.total_clusters),
                     percent(r.fragmented_clusters, r.allocated_clusters), percent(r.compressed_clusters, r.allocated_clusters));
}

std::string human_text(const CheckReport& r) {
  std::string text;
  if (!r.corruptions && !r.leaks && !r.check_errors) text += "No errors were found on the image.\n";
  if (r.corruptions)
    text += fmt::format(
        "\n{} errors were found on the image.\nData may be corrupted, or further writes to the image may corrupt it.\n",
        r.corruptions);
  if (r.leaks)
    text += fmt::format("\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no harm to data.\n",
                        r.leaks);
  if (r.check_errors) text += fmt::format("\n{} internal errors have occurred during the check.\n", r.check_errors);
  if (r.total_clusters && r.allocated_clusters) text += allocation_line(r);
  if (r.image_end_offset) text += fmt::format("Image end offset: {}\n", r.image_end_offset);
  return text;
}

Json json_of(const CheckReport& r, const std::string& filename, const std::string& format) {
  Json json{{"filename", filename}, {"format", format}, {"check-errors", r.check_errors}};
  const struct {
    const char* key;
    u64 value;
  } optional_fields[] = {
      {"image-end-offset", r.image_end_offset},
      {"corruptions", r.corruptions},
      {"leaks", r.leaks},
      {"corruptions-fixed", r.corruptions_fixed},
      {"leaks-fixed", r.leaks_fixed},
      {"total-clusters", r.total_clusters},
      {"allocated-clusters", r.allocated_clusters},
      {"fragmented-clusters", r.fragmented_clusters},
      {"compressed-clusters", r.compressed_clusters},
  };
  for (const auto& field : optional_fields)
    if (field.value) json[field.key] = field.value;
  return json;
}

Task<Result<CheckReport>> check_once(Tool& tool, block::Image& image, Repair repair) {
  auto report = co_await image.check(repair, tool.progress_function());
  if (report)
    for (const std::string& line : report->messages) fmt::print(stderr, "{}\n", line);
  co_return report;
}

/// After a repair the image is checked once more; what had been fixed stays in the report.
Task<Result<CheckReport>> check_image(Tool& tool, block::Image& image, Repair repair, OutputForm form) {
  auto first = co_await check_once(tool, image, repair);
  CheckReport report = CO_TRY(std::move(first));
  if (!report.corruptions_fixed && !report.leaks_fixed) co_return report;
  if (form == OutputForm::Human)
    tool.print("The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    {} corruptions\n\n"
               "Double checking the fixed image now...\n",
               report.leaks_fixed, report.corruptions_fixed);
  auto second = co_await check_once(tool, image, Repair::None);
  CheckReport final_report = CO_TRY(std::move(second));
  final_report.leaks_fixed = report.leaks_fixed;
  final_report.corruptions_fixed = report.corruptions_fixed;
  co_return final_report;
}

int outcome_of(Tool& tool, const CheckReport& report) {
  if (report.check_errors) {
    tool.error("Check failed");
    return kFailed;
  }
  if (report.corruptions) return kCorrupt;
  return report.leaks ? kLeaks : kClean;
}

std::optional<Repair> repair_of(const Arguments& arguments) {
  std::string text = arguments.value("repair");
  if (!arguments.has("repair")) return Repair::None;
  if (text == "leaks") return Repair::Leaks;
  if (text == "all") return Repair::All;
  return std::nullopt;
}

Task<int> check_opened(Tool& tool, NodePtr node, std::string filename, Repair repair, OutputForm form) {
  block::Image* image = node->image();
  Result<CheckReport> report = Error(ErrorKind::Unsupported, "");
  if (image) report = co_await check_image(tool, *image, repair, form);
  if (!report && report.error().kind() == ErrorKind::Unsupported) {
    tool.error("This image format does not support checks");
    co_return kNoChecks;
  }
  Status closed;
  if (repair != Repair::None) closed = co_await node->close();
  if (!report) co_return tool.fail("Check failed: {}", report.error().text());
  if (!closed) co_return tool.fail("Check failed: {}", closed.error().text());
  if (form == OutputForm::JsonText)
    tool.print("{}\n", json_text(json_of(*report, filename, format_of(*node)), true));
  else
    tool.print("{}", human_text(*report));
  co_return outcome_of(tool, *report);
}

Task<int> run_check(Tool& tool, Arguments arguments) {
  auto repair = repair_of(arguments);
  if (!repair)
    co_return tool.usage_error(
        fmt::format("Unknown option value for -r (expecting 'leaks' or 'all'): {}", arguments.value("repair")));
  auto form = output_form(tool, arguments);
  if (!form) co_return 1;
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  auto cache = parse_cache_mode(arguments.value("T", "writeback"));
  if (!cache) co_return tool.fail("Invalid source cache option: {}", arguments.value("T"));
  OpenRequest request;
  request.name = arguments.words()[0];
  request.format = arguments.value("f");
  request.image_opts = arguments.has("image-opts");
  request.writable = *repair != Repair::None;
  request.force_share = arguments.has("force-share");
  request.check = true;
  request.cache = *cache;
  auto node = co_await tool.open(request);
  if (!node) co_return tool.fail("{}", node.error().text());
  co_return co_await check_opened(tool, *node, request.name, *repair, *form);
}

}  // namespace

const Command kCheck{
    "check",
    "[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=human|json] [-r leaks|all] [-T cache] [-U] filename",
    {kObject, kImageOpts, kQuiet, kFormat, kOutput, {'r', "repair", true}, kSourceCache, kForceShare},
    run_check};

}  // namespace atl::img
