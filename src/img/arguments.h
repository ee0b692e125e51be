// Options of a sub-command: a table says which there are, getopt_long(3) splits the words, and commands ask by name.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl::img {

struct OptionSpec {
  char letter;            // 0: long only
  const char* name;       // "" : short only
  bool takes_value = false;
};

/// What was given, in order. An option is known by its long name, or by its letter if it has none.
class Arguments {
 public:
  struct Option {
    std::string name, value;
  };

  /// `words` without the sub-command. "-h" and "--help" are always known. The error is the line to print before the hint at
  /// --help.
  static Result<Arguments> parse(std::span<const std::string> words, std::span<const OptionSpec> specs);

  bool has(std::string_view name) const { return last(name) != nullptr; }
  /// The last value given.
  std::string value(std::string_view name, std::string_view fallback = {}) const;
  std::optional<std::string> find(std::string_view name) const;
  std::vector<std::string> values(std::string_view name) const;
  const std::vector<Option>& options() const { return options_; }
  const std::vector<std::string>& words() const { return words_; }
  std::vector<std::string>& words() { return words_; }

 private:
  const std::string* last(std::string_view name) const;

  std::vector<Option> options_;
  std::vector<std::string> words_;
};

}  // namespace atl::img
