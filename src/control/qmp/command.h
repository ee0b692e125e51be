// A QMP command: its name, its arguments' types, and what carries it out. The tables stand in the commands_*.cc files.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "control/vm_control.h"

namespace atl::control {

/// What a command has to work with: the VM, and the connection that it came by.
struct QmpContext {
  VmControl& vm;
  Chardev* connection = nullptr;  // nullptr: behind a mux, where descriptors cannot be passed
  /// Of the machine's news, those that the reply has to wait for: a job's start, not how far it has come meanwhile.
  std::optional<u64> news = std::nullopt;
};

using QmpHandler = Result<nlohmann::json> (*)(QmpContext& context, const nlohmann::json& arguments);

struct QmpCommand {
  std::string_view name;
  /// "id:s force?:b": s string, i integer, b boolean, o object, a array, v anything; '?' optional. "*": the handler checks.
  std::string_view arguments;
  QmpHandler handler;
  /// The error class for ErrorKind::NotFound and Unsupported, where QEMU has one of its own.
  std::string_view not_found_class = "GenericError";
};

std::span<const QmpCommand> status_commands();   // commands_status.cc
std::span<const QmpCommand> device_commands();   // commands_devices.cc
std::span<const QmpCommand> hardware_commands(); // commands_hardware.cc
std::span<const QmpCommand> chardev_commands();  // commands_chardevs.cc
std::span<const QmpCommand> memory_commands();   // commands_memory.cc
std::span<const QmpCommand> block_commands();     // commands_block.cc
std::span<const QmpCommand> job_commands();       // commands_jobs.cc
std::span<const QmpCommand> job_control_commands();  // commands_job_control.cc
std::span<const QmpCommand> snapshot_commands();  // commands_snapshots.cc
std::span<const QmpCommand> bitmap_commands();    // commands_bitmaps.cc
std::span<const QmpCommand> export_commands();    // commands_exports.cc
std::span<const QmpCommand> media_commands();     // commands_media.cc
std::span<const QmpCommand> screen_commands();    // commands_screen.cc
std::span<const QmpCommand> object_commands();    // commands_objects.cc
std::span<const QmpCommand> introspection_commands();  // commands_introspection.cc

/// In the order of the tables.
const QmpCommand* find_qmp_command(std::string_view name);
std::vector<const QmpCommand*> qmp_commands();
/// All of them, and qmp_capabilities.
std::vector<std::string_view> qmp_command_names();

/// One entry of QmpCommand::arguments.
struct QmpParameter {
  std::string_view name;
  bool optional;
  char type;
};
QmpParameter parse_qmp_parameter(std::string_view text);
std::vector<QmpParameter> parameters_of(const QmpCommand& command);

/// Whether the arguments fit the command's list; the error's text is QEMU's.
Status check_arguments(const QmpCommand& command, const nlohmann::json& arguments);

/// Optional arguments, with their defaults; the type has been checked.
std::string text_argument(const nlohmann::json& arguments, const char* name, std::string_view fallback = {});
std::optional<u64> number_argument(const nlohmann::json& arguments, const char* name);

}  // namespace atl::control
