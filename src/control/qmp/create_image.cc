// blockdev-create: images made as a job.
#include <fmt/format.h>

#include <algorithm>

#include "block/job/create_job.h"
#include "control/qmp/job_support.h"

namespace atl::control {
namespace {

using block::NodePtr;

/// QMP's names of options are those of the command line with other dashes; "version" is "compat" there.
Json create_options_of(const Json& options) {
  Json named = Json::object();
  for (const auto& [key, value] : options.items()) {
    if (key == "driver" || key == "file" || key == "data-file" || key == "filename" || key == "location") continue;
    if (value.is_object()) {
      for (const auto& [inner, text] : value.items()) named[fmt::format("{}.{}", key, inner)] = text;
      continue;
    }
    std::string name = key == "version" ? "compat" : key;
    std::ranges::replace(name, '-', '_');
    named[name] = value;
  }
  return named;
}

Task<Result<NodePtr>> open_file_of_image(block::Graph& graph, Json file) {
  block::OpenMode mode;
  mode.no_probe = true;
  mode.discard = true;
  co_return co_await graph.open(std::move(file), std::move(mode));
}

/// A node by its name, or one that is opened for it. nullptr if the option is not there.
Result<NodePtr> node_of_option(QmpContext& c, BlockStore::Place*& place, const Json& options, const char* key) {
  auto file = options.find(key);
  if (file == options.end()) return NodePtr();
  if (!file->is_string()) {
    Json tree = *file;
    return finish_on(place->thread, [&] { return open_file_of_image(place->graph, tree); });
  }
  auto located = TRY(find_node(c, file->get<std::string>()));
  TRY(check_idle(located));
  place = located.place;
  return located.node;
}

}  // namespace

/// A format is made on a node that is there already, or is opened for it; a protocol makes what "filename" says.
Reply blockdev_create(QmpContext& c, const Json& arguments) {
  const Json& options = arguments["options"];
  const std::string driver = text_argument(options, "driver");
  block::JobOptions job = TRY(job_options(c, arguments, ""));
  job.auto_dismiss = false;
  block::CreateOptions create;
  create.driver = block::find_driver(driver);
  if (!create.driver) return Error(ErrorKind::Invalid, fmt::format("Parameter 'driver' does not accept value '{}'", driver));
  create.options = create_options_of(options);
  create.filename = text_argument(options, "filename");
  BlockStore::Place* place = store(c).places().front();
  if (create.driver->protocol && create.filename.empty()) return Error(ErrorKind::Invalid, "Parameter 'filename' is missing");
  if (!create.driver->protocol && !options.contains("file")) return Error(ErrorKind::Invalid, "Parameter 'file' is missing");
  create.file = TRY(node_of_option(c, place, options, "file"));
  create.data = TRY(node_of_option(c, place, options, "data-file"));
  if (create.data) create.options["data_file"] = create.data->info().node_name;
  TRY(start_job(c, *place, [&] { return block::make_create_job(place->graph, job, std::move(create)); }));
  return Json::object();
}

}  // namespace atl::control
