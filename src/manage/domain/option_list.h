// The value of one option of QEMU's command line, as pairs: printed with commas for the command line, as an object for QMP.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/types.h"

namespace atl::manage {

class OptionList {
 public:
  OptionList(std::string_view key, std::string_view value) { set(key, value); }

  OptionList& set(std::string_view key, std::string_view value) {
    pairs_.emplace_back(key, value);
    return *this;
  }
  OptionList& set(std::string_view key, u64 value) { return set(key, std::string_view(std::to_string(value))); }
  /// Leaves an empty value out.
  OptionList& set_if(std::string_view key, std::string_view value) { return value.empty() ? *this : set(key, value); }

  /// A comma in a value is doubled. The first key is left out where QEMU implies it.
  std::string text() const;
  nlohmann::json json() const;

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

}  // namespace atl::manage
