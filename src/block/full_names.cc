// What stands for a node on a command line, and in images that name it as their backing file.
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/json_text.h"
#include "block/chain.h"
#include "block/driver.h"

namespace atl::block {
namespace {

/// The options that change what a node shows. Where one was given, the file's name alone does not say what it is.
constexpr struct {
  std::string_view driver;
  std::string_view keys[4];
} kSignificant[] = {
    {"raw", {"offset", "size"}},
    {"qcow2", {"encrypt"}},
    {"luks", {"key-secret"}},
    {"throttle", {"throttle-group"}},
    {"copy-on-read", {"bottom"}},
    {"quorum", {"vote-threshold", "blkverify", "rewrite-corrupted", "read-pattern"}},
    {"blkdebug", {"config", "inject-error", "set-state"}},
    {"null-co", {"size", "read-zeroes"}},
    {"null-aio", {"size", "read-zeroes"}},
};

void put_flat(Json& out, const std::string& key, const Json& value) {
  if (!value.is_structured()) {
    out[key] = value;
    return;
  }
  size_t index = 0;
  for (const auto& [inner, member] : value.items())
    put_flat(out, fmt::format("{}.{}", key, value.is_array() ? std::to_string(index++) : inner), member);
}

Json significant_options(std::string_view driver, const Json& given) {
  Json options = Json::object();
  for (const auto& row : kSignificant) {
    if (row.driver != driver) continue;
    for (std::string_view key : row.keys)
      if (!key.empty() && given.contains(std::string(key))) put_flat(options, std::string(key), given[std::string(key)]);
  }
  return options;
}

/// Test doubles have names of their own that hold those of two.
std::string double_name(std::string_view driver, const Json& options, std::span<const std::string> below) {
  if (std::ranges::any_of(below, &std::string::empty)) return {};
  if (driver == "blkverify" && below.size() == 2) return fmt::format("blkverify:{}:{}", below[1], below[0]);
  if (driver != "blkdebug" || below.size() != 1) return {};
  const bool only_config = options.empty() || (options.size() == 1 && options.contains("config"));
  return only_config ? fmt::format("blkdebug:{}:{}", options.value("config", std::string()), below[0]) : std::string();
}

std::string shown_role(std::string_view driver, const std::string& role) {
  return driver == "blkdebug" && role == "file" ? "image" : role;
}

}  // namespace

/// Whether it does not stand on the backing file that its image records.
bool Graph::has_other_backing(const Node& node, const Json& options) const {
  Node& changing = const_cast<Node&>(node);
  Image* image = changing.image();
  if (!image) return false;
  const auto children = node.children();
  auto backing = std::ranges::find(children, "backing", &Child::role);
  if (backing == children.end() || !backing->node)
    return options.is_object() && options.contains("backing") && !image->backing_file().empty();
  std::string recorded = image->backing_file();
  if (recorded.empty()) return true;
  if (recorded.starts_with("file:")) recorded.erase(0, 5);
  const std::string shown = name_of(*below_filters(backing->node));
  return shown != resolve_backing_name(recorded, node.info().filename) && shown != recorded;
}

Graph::Described Graph::describe(const Node& node) const {
  const NodeInfo info = node.info();
  auto living = living_.find(info.node_name);
  const Json given = living == living_.end() ? Json() : living->second.options;
  const Driver* driver = find_driver(info.driver);
  const auto children = node.children();
  if (!driver && node.is_filter()) return describe(*children.front().node);   // a job's
  Json options = significant_options(info.driver, given.is_object() ? given : Json::object());
  const bool other_backing = has_other_backing(node, given);
  bool exact = options.empty() && !other_backing && !node.is_filter();
  Json all = options;
  all["driver"] = info.driver;
  std::vector<std::string> below;
  for (const Child& child : children) {
    if (!child.node) continue;
    Described described = describe(*child.node);
    if (child.role == "backing" && !other_backing) continue;
    below.push_back(described.exact);
    const Driver* under = find_driver(child.node->info().driver);
    if (child.role == "file") exact = exact && under && under->protocol;
    all[shown_role(info.driver, child.role)] = std::move(described.options);
  }
  if (other_backing && !all.contains("backing")) all["backing"] = nullptr;
  if (info.driver == "blkdebug" || info.driver == "blkverify") return {double_name(info.driver, options, below), std::move(all)};
  if (driver && driver->protocol && children.empty()) {
    if (!info.filename.empty() && !info.driver.starts_with("null-")) all["filename"] = info.filename;
    return {options.empty() ? info.filename : std::string(), std::move(all)};
  }
  return {exact && !below.empty() ? below.front() : std::string(), std::move(all)};
}

std::string Graph::name_of(const Node& node) const {
  Described described = describe(node);
  return described.exact.empty() ? "json:" + json_text(described.options) : described.exact;
}

bool Graph::stays_readonly(const Node& node) const {
  auto living = living_.find(node.info().node_name);
  return living != living_.end() && living->second.readonly;
}

}  // namespace atl::block
