// The schema that query-qmp-schema tells (QEMU's docs/devel/qapi-code-gen, "Client JSON Protocol introspection"): commands with
// the arguments that they take here, events, and every type that these name. Types are written as lists of "name:type" and
// "name?:type" of what may be left out; "[type]" is an array.
#pragma once

#include <span>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "base/types.h"

namespace atl::control {

struct SchemaType {
  enum class Kind : u8 { Object, Union, Enum, Alternate };
  std::string_view name;
  Kind kind;
  std::string_view members;         // Enum: the values; Alternate: the types
  std::string_view tag = {};        // Union: the member that chooses
  std::string_view variants = {};   // Union: "value=type" of the values that add members
};
std::span<const SchemaType> block_schema_types();
std::span<const SchemaType> machine_schema_types();
/// nullptr if there is none.
const SchemaType* find_schema_type(std::string_view name);

/// A command or event. `members` of a command without a list of its own, and of an event: all of them; of another command: those of its
/// arguments that are not plain. "=type": the type as a whole.
struct SchemaSignature {
  std::string_view name, members, result;
};
std::span<const SchemaSignature> command_signatures();
std::span<const SchemaSignature> event_signatures();

/// Whether a command may be asked for by exec-oob: it waits for nothing.
bool is_out_of_band(std::string_view command);

/// Whether what is in a command's arguments has the types that its signature names; members that these do not know are left to the
/// command. The error's text is QEMU's.
Status check_types(std::string_view command, const nlohmann::json& arguments);

/// All of it.
nlohmann::json qmp_schema();

}  // namespace atl::control
