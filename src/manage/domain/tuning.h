// What <cputune>, <memtune>, <blkiotune>, <iotune> and <currentMemory> ask for, applied to a VM.
#pragma once

#include "manage/domain/domain.h"

namespace atl::manage {

/// Refuses what <numatune> asks for and cannot be had.
Status check_numa(const Element& domain);
/// The VM's control group, named as its folder is; daemons with folders of their own do not share groups.
std::string group_name(const std::string& run_folder, i32 id, const std::string& name);
/// Limits of the control group, before the VM starts.
Status apply_group_tuning(const ControlGroup& group, const Element& domain);
/// <memtune> of it again, with what is not asked for unlimited.
Status apply_memory_limits(const ControlGroup& group, const Element& domain);
/// Which processors the vCPUs and the emulator run on.
Status apply_thread_tuning(const Element& domain, const RunningVm& vm);
/// How much of the host's processors each vCPU, the emulator and each I/O thread may have.
Status apply_thread_quotas(const Element& domain, const RunningVm& vm);
/// What the VM itself does: I/O limits, the balloon's first target, passwords.
Status apply_monitor_tuning(const Element& domain, QmpClient& monitor);

/// Processors of a list like "0-3,^2,7", as libvirt writes them.
Result<std::vector<bool>> parse_cpu_list(std::string_view text);
/// The other way round.
std::string cpu_list(const std::vector<bool>& cpus);
/// Pins one thread; the error names it.
Status pin_thread(int thread, const std::vector<bool>& cpus);
/// The arguments of block_set_io_throttle for a disk's <iotune>.
std::optional<std::string> io_throttle_arguments(const Element& disk);

}  // namespace atl::manage
