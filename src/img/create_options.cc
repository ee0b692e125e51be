#include "img/create_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/key_values.h"
#include "base/strings.h"

namespace atl::img {
namespace {

const CreateOption* find_option(const std::vector<CreateOption>& table, std::string_view name) {
  auto at = std::ranges::find_if(table, [&](const CreateOption& option) { return name == option.name; });
  return at == table.end() ? nullptr : &*at;
}

/// The value in its one spelling: sizes in bytes, flags as on or off.
Result<std::string> normalise(const CreateOption& option, const std::string& value) {
  auto wrong = [&](std::string_view expected) {
    return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' expects {}", option.name, expected));
  };
  switch (option.type) {
    case CreateOption::Text: return value;
    case CreateOption::Number: {
      auto number = parse_u64(value);
      if (!number) number = parse_i64(value);  // wraps, as in C: what is too large then is told by the format
      if (!number) return wrong("a number");
      return std::to_string(*number);
    }
    case CreateOption::Size: {
      auto size = parse_size(value);
      if (size) return std::to_string(*size);
      return wrong("a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                   "peta-\nand exabytes, respectively.");
    }
    case CreateOption::Flag: {
      auto flag = parse_bool(value);
      if (!flag) return wrong("'on' or 'off'");
      return *flag ? "on" : "off";
    }
  }
  return value;
}

std::string with_doubled_commas(std::string_view text) {
  std::string out;
  for (char c : text) {
    out += c;
    if (c == ',') out += c;
  }
  return out;
}

Status check_option_list(std::string_view text) {
  const size_t commas = text.size() - (text.find_last_not_of(',') + 1);
  if (!text.empty() && !text.starts_with(',') && commas % 2 == 0) return {};
  return Error(ErrorKind::Invalid, fmt::format("Invalid option list: {}", text));
}

}  // namespace

Result<const block::Driver*> protocol_of(const std::string& filename) {
  Json tree = TRY(block::parse_image_name(filename));
  const block::Driver* driver = block::find_driver(tree.value("driver", ""));
  if (driver && driver->protocol) return driver;
  return Error(ErrorKind::Invalid, fmt::format("Unknown protocol '{}'", filename.substr(0, filename.find(':'))));
}

Result<CreateOptions> CreateOptions::of(const block::Driver& format, const std::string& filename) {
  std::vector<CreateOption> table = format.create_options;
  if (!filename.empty()) {
    const block::Driver* protocol = TRY(protocol_of(filename));
    for (const CreateOption& option : protocol->create_options)
      if (!find_option(table, option.name)) table.push_back(option);
  }
  return CreateOptions(std::move(table));
}

bool CreateOptions::knows(std::string_view name) const { return find_option(table_, name) != nullptr; }

Status CreateOptions::parse(std::string_view text) {
  TRY(check_option_list(text));
  KeyValues list = TRY(KeyValues::parse(text));
  for (const auto& entry : list.entries()) TRY(set(entry.key, entry.value));
  return {};
}

Status CreateOptions::set(const std::string& name, const std::string& value) {
  const CreateOption* option = find_option(table_, name);
  if (!option) return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", name));
  values_[name] = TRY(normalise(*option, value));
  return {};
}

void CreateOptions::complete() {
  for (const CreateOption& option : table_)
    if (option.fallback && !has(option.name)) values_[option.name] = option.fallback;
}

std::string CreateOptions::line() const {
  std::string text;
  for (const CreateOption& option : table_) {
    std::string value = has(option.name) ? get(option.name) : option.fallback ? option.fallback : "";
    if (has(option.name) || option.fallback) text += fmt::format(" {}={}", option.name, with_doubled_commas(value));
  }
  return text;
}

Result<bool> asks_option_help(const std::vector<std::string>& lists) {
  for (const std::string& text : lists) TRY(check_option_list(text));
  return std::ranges::any_of(lists, [](const std::string& text) {
    auto list = KeyValues::parse(text);
    return list && std::ranges::any_of(list->entries(), [](const auto& e) { return e.bare && (e.key == "help" || e.key == "?"); });
  });
}

std::string option_help(std::vector<CreateOption> table) {
  static constexpr const char* kTypes[] = {"str", "num", "size", "bool (on/off)"};
  std::ranges::sort(table, [](auto& a, auto& b) { return std::string_view(a.name) < b.name; });
  std::string text;
  for (const CreateOption& option : table)
    text += fmt::format("  {:<22} - {}\n", fmt::format("{}=<{}>", option.name, kTypes[option.type]), option.help);
  return text;
}

Result<std::string> creation_help(const std::string& format, const std::string& filename) {
  const block::Driver* driver = block::find_driver(format);
  if (!driver) return Error(ErrorKind::Invalid, fmt::format("Unknown file format '{}'", format));
  if (!driver->create)
    return Error(ErrorKind::Unsupported, fmt::format("Format driver '{}' does not support image creation", format));
  CreateOptions options = TRY(CreateOptions::of(*driver, filename));
  // What raw takes is for the file below.
  auto own = options.table();
  if (filename.empty() && format == "raw") std::erase_if(own, [](const CreateOption& o) { return std::string_view(o.name) != "size"; });
  if (!filename.empty()) return "Supported options:\n" + option_help(options.table());
  std::string text = fmt::format("Supported {} options:\n", format) + option_help(own);
  if (!driver->protocol)
    text += "\nThe protocol level may support further options.\nSpecify the target filename to include those options.\n";
  return text;
}

}  // namespace atl::img
