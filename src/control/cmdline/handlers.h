// What each option does: it reads its value into the builder. Errors name the parameter; the parser adds the option.
#pragma once

#include <string>

#include "base/result.h"
#include "control/cmdline/builder.h"

namespace atl::control {

using Handler = Status (*)(Builder& builder, const OptionUse& use);

// machine_options.cc
Status option_machine(Builder&, const OptionUse&);
Status option_accel(Builder&, const OptionUse&);
Status option_enable_kvm(Builder&, const OptionUse&);
Status option_cpu(Builder&, const OptionUse&);
Status option_smp(Builder&, const OptionUse&);
Status option_no_acpi(Builder&, const OptionUse&);
Status option_no_hpet(Builder&, const OptionUse&);
Status option_no_fd_bootchk(Builder&, const OptionUse&);
/// The accelerators of "kvm:tcg", tried in order.
Result<std::vector<machine::AcceleratorChoice>> accelerators_from_list(std::string_view list);

// memory_options.cc
Status option_memory(Builder&, const OptionUse&);
Status option_mem_path(Builder&, const OptionUse&);
Status option_mem_prealloc(Builder&, const OptionUse&);
Status option_overcommit(Builder&, const OptionUse&);
Status add_memory_backend(Builder&, const OptionUse&, KeyValues values);

// numa_options.cc
Status option_numa(Builder&, const OptionUse&);

// boot_options.cc
Status option_kernel(Builder&, const OptionUse&);
Status option_initrd(Builder&, const OptionUse&);
Status option_append(Builder&, const OptionUse&);
Status option_bios(Builder&, const OptionUse&);
Status option_firmware_dir(Builder&, const OptionUse&);
Status option_fw_cfg(Builder&, const OptionUse&);
Status option_option_rom(Builder&, const OptionUse&);
Status option_boot(Builder&, const OptionUse&);
Status option_name(Builder&, const OptionUse&);
Status option_uuid(Builder&, const OptionUse&);
Status option_rtc(Builder&, const OptionUse&);
Status option_no_reboot(Builder&, const OptionUse&);
Status option_no_shutdown(Builder&, const OptionUse&);
Status option_action(Builder&, const OptionUse&);
Status option_watchdog_action(Builder&, const OptionUse&);
/// The action that "reset", "pause" ... name.
Result<machine::PanicAction> panic_action(std::string_view name);
Result<machine::WatchdogAction> watchdog_action(std::string_view name);
Status option_start_paused(Builder&, const OptionUse&);

// device_options.cc
Status option_drive(Builder&, const OptionUse&);
Status option_blockdev(Builder&, const OptionUse&);
Status option_device(Builder&, const OptionUse&);
Status option_object(Builder&, const OptionUse&);
Status option_global(Builder&, const OptionUse&);
Status option_hard_disk(Builder&, const OptionUse&);  // -hda to -hdd, and a file name alone
Status option_cdrom(Builder&, const OptionUse&);
Status option_snapshot(Builder&, const OptionUse&);
Status option_floppy(Builder&, const OptionUse&);     // -fda and -fdb
Status option_pflash(Builder&, const OptionUse&);

// table_options.cc
Status option_smbios(Builder&, const OptionUse&);
Status option_acpitable(Builder&, const OptionUse&);
Status option_tpmdev(Builder&, const OptionUse&);

// net_options.cc
Status option_netdev(Builder&, const OptionUse&);
Status option_nic(Builder&, const OptionUse&);
Status option_net(Builder&, const OptionUse&);

// monitor_options.cc
Status option_chardev(Builder&, const OptionUse&);
Status option_serial(Builder&, const OptionUse&);
Status option_parallel(Builder&, const OptionUse&);
Status option_debugcon(Builder&, const OptionUse&);
Status option_monitor(Builder&, const OptionUse&);
Status option_qmp(Builder&, const OptionUse&);
Status option_qmp_pretty(Builder&, const OptionUse&);
Status option_gdb(Builder&, const OptionUse&);
Status option_gdb_default(Builder&, const OptionUse&);
Status option_qtest(Builder&, const OptionUse&);
Status option_qtest_log(Builder&, const OptionUse&);
Status option_mon(Builder&, const OptionUse&);
Status option_nographic(Builder&, const OptionUse&);
Status option_escape(Builder&, const OptionUse&);
Status option_no_defaults(Builder&, const OptionUse&);

// screen_options.cc
Status option_display(Builder&, const OptionUse&);
Status option_vga(Builder&, const OptionUse&);
Status option_usb(Builder&, const OptionUse&);
Status option_usbdevice(Builder&, const OptionUse&);
Status option_vnc(Builder&, const OptionUse&);
Status option_audiodev(Builder&, const OptionUse&);
Status option_keyboard(Builder&, const OptionUse&);

// process_options.cc
Status option_run_as(Builder&, const OptionUse&);
Status option_chroot(Builder&, const OptionUse&);
Status option_pidfile(Builder&, const OptionUse&);
Status option_daemonize(Builder&, const OptionUse&);
Status option_sandbox(Builder&, const OptionUse&);
Status option_msg(Builder&, const OptionUse&);
Status option_add_fd(Builder&, const OptionUse&);
Status option_version(Builder&, const OptionUse&);
Status option_help(Builder&, const OptionUse&);
Status option_nothing(Builder&, const OptionUse&);
Status option_log_items(Builder&, const OptionUse&);
Status option_log_file(Builder&, const OptionUse&);
Status option_trace(Builder&, const OptionUse&);
Status option_compat(Builder&, const OptionUse&);
Status option_audio(Builder&, const OptionUse&);

// absent_options.cc
/// Why an option of QEMU's is not there, by name without the dash; nullptr for names that QEMU does not know either.
const char* why_absent(std::string_view option);

// set_option.cc
/// "-set group.id.key=value" changes the option "-group ...,id=..." before it; both are words of `arguments`. What remains.
Result<std::vector<std::string>> apply_set_options(std::span<const std::string> arguments);

/// The error for a value that we do not know or offer.
Error invalid_option(std::string text);
/// A switch whose only state here is `truth`: the other one is refused.
Status expect_switch(KeyValues& values, std::string_view key, bool truth);

// config_file.cc
Status option_read_config(Builder&, const OptionUse&);

// option_table.cc
/// What handles an option that takes a list of values; nullptr if there is none of this name.
Handler listed_option(std::string_view name);

}  // namespace atl::control
