#include "manage/network/bandwidth.h"

#include <fmt/format.h>

#include "manage/tool/run_tool.h"

namespace atl::manage {

std::string bandwidth_commands(const std::string& device, const Rate& to_device, const Rate& from_device) {
  // tc calls kibibytes a second "kibps" and kibibytes "kb".
  std::string text;
  if (to_device.average) {
    std::string rate = fmt::format("rate {}kibps", to_device.average);
    if (to_device.peak) rate += fmt::format(" ceil {}kibps", to_device.peak);
    if (to_device.burst) rate += fmt::format(" burst {}kb", to_device.burst);
    text += fmt::format("qdisc add dev {} root handle 1: htb default 1\n", device);
    text += fmt::format("class add dev {} parent 1: classid 1:1 htb {}\n", device, rate);
  }
  if (from_device.average) {
    u64 burst = from_device.burst ? from_device.burst : from_device.average;
    text += fmt::format("qdisc add dev {} ingress\n", device);
    text += fmt::format(
        "filter add dev {} parent ffff: protocol all u32 match u32 0 0 police rate {}kibps burst {}kb mtu 64kb "
        "drop flowid :1\n",
        device, from_device.average, burst);
  }
  return text;
}

Status apply_bandwidth(const std::string& device, const Rate& to_device, const Rate& from_device) {
  // What was set before goes; there may be nothing, which is no error.
  for (const char* where : {"root", "ingress"})
    TRY(run_tool({.words = {"tc", "qdisc", "del", "dev", device, where}, .input = {}}));
  std::string commands = bandwidth_commands(device, to_device, from_device);
  if (commands.empty()) return {};
  TRY(run_tool_checked({.words = {"tc", "-batch", "-"}, .input = commands}));
  // Connections that share the limit share it evenly, where the kernel has what that takes.
  if (to_device.average)
    TRY(run_tool({.words = {"tc", "qdisc", "add", "dev", device, "parent", "1:1", "handle", "2:", "sfq", "perturb", "10"}, .input = {}}));
  return {};
}

}  // namespace atl::manage
