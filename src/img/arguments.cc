#include "img/arguments.h"

#include <fmt/format.h>
#include <getopt.h>

#include <algorithm>

namespace atl::img {
namespace {

constexpr int kFirstLong = 256;  // getopt's results for options without a letter

/// The table in the two forms that getopt_long takes.
struct GetoptTables {
  std::string letters = ":h";
  std::vector<option> names{{"help", no_argument, nullptr, 'h'}};

  explicit GetoptTables(std::span<const OptionSpec> specs) {
    for (size_t i = 0; i < specs.size(); ++i) add(specs[i], static_cast<int>(i));
    names.push_back({});
  }

 private:
  void add(const OptionSpec& spec, int index) {
    if (spec.letter) letters += spec.letter;
    if (spec.letter && spec.takes_value) letters += ':';
    if (*spec.name)
      names.push_back({spec.name, spec.takes_value ? required_argument : no_argument, nullptr,
                       spec.letter ? spec.letter : kFirstLong + index});
  }
};

std::string name_of(int found, std::span<const OptionSpec> specs) {
  if (found == 'h') return "help";
  if (found >= kFirstLong) return specs[static_cast<size_t>(found - kFirstLong)].name;
  for (const OptionSpec& spec : specs)
    if (spec.letter == found && *spec.name) return spec.name;
  return std::string(1, static_cast<char>(found));
}

}  // namespace

Result<Arguments> Arguments::parse(std::span<const std::string> words, std::span<const OptionSpec> specs) {
  GetoptTables tables(specs);
  std::vector<char*> argv{const_cast<char*>("")};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  int argc = static_cast<int>(argv.size());
  argv.push_back(nullptr);

  Arguments result;
  opterr = 0;
  optind = 0;  // starts anew
  for (int found; (found = ::getopt_long(argc, argv.data(), tables.letters.c_str(), tables.names.data(), nullptr)) != -1;) {
    const char* culprit = argv[static_cast<size_t>(std::max(optind - 1, 0))];
    if (found == ':') return Error(ErrorKind::Invalid, fmt::format("missing argument for option '{}'", culprit));
    if (found == '?') return Error(ErrorKind::Invalid, fmt::format("unrecognized option '{}'", culprit));
    result.options_.push_back({name_of(found, specs), optarg ? optarg : ""});
  }
  for (int i = optind; i < argc; ++i) result.words_.emplace_back(argv[static_cast<size_t>(i)]);
  return result;
}

const std::string* Arguments::last(std::string_view name) const {
  auto at = std::find_if(options_.rbegin(), options_.rend(), [&](const Option& o) { return o.name == name; });
  return at == options_.rend() ? nullptr : &at->value;
}

std::string Arguments::value(std::string_view name, std::string_view fallback) const {
  const std::string* found = last(name);
  return found ? *found : std::string(fallback);
}

std::optional<std::string> Arguments::find(std::string_view name) const {
  const std::string* found = last(name);
  if (!found) return std::nullopt;
  return *found;
}

std::vector<std::string> Arguments::values(std::string_view name) const {
  std::vector<std::string> found;
  for (const Option& option : options_)
    if (option.name == name) found.push_back(option.value);
  return found;
}

}  // namespace atl::img
