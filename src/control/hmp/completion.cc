// What a line of the human monitor may go on with: names of commands, and of what a command's first argument names.
#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"
#include "control/hmp/command.h"
#include "control/hmp/execute.h"
#include "machine/device_table.h"
#include "machine/media.h"

namespace atl::control {
namespace {

using Names = std::vector<std::string>;

Names command_names(VmControl&) {
  Names names;
  for (const HmpCommand* command : all_hmp_commands())
    for (auto name : split(command->names, '|')) names.emplace_back(name);
  return names;
}

Names info_names(VmControl&) {
  Names names;
  for (const HmpCommand& command : hmp_info_commands())
    for (auto name : split(command.names, '|')) names.emplace_back(name);
  return names;
}

Names device_types(VmControl&) {
  Names names;
  for (const auto& spec : machine::device_specs()) names.emplace_back(spec.type);
  return names;
}

Names device_ids(VmControl& vm) {
  Names names;
  for (const auto& info : vm.machine().devices())
    if (!info.config.id.empty()) names.push_back(info.config.id);
  return names;
}

Names network_kinds(VmControl&) { return {"user", "tap", "socket", "stream", "dgram", "hubport", "vhost-user"}; }

/// The line of a network begins with its id.
Names network_ids(VmControl& vm) {
  Names names;
  for (const auto& network : vm.machine().networks()) names.push_back(network.backend.substr(0, network.backend.find(':')));
  return names;
}

Names link_names(VmControl& vm) {
  Names names = network_ids(vm);
  for (std::string& id : device_ids(vm)) names.push_back(std::move(id));
  return names;
}

Names object_kinds(VmControl&) { return {user_creatable_objects().begin(), user_creatable_objects().end()}; }

Names object_ids(VmControl& vm) {
  Names names;
  for (const auto& thread : vm.machine().iothreads()) names.push_back(thread.id);
  for (const auto& memory : vm.spare_memory()) names.push_back(memory.id);
  return names;
}

Names chardev_kinds(VmControl&) {
  const auto kinds = chardev_backends();
  return {kinds.begin(), kinds.end()};
}

Names chardev_ids(VmControl& vm) {
  Names names;
  for (const Chardev* chardev : vm.chars().all()) names.push_back(chardev->id());
  return names;
}

Names drive_names(VmControl& vm) {
  Names names;
  for (const auto& drive : vm.machine().media().states()) names.push_back(drive.drive.empty() ? drive.qdev : drive.drive);
  return names;
}

Names watchdog_actions(VmControl&) { return {"reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"}; }

/// What the first argument of some commands names.
struct Source {
  std::string_view commands;
  Names (*names)(VmControl& vm);
};
constexpr Source kSources[] = {
    {"help|?", command_names},
    {"info", info_names},
    {"device_add", device_types},
    {"device_del", device_ids},
    {"netdev_add", network_kinds},
    {"netdev_del", network_ids},
    {"set_link", link_names},
    {"object_add", object_kinds},
    {"object_del", object_ids},
    {"chardev-add", chardev_kinds},
    {"chardev-remove|chardev-change|chardev-send-break|ringbuf_read|ringbuf_write", chardev_ids},
    {"eject|change", drive_names},
    {"watchdog_action", watchdog_actions},
};

Names candidates(VmControl& vm, std::string_view command) {
  if (command.empty()) return command_names(vm);
  for (const Source& source : kSources)
    for (auto name : split(source.commands, '|'))
      if (name == command) return vm.has_machine() ? source.names(vm) : Names();
  return {};
}

}  // namespace

std::vector<std::string> hmp_completions(VmControl& vm, std::string_view line) {
  const size_t blank = line.find(' ');
  const std::string_view command = blank == std::string_view::npos ? std::string_view() : line.substr(0, blank);
  const std::string_view word = blank == std::string_view::npos ? line : trim(line.substr(blank));
  if (word.find(' ') != std::string_view::npos || (command.empty() && word.empty())) return {};
  Names found = candidates(vm, command);
  std::erase_if(found, [&](const std::string& name) { return !name.starts_with(word); });
  return found;
}

}  // namespace atl::control
