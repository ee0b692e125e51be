#include "control/hmp/execute.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/hmp/command.h"

namespace atl::control {
namespace {

constexpr size_t kMaxLineBytes = 64 * kKiB;

/// Whether what follows the command's name after a slash is a format; to other commands it is a path.
bool takes_format(std::string_view name) {
  const auto* command = find_hmp_command(name);
  return command && command->parameters.starts_with("/fmt");
}

/// "x/4xw 0x1000" and "x /4xw 0x1000" are the same.
HmpArguments split_arguments(std::string_view& name, std::string_view rest) {
  HmpArguments arguments;
  size_t slash = name.find('/');
  if (slash != std::string_view::npos) {
    arguments.format = name.substr(slash + 1);
    name = name.substr(0, slash);
  } else if (rest.starts_with('/') && takes_format(name)) {
    size_t end = std::min(rest.find(' '), rest.size());
    arguments.format = rest.substr(1, end - 1);
    rest = trim(rest.substr(end));
  }
  arguments.text = rest;
  return arguments;
}

std::string with_carriage_returns(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') out += '\r';
    out += c;
  }
  return out;
}

void run_line(HmpContext& context, std::string_view line) {
  size_t end = std::min(line.find(' '), line.size());
  std::string_view name = line.substr(0, end);
  HmpArguments arguments = split_arguments(name, trim(line.substr(end)));
  const auto* command = find_hmp_command(name);
  if (!command) {
    context.output += fmt::format("unknown command: '{}'\n", name);
    return;
  }
  Status status = command->parameters.empty() ? expect_no_arguments(arguments) : Status();
  if (status) status = command->run ? command->run(context, arguments) : run_bridged(context, *command, arguments);
  if (!status) context.output += fmt::format("Error: {}\n", status.error().text());
}

}  // namespace

const HmpCommand* find_hmp_command(std::span<const HmpCommand> table, std::string_view name) {
  for (const auto& command : table)
    for (auto one : split(command.names, '|'))
      if (one == name) return &command;
  return nullptr;
}

std::vector<const HmpCommand*> all_hmp_commands() {
  std::vector<const HmpCommand*> all;
  for (auto table : {hmp_commands(), hmp_bridged_commands()})
    for (const auto& command : table) all.push_back(&command);
  std::ranges::sort(all, {}, [](const HmpCommand* command) { return command->names; });
  return all;
}

const HmpCommand* find_hmp_command(std::string_view name) {
  const auto* own = find_hmp_command(hmp_commands(), name);
  return own ? own : find_hmp_command(hmp_bridged_commands(), name);
}

Status expect_no_arguments(const HmpArguments& arguments) {
  if (arguments.text.empty() && arguments.format.empty()) return {};
  return Error(ErrorKind::Invalid, "extraneous characters at the end of line");
}

std::string hmp_execute(VmControl& vm, std::string_view line, u32& cpu, std::span<const std::string> history) {
  HmpContext context{vm, cpu, {}, history};
  line = trim(line);
  if (line.size() > kMaxLineBytes) return "line too long\r\n";
  if (!line.empty() && line.front() != '#') run_line(context, line);
  return with_carriage_returns(context.output);
}

}  // namespace atl::control
