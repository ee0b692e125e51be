// info: what an image is, and with --backing-chain what it stands on.
#include <set>

#include "block/image_info.h"
#include "img/command.h"
#include "img/nodes.h"
#include "img/print.h"
#include "img/report.h"

namespace atl::img {
namespace {

using block::ImageFacts;

constexpr size_t kMaxChain = 200;

std::string backing_line(const ImageFacts& f) {
  std::string line = "backing file: " + f.backing;
  if (!f.full_backing) return line + " (cannot determine actual path)\n";
  if (*f.full_backing != f.backing) line += fmt::format(" (actual path: {})", *f.full_backing);
  return line + "\n";
}

std::string human_text(const ImageFacts& f) {
  std::string text = fmt::format("image: {}\nfile format: {}\nvirtual size: {} ({} bytes)\ndisk size: {}\n", f.filename, f.format,
                                 size_text(f.virtual_bytes), f.virtual_bytes,
                                 f.actual_bytes ? size_text(*f.actual_bytes) : "unavailable");
  if (f.encrypted) text += "encrypted: yes\n";
  if (f.cluster_bytes) text += fmt::format("cluster_size: {}\n", f.cluster_bytes);
  if (f.dirty) text += "cleanly shut down: no\n";
  if (!f.backing.empty()) text += backing_line(f);
  if (!f.backing_format.empty()) text += fmt::format("backing file format: {}\n", f.backing_format);
  if (!f.snapshots.empty()) text += "Snapshot list:\n" + snapshot_table(f.snapshots);
  if (!f.specific.is_null()) text += "Format specific information:\n" + human_lines(f.specific, 1);
  return text;
}

/// The image and, if asked for, everything below it; each opened on its own, as its header is all that is looked at.
Task<Result<std::vector<ImageFacts>>> collect_chain(Tool& tool, OpenRequest request, bool whole_chain) {
  std::vector<ImageFacts> chain;
  std::set<std::string> seen;
  while (true) {
    if (!seen.insert(request.name).second || chain.size() >= kMaxChain)
      co_return Error(ErrorKind::Invalid, fmt::format("Backing file '{}' creates an infinite loop.", request.name));
    auto opened = co_await tool.open(request);
    NodePtr node = CO_TRY(std::move(opened));
    auto facts = co_await block::collect_facts(tool.graph(), *node);
    chain.push_back(CO_TRY(std::move(facts)));
    const ImageFacts& last = chain.back();
    if (!whole_chain || last.backing.empty()) co_return chain;
    if (!last.full_backing)
      co_return Error(ErrorKind::Invalid,
                      fmt::format("Could not determine the backing file name of '{}'", last.filename));
    request.name = *last.full_backing;
    request.format = last.backing_format;
    request.image_opts = false;
  }
}

void print_chain(const std::vector<ImageFacts>& chain, OutputForm form, bool whole_chain) {
  Json list = Json::array();
  std::string text;
  for (const ImageFacts& facts : chain) {
    if (!text.empty()) text += "\n";
    text += human_text(facts);
    list.push_back(block::image_json(facts));
  }
  if (form == OutputForm::JsonText) text = json_text(whole_chain ? list : list[0], true) + "\n";
  print_out("{}", text);
}

Task<int> run_info(Tool& tool, Arguments arguments) {
  auto form = output_form(tool, arguments);
  if (!form) co_return 1;
  if (arguments.words().size() != 1) co_return tool.usage_error("Expecting one image file name");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  OpenRequest request{.name = arguments.words()[0],
                      .format = arguments.value("f"),
                      .image_opts = arguments.has("image-opts"),
                      .force_share = arguments.has("force-share"),
                      .no_backing = true,
                      .no_io = true};
  bool whole_chain = arguments.has("backing-chain");
  auto chain = co_await collect_chain(tool, request, whole_chain);
  if (!chain) co_return tool.fail("{}", chain.error().text());
  print_chain(*chain, *form, whole_chain);
  co_return 0;
}

}  // namespace

const Command kInfo{
    "info",
    "[--object objectdef] [--image-opts] [-f fmt] [--output=human|json] [--backing-chain] [-U] filename",
    {kObject, kImageOpts, kFormat, kOutput, kForceShare, {0, "backing-chain"}},
    run_info};

}  // namespace atl::img
