#include "manage/vmm/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "base/fd.h"
#include "base/strings.h"

namespace atl::manage {
namespace {

constexpr std::string_view kControllers[] = {"cpu", "cpuacct", "cpuset", "memory", "blkio", "pids", "freezer"};
constexpr u64 kFileLimit = 64 * kKiB;

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Status write_file(const std::string& path, std::string_view value) {
  Fd file = TRY(open_file(path, O_WRONLY));
  if (::write(file.get(), value.data(), value.size()) < 0) {
    const int error = errno;
    return Error(Code::SystemError, fmt::format("Unable to write to '{}': {}", path, std::strerror(error)));
  }
  return {};
}

Status make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) < 0 && errno != EEXIST) return os_error("create " + path);
  return {};
}

/// Version 1: a new cpuset takes no process before it has processors and memory nodes.
Status inherit_cpuset(const std::string& parent, const std::string& child) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    std::string given = TRY(read_file(child + file, kFileLimit));
    if (!trim(given).empty()) continue;
    std::string value = TRY(read_file(parent + file, kFileLimit));
    TRY(write_file(child + file, trim(value)));
  }
  return {};
}

/// Parent and group of one controller, version 1.
Status make_v1(const std::string& top, const std::string& name, bool cpuset) {
  const std::string parent = top + "/atoll", group = parent + "/" + name;
  TRY(make_folder(parent));
  if (cpuset) TRY(inherit_cpuset(top, parent));
  TRY(make_folder(group));
  if (cpuset) TRY(inherit_cpuset(parent, group));
  return {};
}

/// Version 2: controllers are switched on from above.
Status make_v2(const std::string& top, const std::string& name) {
  const std::string parent = top + "/atoll";
  TRY(make_folder(parent));
  for (const std::string& folder : {top, parent})
    for (std::string_view controller : {"cpu", "cpuset", "memory", "io", "pids"})
      (void)write_file(folder + "/cgroup.subtree_control", fmt::format("+{}", controller));  // absent ones are missed later
  return make_folder(parent + "/" + name);
}

std::optional<u64> find_number(std::string_view text, std::string_view key) {
  for (std::string_view line : split(text, '\n')) {
    auto words = split(line, ' ');
    if (words.size() == 2 && words[0] == key) return parse_u64(words[1]);
  }
  return std::nullopt;
}

}  // namespace

Result<ControlGroup> ControlGroup::open(const std::string& name, const std::string& root) {
  ControlGroup group;
  if (exists(root + "/cgroup.controllers")) {
    group.v2_ = true;
    TRY(make_v2(root, name));
    const std::string folder = root + "/atoll/" + name;
    std::string available = TRY(read_file(folder + "/cgroup.controllers", kFileLimit));
    for (std::string_view controller : split(trim(available), ' ')) group.folders_[std::string(controller)] = folder;
    group.folders_[""] = folder;
    return group;
  }
  for (std::string_view controller : kControllers) {
    const std::string top = fmt::format("{}/{}", root, controller);
    if (!exists(top + "/tasks")) continue;
    TRY(make_v1(top, name, controller == "cpuset"));
    group.folders_[std::string(controller)] = fmt::format("{}/atoll/{}", top, name);
  }
  return group;
}

Status ControlGroup::attach(pid_t pid) const {
  std::set<std::string> folders;
  for (const auto& [controller, folder] : folders_) folders.insert(folder);
  for (const auto& folder : folders) TRY(write_file(folder + "/cgroup.procs", std::to_string(pid)));
  return {};
}

void ControlGroup::remove() const {
  std::error_code ignored;
  for (const auto& [controller, folder] : folders_) {
    std::vector<std::string> parts;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
      if (entry.is_directory(ignored)) parts.push_back(entry.path());
    for (const auto& part : parts) ::rmdir(part.c_str());
    ::rmdir(folder.c_str());
  }
}

std::vector<pid_t> ControlGroup::processes() const {
  std::vector<pid_t> list;
  if (folders_.empty()) return list;
  auto text = read_file(folders_.begin()->second + "/cgroup.procs", kFileLimit);
  if (!text) return list;
  for (std::string_view line : split(*text, '\n'))
    if (auto pid = parse_u64(trim(line))) list.push_back(static_cast<pid_t>(*pid));
  return list;
}

Status ControlGroup::write(const std::string& controller, const std::string& file, std::string_view value) const {
  auto folder = folders_.find(controller);
  if (folder == folders_.end()) return operation_invalid(fmt::format("cgroup {} controller is not mounted", controller));
  return write_file(folder->second + "/" + file, value);
}

Result<std::string> ControlGroup::read(const std::string& controller, const std::string& file) const {
  auto folder = folders_.find(controller);
  if (folder == folders_.end()) return operation_invalid(fmt::format("cgroup {} controller is not mounted", controller));
  return read_file(folder->second + "/" + file, kFileLimit);
}

Status ControlGroup::set_cpu_shares(u64 shares) const {
  constexpr u64 kLeast = 2, kMost = 262'144;  // the kernel would take the nearest of version 1, and says no in version 2
  if (!v2_ && (shares < kLeast || shares > kMost)) return invalid_arg(fmt::format("shares '{}' must be in range [{}, {}]", shares, kLeast, kMost));
  if (!v2_) return write("cpu", "cpu.shares", std::to_string(shares));
  return write("cpu", "cpu.weight", std::to_string(shares));  // libvirt passes the number on, whatever its scale
}

Status ControlGroup::set_cpu_quota(u64 period_us, i64 quota_us) const {
  if (v2_) return write("cpu", "cpu.max", quota_us < 0 ? fmt::format("max {}", period_us) : fmt::format("{} {}", quota_us, period_us));
  TRY(write("cpu", "cpu.cfs_period_us", std::to_string(period_us)));
  return write("cpu", "cpu.cfs_quota_us", std::to_string(quota_us));
}

Status ControlGroup::set_thread_quota(const std::string& part, const std::vector<int>& threads, u64 period_us, i64 quota_us) const {
  auto folder = folders_.find("cpu");
  if (folder == folders_.end()) return operation_invalid("cgroup cpu controller is not mounted");
  const std::string below = folder->second + "/" + part;
  TRY(make_folder(below));
  // Version 2 divides a process among groups that say so, below one whose children may have the controller.
  if (v2_ && trim(read_file(below + "/cgroup.type", kFileLimit).value_or("threaded")) != "threaded") {
    TRY(write_file(below + "/cgroup.type", "threaded"));
    TRY(write_file(folder->second + "/cgroup.subtree_control", "+cpu"));
  }
  for (int thread : threads) TRY(write_file(below + (v2_ ? "/cgroup.threads" : "/tasks"), std::to_string(thread)));
  ControlGroup own;
  own.v2_ = v2_;
  own.folders_["cpu"] = below;
  return own.set_cpu_quota(period_us, quota_us);
}

Status ControlGroup::set_memory_limit(std::optional<u64> bytes) const {
  if (v2_) return write("memory", "memory.max", bytes ? std::to_string(*bytes) : "max");
  return write("memory", "memory.limit_in_bytes", bytes ? std::to_string(*bytes) : "-1");
}

Status ControlGroup::set_memory_soft_limit(std::optional<u64> bytes) const {
  if (v2_) return write("memory", "memory.high", bytes ? std::to_string(*bytes) : "max");
  return write("memory", "memory.soft_limit_in_bytes", bytes ? std::to_string(*bytes) : "-1");
}

Status ControlGroup::set_swap_limit(std::optional<u64> bytes) const {
  if (!v2_) return write("memory", "memory.memsw.limit_in_bytes", bytes ? std::to_string(*bytes) : "-1");
  if (!bytes) return write("memory", "memory.swap.max", "max");
  const std::string memory = TRY(read("memory", "memory.max"));
  const u64 most = parse_u64(trim(memory)).value_or(*bytes);  // here swap is counted alone
  return write("memory", "memory.swap.max", std::to_string(*bytes > most ? *bytes - most : 0));
}

namespace {

/// Weights are the I/O scheduler's: BFQ has files of its own, where it is loaded; else there may be those of another one.
struct WeightFiles {
  std::array<const char*, 2> v1, v2;
};
constexpr WeightFiles kWeights = {{"blkio.bfq.weight", "blkio.weight"}, {"io.bfq.weight", "io.weight"}};
constexpr WeightFiles kDeviceWeights = {{"blkio.bfq.weight_device", "blkio.weight_device"}, {"io.bfq.weight", "io.weight"}};

/// The first file that is there takes the weight.
Status write_weight(const std::array<const char*, 2>& files, const std::function<bool(const char*)>& readable,
                    const std::function<Status(const char*)>& write, const char* none) {
  for (const char* file : files)
    if (readable(file)) return write(file);
  return operation_invalid(none);
}

}  // namespace

Status ControlGroup::set_device_limit(const std::string& device, DeviceLimit limit, u64 value) const {
  struct stat node;
  if (::stat(device.c_str(), &node) < 0) return os_error("stat " + device);
  if (!S_ISBLK(node.st_mode)) return invalid_arg(fmt::format("device '{}' must be a block device file", device));
  const std::string number = fmt::format("{}:{}", gnu_dev_major(node.st_rdev), gnu_dev_minor(node.st_rdev));
  const char* controller = v2_ ? "io" : "blkio";
  if (limit == DeviceLimit::Weight) {
    const std::string text = fmt::format("{} {}", number, value ? std::to_string(value) : "default");
    return write_weight(v2_ ? kDeviceWeights.v2 : kDeviceWeights.v1, [&](const char* file) { return read(controller, file).has_value(); },
                        [&](const char* file) { return write(controller, file, text); },
                        "blkio device weight is valid only for cfq scheduler");
  }
  constexpr const char* kNames[][2] = {{"", ""}, {"read_iops", "riops"}, {"write_iops", "wiops"}, {"read_bps", "rbps"}, {"write_bps", "wbps"}};
  const auto& names = kNames[static_cast<size_t>(limit)];
  if (!v2_) return write("blkio", fmt::format("blkio.throttle.{}_device", names[0]), fmt::format("{} {}", number, value));
  return write("io", "io.max", fmt::format("{} {}={}", number, names[1], value ? std::to_string(value) : "max"));
}

Status ControlGroup::set_blkio_weight(u64 weight) const {
  const char* controller = v2_ ? "io" : "blkio";
  return write_weight(v2_ ? kWeights.v2 : kWeights.v1, [&](const char* file) { return read(controller, file).has_value(); },
                      [&](const char* file) { return write(controller, file, std::to_string(weight)); },
                      "blkio weight is valid only for bfq or cfq scheduler");
}

Status ControlGroup::set_cpuset(const std::string& cpus) const { return write("cpuset", "cpuset.cpus", cpus); }

Status ControlGroup::set_memory_nodes(const std::string& nodes) const { return write("cpuset", "cpuset.mems", nodes); }

Result<ControlGroup::CpuTime> ControlGroup::cpu_time() const {
  CpuTime time;
  if (v2_) {
    const std::string text = TRY(read("", "cpu.stat"));
    time.total_ns = find_number(text, "usage_usec").value_or(0) * 1000;
    time.user_ns = find_number(text, "user_usec").value_or(0) * 1000;
    time.system_ns = find_number(text, "system_usec").value_or(0) * 1000;
    return time;
  }
  const std::string usage = TRY(read("cpuacct", "cpuacct.usage")), parts = TRY(read("cpuacct", "cpuacct.stat"));
  const u64 tick_ns = 1'000'000'000 / static_cast<u64>(::sysconf(_SC_CLK_TCK));
  time.total_ns = parse_u64(trim(usage)).value_or(0);
  time.user_ns = find_number(parts, "user").value_or(0) * tick_ns;
  time.system_ns = find_number(parts, "system").value_or(0) * tick_ns;
  return time;
}

Result<u64> ControlGroup::memory_bytes() const {
  const std::string text = TRY(read("memory", v2_ ? "memory.current" : "memory.usage_in_bytes"));
  return parse_u64(trim(text)).value_or(0);
}

}  // namespace atl::manage
