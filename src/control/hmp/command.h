// A command of the human monitor. The tables stand in commands.cc and info.cc.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "control/vm_control.h"

namespace atl::control {

struct HmpContext {
  VmControl& vm;
  u32& cpu;            // selected vCPU
  std::string output;  // lines end with "\n"
  std::span<const std::string> history = {};  // of the lines typed into the monitor
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
  // Without `run`: QMP's command of this name, and how the words of the line become its arguments.
  std::string_view qmp = {};
  /// In the order in which they are typed. "key:T", "key?:T": s a word, S the rest of the line, i a number, o a size in MiB
  /// unless it has a suffix. "-f=key": an option that sets `key` to true, "-n=key:a" or "-n=key:a|b" to "a", and to "b"
  /// without it.
  std::string_view words = {};
};

std::span<const HmpCommand> hmp_commands();          // commands.cc
std::span<const HmpCommand> hmp_bridged_commands();  // bridged.cc
std::span<const HmpCommand> hmp_info_commands();     // info.cc
/// All but those of "info", by name.
std::vector<const HmpCommand*> all_hmp_commands();
/// Of all_hmp_commands(); nullptr if there is none.
const HmpCommand* find_hmp_command(std::string_view name);
const HmpCommand* find_hmp_command(std::span<const HmpCommand> table, std::string_view name);

/// Carries out one that is QMP's.
Status run_bridged(HmpContext& context, const HmpCommand& command, const HmpArguments& arguments);
/// A QMP command's result.
Result<nlohmann::json> run_qmp(HmpContext& context, std::string_view name, const nlohmann::json& arguments);

/// Integer expressions with the registers of the selected vCPU; memory_dump.cc.
Result<u64> take_number(HmpContext& context, std::string_view& text);
/// The size of a port's access: 1, 2 or 4 of "b", "h" and "w".
Result<unsigned> access_width(std::string_view format);
/// Fails if anything is left of the line.
Status expect_no_arguments(const HmpArguments& arguments);

// disassembly.cc
Status hmp_disassemble(HmpContext& context, bool physical, u64 address, u64 count);

// memory_dump.cc: x, xp, print.
Status hmp_dump_linear(HmpContext& context, const HmpArguments& arguments);
Status hmp_dump_physical(HmpContext& context, const HmpArguments& arguments);
Status hmp_print(HmpContext& context, const HmpArguments& arguments);

// hardware.cc: ports, addresses and what is in the machine.
Status hmp_port_read(HmpContext& context, const HmpArguments& arguments);
Status hmp_port_write(HmpContext& context, const HmpArguments& arguments);
Status hmp_linear_to_physical(HmpContext& context, const HmpArguments& arguments);
Status hmp_physical_to_host(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_pci(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_device_types(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_virtio(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_usernet(HmpContext& context, const HmpArguments& arguments);

// process.cc: the program around the machine.
Status hmp_boot_set(HmpContext& context, const HmpArguments& arguments);
Status hmp_debugger(HmpContext& context, const HmpArguments& arguments);
Status hmp_log(HmpContext& context, const HmpArguments& arguments);
Status hmp_log_file(HmpContext& context, const HmpArguments& arguments);
Status hmp_announce(HmpContext& context, const HmpArguments& arguments);
Status hmp_chardev_change(HmpContext& context, const HmpArguments& arguments);
Status hmp_trace_event(HmpContext& context, const HmpArguments& arguments);
/// Commands and queries about what there is none of: success with nothing to say.
Status hmp_nothing(HmpContext& context, const HmpArguments& arguments);

// queries.cc
Status hmp_info_hotpluggable_cpus(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_memory_backends(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_dump(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_statistics(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_generation(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_iothreads(HmpContext& context, const HmpArguments& arguments);
Status hmp_qom_list(HmpContext& context, const HmpArguments& arguments);
Status hmp_qom_get(HmpContext& context, const HmpArguments& arguments);
Status hmp_qom_set(HmpContext& context, const HmpArguments& arguments);
Status hmp_qom_tree(HmpContext& context, const HmpArguments& arguments);
Status hmp_ringbuf_read(HmpContext& context, const HmpArguments& arguments);
Status hmp_dump_guest_memory(HmpContext& context, const HmpArguments& arguments);
Status hmp_sum(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_block_jobs(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_blockstats(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_memory_size(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_tpm(HmpContext& context, const HmpArguments& arguments);

// disk_io.cc
Status hmp_qemu_io(HmpContext& context, const HmpArguments& arguments);

// disks.cc
Status hmp_info_block(HmpContext& context, const HmpArguments& arguments);
Status hmp_info_snapshots(HmpContext& context, const HmpArguments& arguments);
Status hmp_drive_add(HmpContext& context, const HmpArguments& arguments);
Status hmp_drive_del(HmpContext& context, const HmpArguments& arguments);
Status hmp_commit(HmpContext& context, const HmpArguments& arguments);
Status hmp_nbd_server_start(HmpContext& context, const HmpArguments& arguments);

// screen.cc
Status hmp_set_password(HmpContext& context, const HmpArguments& arguments);
Status hmp_change_vnc(HmpContext& context, const std::vector<std::string>& words);
Status hmp_expire_password(HmpContext& context, const HmpArguments& arguments);
Status hmp_mouse_set(HmpContext& context, const HmpArguments& arguments);
Status hmp_screendump(HmpContext& context, const HmpArguments& arguments);
Status hmp_sendkey(HmpContext& context, const HmpArguments& arguments);
Status hmp_mouse_move(HmpContext& context, const HmpArguments& arguments);
Status hmp_mouse_button(HmpContext& context, const HmpArguments& arguments);

}  // namespace atl::control
