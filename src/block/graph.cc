// From option trees to nodes: common options, probing, nesting limits, and the names of what is open.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "block/detect_zeroes.h"
#include "block/driver.h"
#include "block/write_through.h"

namespace atl::block {
namespace {

constexpr u32 kMaxDepth = 200;  // nodes from a root to the deepest leaf

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

/// Options that every node has.
struct Common {
  std::string driver, node_name;
  DetectZeroes detect_zeroes = DetectZeroes::Off;
};

Result<bool> read_discard(OptionReader& reader, bool fallback) {
  std::string how = TRY(reader.string("discard", fallback ? "unmap" : "ignore"));
  if (how == "unmap" || how == "on") return true;
  if (how == "ignore" || how == "off") return false;
  return invalid("Invalid discard option");
}

Result<DetectZeroes> read_detect_zeroes(OptionReader& reader, bool discard) {
  std::string how = TRY(reader.string("detect-zeroes", "off"));
  if (how == "off") return DetectZeroes::Off;
  if (how == "on") return DetectZeroes::On;
  if (how != "unmap") return invalid(fmt::format("Parameter 'detect-zeroes' does not accept value '{}'", how));
  if (!discard) return invalid("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
  return DetectZeroes::Unmap;
}

Result<Common> read_common(OptionReader& reader, OpenMode& mode) {
  Common common;
  common.driver = TRY(reader.string("driver", {}));
  common.node_name = TRY(reader.string("node-name", {}));
  mode.readonly = TRY(reader.boolean("read-only", mode.readonly));
  mode.auto_readonly = TRY(reader.boolean("auto-read-only", mode.auto_readonly));
  bool share = TRY(reader.boolean("force-share", false));
  if (share && !mode.readonly) return invalid("force-share=on can only be used with read-only images");
  mode.locking = mode.locking && !share;
  mode.cache_direct = TRY(reader.boolean("cache.direct", mode.cache_direct));
  mode.cache_no_flush = TRY(reader.boolean("cache.no-flush", mode.cache_no_flush));
  // A format decides itself what to discard, so its file obeys unless told otherwise.
  mode.discard = TRY(read_discard(reader, mode.discard || mode.depth > 0));
  common.detect_zeroes = TRY(read_detect_zeroes(reader, mode.discard));
  return common;
}

/// Letters, digits, '-', '.', '_', beginning with a letter; at most 31.
Status check_well_formed(const std::string& name) {
  bool good = !name.empty() && name.size() <= 31 && isalpha(static_cast<unsigned char>(name[0]));
  for (char c : name) good = good && (isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_');
  if (good) return {};
  return invalid(fmt::format("Invalid node-name: '{}'", name));
}

/// A name that is itself a tree ("json:...") is merged in; what is there already counts.
Status merge_json_name(Json& options) {
  for (u32 i = 0; i < 8; ++i) {
    auto found = options.find("filename");
    if (found == options.end() || !found->is_string()) return {};
    const std::string name = *found->get_ptr<const std::string*>();
    if (!name.starts_with("json:")) return {};
    Json tree = TRY(parse_image_name(name));
    options.erase("filename");
    for (auto& [key, value] : tree.items()) {
      if (!options.contains(key)) options[key] = std::move(value);
    }
  }
  return invalid("json: names are nested too deeply");
}

/// "filename" beside a format's driver, or beside none, means the file below.
Status name_to_file(Json& options) {
  auto name = options.find("filename");
  if (name == options.end() || options.contains("file")) return {};
  if (!name->is_string()) return invalid("Parameter 'filename' expects a string");
  Json file = TRY(parse_image_name(*name->get_ptr<const std::string*>()));
  options.erase("filename");
  options["file"] = std::move(file);
  return {};
}

Task<Result<std::vector<u8>>> read_head(Node& file) {
  std::vector<u8> head(std::min<u64>(file.size_bytes(), kProbeBytes));
  iovec whole{head.data(), head.size()};
  Status status = co_await file.read(0, {&whole, 1});
  CO_TRY(std::move(status).context("Could not read image for determining its format"));
  co_return head;
}

}  // namespace

const Driver* probe_format(std::span<const u8> head, std::string_view filename) {
  const Driver* best = find_driver("raw");
  int score = 0;
  for (const Driver* driver : drivers()) {
    int found = driver->probe ? driver->probe(head, filename) : 0;
    if (found <= score) continue;
    score = found;
    best = driver;
  }
  return best;
}

Task<Result<NodePtr>> Graph::open(Json options, OpenMode mode) {
  if (const auto* name = options.get_ptr<const std::string*>()) {
    if (NodePtr found = find(*name)) co_return found;
    co_return Error(ErrorKind::NotFound, fmt::format("Cannot find device='' nor node-name='{}'", *name));
  }
  if (!options.is_object()) co_return invalid("A block device must be specified for \"file\"");
  if (mode.depth >= kMaxDepth) co_return invalid("the chain of backing files is too long, or a loop");
  Json nested = CO_TRY(nest_options(std::move(options)));
  co_return co_await open_tree(std::move(nested), std::move(mode));
}

Task<Result<NodePtr>> Graph::open_tree(Json options, OpenMode mode) {
  CO_TRY(merge_json_name(options));
  OptionReader reader(std::move(options), "block device");
  const bool readonly = reader.has("read-only");
  Common common = CO_TRY(read_common(reader, mode));
  if (!common.node_name.empty()) CO_TRY(check_name(common.node_name));
  if (common.node_name.empty()) common.node_name = generate_node_name();
  Json rest = reader.all();
  Living living{.readonly = readonly && mode.readonly};
  bool write_through = std::exchange(mode.write_through, false);
  Result<NodePtr> opened;
  if (common.driver.empty()) {
    opened = co_await open_probed(std::move(rest), std::move(mode), common.node_name);
  } else {
    const Driver* driver = find_driver(common.driver);
    if (!driver) co_return invalid(fmt::format("Unknown driver '{}'", common.driver));
    if (!driver->protocol) CO_TRY(name_to_file(rest));
    living.options = rest;
    if (mode.no_io) living.options.erase("backing");   // it is not looked at
    opened = co_await open_driver(*driver, std::move(rest), std::move(mode), common.node_name);
  }
  NodePtr node = CO_TRY(std::move(opened));
  if (common.detect_zeroes != DetectZeroes::Off) node = make_detect_zeroes(std::move(node), common.detect_zeroes);
  if (write_through && !node->info().readonly) node = make_write_through(std::move(node));
  std::erase_if(living_, [](const auto& entry) { return entry.second.node.expired(); });
  living.node = node;
  living_[common.node_name] = std::move(living);
  co_return node;
}

/// A tree without a driver: a protocol alone where a format asks for its file, else a file with the format that it shows.
Task<Result<NodePtr>> Graph::open_probed(Json options, OpenMode mode, std::string node_name) {
  if (mode.no_probe) {
    const auto name = options.find("filename");
    if (name == options.end() || !name->is_string()) co_return invalid("Must specify either driver or file");
    Json tree = CO_TRY(parse_image_name(*name->get_ptr<const std::string*>()));
    options.erase("filename");
    options.update(tree);
    OptionReader reader(std::move(options), "block device");
    std::string driver_name = CO_TRY(reader.string("driver", {}));
    const Driver* driver = find_driver(driver_name);
    if (!driver) co_return invalid(fmt::format("Unknown driver '{}'", driver_name));
    Json rest = reader.all();
    co_return co_await open_driver(*driver, std::move(rest), std::move(mode), std::move(node_name));
  }
  CO_TRY(name_to_file(options));
  if (!options.contains("file")) co_return invalid("Must specify either driver or file");
  OpenMode below = mode;
  below.no_probe = true;
  ++below.depth;
  Json child = options["file"];
  Result<NodePtr> opened = co_await open(std::move(child), std::move(below));
  NodePtr file = CO_TRY(std::move(opened));
  Result<std::vector<u8>> read = co_await read_head(*file);
  std::vector<u8> head = CO_TRY(std::move(read));
  const NodeInfo info = file->info();
  const Driver* driver = probe_format(head, info.filename);
  options["file"] = info.node_name;
  mode.probed = true;
  co_return co_await open_driver(*driver, std::move(options), std::move(mode), std::move(node_name));
}

Task<Result<NodePtr>> Graph::open_driver(const Driver& driver, Json options, OpenMode mode, std::string node_name) {
  if (!driver.open) co_return Error(ErrorKind::Unsupported, fmt::format("Driver '{}' cannot open images", driver.name), ENOTSUP);
  ++mode.depth;
  mode.no_probe = true;
  co_return co_await driver.open(*this, std::move(options), std::move(mode), std::move(node_name));
}

Task<Result<NodePtr>> Graph::open_name(std::string name, std::string format, OpenMode mode) {
  Json options = Json::object();
  options["filename"] = std::move(name);
  if (!format.empty()) options["driver"] = std::move(format);
  co_return co_await open(std::move(options), std::move(mode));
}

Task<Result<NodePtr>> Graph::open_backing(std::string name, std::string format, const Node& image, OpenMode mode) {
  const std::string own = image.info().filename;
  std::string resolved = resolve_backing_name(name, own);
  mode.ancestors.push_back(own);
  for (const std::string& ancestor : mode.ancestors) {
    if (ancestor == resolved)
      co_return invalid(fmt::format("Backing file '{}' of '{}' creates an infinite loop.", name, own));
  }
  mode.readonly = true;
  mode.no_probe = mode.probed = mode.check = false;
  Result<NodePtr> opened = co_await open_name(std::move(resolved), std::move(format), std::move(mode));
  co_return std::move(opened).context("Could not open backing file");
}

Task<Result<NodePtr>> Graph::open_backing(OptionReader& reader, std::string name, std::string format, const Node& image,
                                          OpenMode mode) {
  const bool given = reader.has("backing");
  Json option = reader.child("backing");
  if (mode.no_backing) co_return NodePtr();
  const auto* text = option.get_ptr<const std::string*>();
  if (given && (option.is_null() || (text && text->empty()))) co_return NodePtr();
  // Options without a file are for the one that the image records.
  if (given && !text && !name.empty() && !option.contains("driver") && !option.contains("filename") && !option.contains("file")) {
    const std::string own = image.info().filename;
    option["filename"] = resolve_backing_name(name, own);
    if (!format.empty()) option["driver"] = format;
  }
  if (given && (text || option.contains("driver") || option.contains("filename") || option.contains("file"))) {
    mode.readonly = true;
    mode.no_probe = mode.probed = mode.check = false;
    co_return co_await open(std::move(option), std::move(mode));
  }
  if (name.empty()) co_return NodePtr();
  co_return co_await open_backing(std::move(name), std::move(format), image, std::move(mode));
}

Result<std::string> Graph::secret(const std::string& id) const {
  auto found = secrets_.find(id);
  if (found != secrets_.end()) return found->second;
  return Error(ErrorKind::NotFound, fmt::format("No secret with id '{}'", id));
}

// --- names ---

Status Graph::check_name(const std::string& node_name) const {
  TRY(check_well_formed(node_name));
  if (find(node_name)) return Error(ErrorKind::Exists, fmt::format("Duplicate nodes with node-name='{}'", node_name));
  return {};
}

NodePtr Graph::find(const std::string& node_name) const {
  auto kept = nodes_.find(node_name);
  if (kept != nodes_.end()) return kept->second;
  auto living = living_.find(node_name);
  return living == living_.end() ? nullptr : living->second.node.lock();
}

Status Graph::name_node(NodePtr node) {
  std::string name = node->info().node_name;
  if (nodes_.contains(name)) return Error(ErrorKind::Exists, fmt::format("Duplicate nodes with node-name='{}'", name));
  living_[name].node = node;
  nodes_[std::move(name)] = std::move(node);
  return {};
}

void Graph::watch_name(const NodePtr& node) { living_[node->info().node_name].node = node; }

void Graph::forget(const std::string& node_name) { nodes_.erase(node_name); }

Task<Status> Graph::close_all() {
  std::vector<NodePtr> nodes = all_nodes();
  std::set<const Node*> below;  // parents pass it down
  for (const NodePtr& node : nodes) {
    for (const Child& child : node->children()) below.insert(child.node.get());
  }
  Status result;
  for (const NodePtr& node : nodes) {
    if (below.contains(node.get())) continue;
    Status status = co_await node->close();
    if (!status && result) result = std::move(status);
  }
  co_return result;
}

std::vector<NodePtr> Graph::all_nodes() const {
  std::vector<NodePtr> nodes;
  for (const auto& [name, living] : living_) {
    if (NodePtr node = living.node.lock()) nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace atl::block
