// The options whose value is a list, as query-command-line-options tells them: the names are QEMU's groups, and the parameters those
// that are taken here. A group without parameters takes what its first one names.
#include "control/cmdline/help.h"

namespace atl::control {
namespace {

constexpr OptionGroup kGroups[] = {
    {"accel", ""},
    {"acpi", ""},
    {"action", "panic:string reboot:string shutdown:string watchdog:string"},
    {"add-fd", "fd:number opaque:string set:number"},
    {"boot-opts", "menu:boolean once:string order:string reboot-timeout:number splash-time:number strict:boolean"},
    {"chardev", "append:boolean backend:string fd:string host:string ipv4:boolean ipv6:boolean logappend:boolean "
     "logfile:string mux:boolean nodelay:boolean path:string port:string reconnect:number server:boolean "
     "signal:boolean size:size telnet:boolean wait:boolean"},
    {"device", ""},
    {"drive", "aio:string auto-read-only:boolean bus:number cache.direct:boolean cache.no-flush:boolean "
     "cache.writeback:boolean copy-on-read:boolean detect-zeroes:string discard:string driver:string "
     "file:string force-share:boolean format:string if:string index:number media:string node-name:string "
     "read-only:boolean rerror:string snapshot:boolean throttling.bps-read:number "
     "throttling.bps-read-max:number throttling.bps-read-max-length:number throttling.bps-total:number "
     "throttling.bps-total-max:number throttling.bps-total-max-length:number throttling.bps-write:number "
     "throttling.bps-write-max:number throttling.bps-write-max-length:number throttling.group:string "
     "throttling.iops-read:number throttling.iops-read-max:number throttling.iops-read-max-length:number "
     "throttling.iops-size:number throttling.iops-total:number throttling.iops-total-max:number "
     "throttling.iops-total-max-length:number throttling.iops-write:number throttling.iops-write-max:number "
     "throttling.iops-write-max-length:number unit:number werror:string"},
    {"fw_cfg", "file:string name:string string:string"},
    {"global", "driver:string property:string value:string"},
    {"machine", "accel:string append:string dump-guest-core:boolean firmware:string initrd:string kernel:string "
     "mem-merge:boolean suppress-vmdesc:boolean type:string usb:boolean"},
    {"memory", "size:size"},
    {"mon", "chardev:string mode:string pretty:boolean"},
    {"msg", "guest-name:boolean timestamp:boolean"},
    {"name", "debug-threads:boolean guest:string process:string"},
    {"net", ""},
    {"netdev", ""},
    {"nic", ""},
    {"object", ""},
    {"option-rom", "romfile:string"},
    {"overcommit", "cpu-pm:boolean mem-lock:boolean"},
    {"rtc", "base:string clock:string driftfix:string"},
    {"sandbox", "elevateprivileges:string enable:boolean obsolete:string resourcecontrol:string spawn:string"},
    {"smbios", ""},
    {"smp-opts", "clusters:number cores:number cpus:number dies:number maxcpus:number sockets:number threads:number"},
    {"tpmdev", ""},
    {"trace", "enable:string events:string file:string"},
    {"vnc", "audiodev:string connections:number display:string ipv4:boolean ipv6:boolean lossy:boolean "
     "non-adaptive:boolean password:boolean password-secret:string power-control:boolean reverse:boolean "
     "sasl:boolean share:string tls-creds:string to:number vnc:string websocket:string"},
};

}  // namespace

std::span<const OptionGroup> option_groups() { return kGroups; }

}  // namespace atl::control
