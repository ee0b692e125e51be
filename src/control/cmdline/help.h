// The texts of -help, -machine help, -cpu help, -device help and the like.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "machine/config.h"

namespace atl::control {

/// The boards by name, as query-machines and -machine help list them.
struct BoardName {
  std::string_view name;
  std::string_view alias;        // "" = none
  std::string_view description;
  machine::BoardKind kind;
  bool is_default = false;
};
std::span<const BoardName> board_names();

std::string option_table_help();
std::string machine_help();
std::string cpu_help();
std::string object_help();
/// `type` "help" lists every device; otherwise the properties of one. An unknown type is an error that names it.
Result<std::string> device_help(const std::string& type);

}  // namespace atl::control
