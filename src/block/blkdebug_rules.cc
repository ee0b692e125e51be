#include "block/blkdebug_rules.h"

#include <fmt/format.h>

#include "base/fd.h"
#include "base/key_values.h"
#include "base/strings.h"

namespace atl::block {
namespace {

constexpr u64 kMaxConfigBytes = kMiB;

constexpr std::string_view kIoNames[] = {"read", "write", "write-zeroes", "discard", "flush", "block-status"};

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Result<DebugRule> read_rule(OptionReader& reader, bool injects) {
  DebugRule rule;
  rule.event = TRY(reader.required_string("event"));
  rule.state = TRY(reader.number("state", 0));
  if (!injects) {
    rule.new_state = TRY(reader.number("new_state", 0));
    TRY(reader.finish());
    return rule;
  }
  rule.os_errno = static_cast<int>(TRY(reader.number("errno", EIO)));
  if (rule.os_errno <= 0 || rule.os_errno > 4095) return invalid("blkdebug: errno is out of range");
  std::string kind = TRY(reader.string("iotype", {}));
  for (size_t i = 0; i < std::size(kIoNames); ++i)
    if (kind == kIoNames[i]) rule.kinds = {static_cast<DebugIo>(i)};
  if (!kind.empty() && rule.kinds.empty()) return invalid(fmt::format("Invalid iotype '{}'", kind));
  std::string sector = TRY(reader.string("sector", "-1"));
  if (sector != "-1") {
    rule.sector = parse_u64(sector);
    if (!rule.sector) return invalid(fmt::format("Invalid sector '{}'", sector));
  }
  rule.once = TRY(reader.boolean("once", false));
  rule.immediately = TRY(reader.boolean("immediately", false));
  TRY(reader.finish());
  return rule;
}

Status read_list(Json list, bool injects, std::vector<DebugRule>& rules) {
  if (list.is_null()) return {};
  if (!list.is_array()) return invalid("blkdebug: inject-error and set-state must be lists");
  for (Json& item : list) {
    OptionReader reader(std::move(item), "blkdebug");
    rules.push_back(TRY(read_rule(reader, injects)));
  }
  return {};
}

}  // namespace

Result<std::vector<DebugRule>> read_debug_rules(OptionReader& reader) {
  std::vector<DebugRule> rules;
  std::string path = TRY(reader.string("config", {}));
  if (!path.empty()) {
    std::string text = TRY(read_file(path, kMaxConfigBytes).context("Could not read blkdebug config file"));
    rules = TRY(parse_debug_config(text).context(path));
  }
  TRY(read_list(reader.child("inject-error"), true, rules));
  TRY(read_list(reader.child("set-state"), false, rules));
  return rules;
}

Result<std::vector<DebugRule>> parse_debug_config(std::string_view text) {
  std::vector<DebugRule> rules;
  std::string section;
  Json values = Json::object();
  auto finish_section = [&]() -> Status {
    if (section.empty()) return {};
    OptionReader reader(std::move(values), "blkdebug");
    values = Json::object();
    rules.push_back(TRY(read_rule(reader, section == "inject-error")));
    return {};
  };
  for (std::string_view line : split(text, '\n')) {
    line = trim(line);
    if (line.empty() || line[0] == '#') continue;
    if (line[0] == '[') {
      TRY(finish_section());
      section = std::string(line.substr(1, line.find_first_of(" ]") - 1));
      if (section != "inject-error" && section != "set-state") return invalid(fmt::format("unknown section '{}'", section));
      continue;
    }
    size_t equals = line.find('=');
    if (equals == line.npos || section.empty()) return invalid(fmt::format("cannot understand '{}'", line));
    std::string_view value = trim(line.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    values[std::string(trim(line.substr(0, equals)))] = std::string(value);
  }
  TRY(finish_section());
  return rules;
}

}  // namespace atl::block
