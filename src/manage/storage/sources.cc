#include "manage/storage/sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/strings.h"
#include "manage/storage/definition.h"
#include "manage/storage/iscsi.h"
#include "manage/tool/run_tool.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

Error refusal(Code code, std::string text) { return {code, std::move(text), Part::Storage}; }

/// Host, and port if there is one, of the specification.
Result<std::string> host_of(const std::optional<std::string>& spec, std::string_view type) {
  if (!spec) return refusal(Code::InvalidArg, fmt::format("hostname must be specified for {} sources", type));
  Element source = TRY(xml::parse(*spec, "(storage_source_specification)", "source"));
  const Element* host = source.child("host");
  std::string name = host ? host->attribute("name") : "";
  if (name.empty() || name.front() == '-' || name.find_first_of(" \t\n/") != std::string::npos)
    return refusal(Code::XmlError, "missing storage pool source host name");
  std::string port = host->attribute("port");
  return port.empty() ? name : name + ":" + port;
}

Status add_groups(Element& list) {
  std::string text = TRY(
      run_tool_checked({.words = {"pvs", "--noheadings", "--separator", "|", "-o", "pv_name,vg_name"}, .input = {}}));
  for (std::string_view line : split(text, '\n')) {
    auto fields = split(trim(line), '|');
    if (fields.size() != 2 || fields[1].empty()) continue;
    auto of_group = [&](const Element& source) { return source.child_text("name") == fields[1]; };
    auto& sources = list.content();
    auto group = std::ranges::find_if(sources, of_group);
    Element& source = group != sources.end() ? *group : list.add("source");
    if (group == sources.end()) {
      source.add("name", fields[1]);
      source.add("format").set("type", "lvm2");
    }
    Element device("device");
    device.set("path", fields[0]);
    source.content().push_front(std::move(device));
  }
  return {};
}

Status add_exports(Element& list, const std::string& host) {
  std::string text =
      TRY(run_tool_checked({.words = {"showmount", "--no-headers", "--exports", host}, .input = {}, .timeout_s = 30}));
  for (std::string_view line : split(text, '\n')) {
    std::string_view path = trim(line).substr(0, trim(line).find_first_of(" \t"));
    if (!path.starts_with('/')) continue;
    Element& source = list.add("source");
    source.add("host").set("name", host);
    source.add("dir").set("path", path);
    source.add("format").set("type", "nfs");
  }
  return {};
}

Status add_targets(Element& list, const std::string& host) {
  size_t colon = host.find(':');
  for (const std::string& target : TRY(discover_targets(portal_of(host)))) {
    Element& source = list.add("source");
    source.add("host").set("name", host.substr(0, colon));
    if (colon != std::string::npos) source.child("host")->set("port", host.substr(colon + 1));
    source.add("device").set("path", target);
  }
  return {};
}

}  // namespace

Result<std::string> find_pool_sources(const std::string& type, const std::optional<std::string>& spec) {
  Element list("sources");
  if (type == "logical") {
    TRY(add_groups(list));
  } else if (type == "netfs") {
    const std::string host = TRY(host_of(spec, type));
    TRY(add_exports(list, host));
  } else if (type == "iscsi") {
    const std::string host = TRY(host_of(spec, type));
    TRY(add_targets(list, host));
  } else if (is_pool_type(type)) {
    return refusal(Code::NoSupport, fmt::format("pool type '{}' does not support source discovery", type));
  } else {
    return refusal(Code::InternalError, fmt::format("unknown storage pool type {}", type));
  }
  xml::print_as_pair(list, 0);
  return xml::write(list);
}

}  // namespace atl::manage
