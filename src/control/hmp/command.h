// A command of the human monitor. The tables stand in commands.cc and info.cc.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/vm_control.h"

namespace atl::control {

struct HmpContext {
  VmControl& vm;
  u32& cpu;            // selected vCPU
  std::string output;  // lines end with "\n"
};

/// The rest of the line, with the command's name and any "/format" cut off.
struct HmpArguments {
  std::string format;  // "4xw" of "x/4xw"
  std::string_view text;
};

struct HmpCommand {
  std::string_view names;  // "quit|q"
  std::string_view parameters;
  std::string_view help;
  Status (*run)(HmpContext& context, const HmpArguments& arguments);
};

std::span<const HmpCommand> hmp_commands();       // commands.cc
std::span<const HmpCommand> hmp_info_commands();  // info.cc
const HmpCommand* find_hmp_command(std::span<const HmpCommand> table, std::string_view name);

/// Fails if anything is left of the line.
Status expect_no_arguments(const HmpArguments& arguments);

// memory_dump.cc: x, xp, print.
Status hmp_dump_linear(HmpContext& context, const HmpArguments& arguments);
Status hmp_dump_physical(HmpContext& context, const HmpArguments& arguments);
Status hmp_print(HmpContext& context, const HmpArguments& arguments);

// screen.cc
Status hmp_set_password(HmpContext& context, const HmpArguments& arguments);
Status hmp_expire_password(HmpContext& context, const HmpArguments& arguments);
Status hmp_mouse_set(HmpContext& context, const HmpArguments& arguments);
Status hmp_screendump(HmpContext& context, const HmpArguments& arguments);
Status hmp_sendkey(HmpContext& context, const HmpArguments& arguments);
Status hmp_mouse_move(HmpContext& context, const HmpArguments& arguments);
Status hmp_mouse_button(HmpContext& context, const HmpArguments& arguments);

}  // namespace atl::control
