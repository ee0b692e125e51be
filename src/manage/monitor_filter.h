// Which events of VMs' monitors a client wants: of one domain or of all, by a name, a part of it that a regular expression describes, or all.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "manage/error.h"

namespace atl::manage {

struct MonitorEventFilter {
  std::string domain;  // Events::key_of(); "": any
  std::string event;   // "": any
  bool regex = false, any_case = false;

  /// As the string that a registration keeps.
  std::string text() const;
  static MonitorEventFilter from(std::string_view text);

  bool matches(std::string_view domain_key, const std::string& name) const;
  /// InvalidArg if it is no regular expression.
  static Status check(const std::string& expression);
};

}  // namespace atl::manage
