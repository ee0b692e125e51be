// The texts of -help, -machine help, -cpu help, -device help and the like.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/device_table.h"

namespace atl::control {

/// The types that -object takes.
std::span<const std::string_view> user_creatable_objects();

/// What -device help and the object model call a property's type: "bool", "uint32", "str" ...
std::string_view property_type_name(machine::PropertyType type);

/// What -version says and -help begins with; programs look for QEMU's words in it.
std::string version_line();
std::string option_table_help();
/// "name:type" of every parameter; types: string, boolean, number, size.
struct OptionGroup {
  std::string_view name, parameters;
};
std::span<const OptionGroup> option_groups();
std::string machine_help();
std::string cpu_help();
std::string object_help();
/// The drivers of -drive format= and -blockdev.
std::string format_help();
/// `type` "help" lists every device; otherwise the properties of one. An unknown type is an error that names it.
Result<std::string> device_help(const std::string& type);

}  // namespace atl::control
