// -set group.id.key=value: a further value of an option that came before.
#include <fmt/format.h>

#include "base/key_values.h"
#include "control/cmdline/handlers.h"

namespace atl::control {
namespace {

struct Setting {
  std::string group, id, key, value;
};

Result<Setting> read_setting(const std::string& text) {
  const size_t first = text.find('.'), second = first == text.npos ? first : text.find('.', first + 1);
  const size_t equals = second == text.npos ? second : text.find('=', second + 1);
  if (equals == text.npos) return invalid_option(fmt::format("-set {}: group.id.key=value is expected", text));
  return Setting{text.substr(0, first), text.substr(first + 1, second - first - 1), text.substr(second + 1, equals - second - 1), text.substr(equals + 1)};
}

/// The word behind "-group" that has the id; nullptr if there is none.
std::string* find_use(std::vector<std::string>& words, const Setting& setting) {
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] != "-" + setting.group && words[i] != "--" + setting.group) continue;
    auto values = KeyValues::parse(words[i + 1], "driver");
    if (values && !words[i + 1].starts_with('{') && values->get("id") == setting.id) return &words[i + 1];
  }
  return nullptr;
}

Status apply(std::vector<std::string>& words, const std::string& text) {
  const Setting setting = TRY(read_setting(text));
  std::string* use = find_use(words, setting);
  if (!use) return invalid_option(fmt::format("-set {}: there is no {} \"{}\" defined", text, setting.group, setting.id));
  *use += fmt::format(",{}=", setting.key);
  for (char c : setting.value) *use += c == ',' ? std::string(",,") : std::string(1, c);
  return {};
}

}  // namespace

Result<std::vector<std::string>> apply_set_options(std::span<const std::string> arguments) {
  std::vector<std::string> words;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] != "-set" && arguments[i] != "--set") {
      words.push_back(arguments[i]);
      continue;
    }
    if (i + 1 == arguments.size()) return invalid_option("-set: requires an argument");
    TRY(apply(words, arguments[++i]));
  }
  return words;
}

}  // namespace atl::control
