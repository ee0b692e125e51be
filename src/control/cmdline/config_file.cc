// -readconfig: options from a file. A section is an option, its lines are the option's values, and a name in quotes is its id:
//
//   [drive "disk"]
//     file = "disk.qcow2"
#include <fcntl.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/fd.h"
#include "base/strings.h"
#include "control/cmdline/handlers.h"

namespace atl::control {
namespace {

constexpr u64 kMaxFileBytes = 1 * kMiB;

struct Section {
  std::string name;
  std::string list;  // "id=disk,file=disk.qcow2"
};

/// Sections whose option has another name.
constexpr std::pair<std::string_view, std::string_view> kOptionOf[] = {{"smp-opts", "smp"}, {"boot-opts", "boot"}, {"memory", "m"}};

void append_value(std::string& list, std::string_view key, std::string_view value) {
  if (!list.empty()) list += ',';
  list += fmt::format("{}=", key);
  for (char c : value) list += c == ',' ? std::string(",,") : std::string(1, c);
}

/// The text between the quotes that begin and end `text`.
std::optional<std::string_view> unquoted(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::nullopt;
  return text.substr(1, text.size() - 2);
}

/// [name] or [name "id"].
std::optional<Section> read_head(std::string_view line) {
  if (!line.ends_with(']')) return std::nullopt;
  line = trim(line.substr(1, line.size() - 2));
  const size_t blank = std::min(line.find(' '), line.size());
  Section section{.name = std::string(line.substr(0, blank)), .list = {}};
  if (blank == line.size()) return section;
  const auto id = unquoted(trim(line.substr(blank)));
  if (!id) return std::nullopt;
  append_value(section.list, "id", *id);
  return section;
}

Status read_line(std::string_view line, std::vector<Section>& sections) {
  if (line.empty() || line.front() == '#') return {};
  if (line.front() == '[') {
    auto section = read_head(line);
    if (!section) return invalid_option("a section is [group] or [group \"id\"]");
    sections.push_back(std::move(*section));
    return {};
  }
  const size_t equals = line.find('=');
  const auto value = equals == std::string_view::npos ? std::nullopt : unquoted(trim(line.substr(equals + 1)));
  if (!value) return invalid_option("a line is key = \"value\"");
  if (sections.empty()) return invalid_option("no group defined");
  append_value(sections.back().list, trim(line.substr(0, equals)), *value);
  return {};
}

Result<std::vector<Section>> read_sections(std::string_view text, const std::string& path) {
  std::vector<Section> sections;
  unsigned number = 0;
  for (auto line : split(text, '\n'))
    TRY(read_line(trim(line), sections).context(fmt::format("{}:{}", path, ++number)));
  return sections;
}

std::string_view option_of(std::string_view section) {
  auto at = std::ranges::find(kOptionOf, section, &std::pair<std::string_view, std::string_view>::first);
  return at == std::end(kOptionOf) ? section : at->second;
}

}  // namespace

Status option_read_config(Builder& b, const OptionUse& use) {
  const std::string text = TRY(read_file(use.value, kMaxFileBytes));
  for (const Section& section : TRY(read_sections(text, use.value))) {
    const Handler handler = listed_option(option_of(section.name));
    if (!handler) return invalid_option(fmt::format("There is no option group '{}'", section.name));
    TRY(handler(b, {.name = fmt::format("[{}]", section.name), .value = section.list}).context(use.value));
  }
  return {};
}

}  // namespace atl::control
