#include "client/doctor.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/fd.h"
#include "base/strings.h"
#include "base/types.h"

namespace atl::client {

namespace {

using Grade = Finding::Grade;

std::string text_of(const std::string& path) {
  auto text = read_file(path, kMiB);
  return text ? std::string(trim(*text)) : std::string();
}

bool exists(const std::string& path) {
  struct stat s{};
  return ::stat(path.c_str(), &s) == 0;
}

size_t entries_of(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return 0;
  size_t count = 0;
  while (dirent* entry = ::readdir(dir)) count += entry->d_name[0] != '.';
  ::closedir(dir);
  return count;
}

bool has_cpu_flag(const std::string& root, std::string_view flag) {
  std::string text = text_of(root + "/proc/cpuinfo");
  size_t at = text.find("\nflags");
  if (at == text.npos) return false;
  std::string line = " " + text.substr(at + 1, text.find('\n', at + 1) - at - 1) + " ";
  return line.contains(fmt::format(" {} ", flag));
}

Finding hardware(const std::string& root) {
  bool intel = has_cpu_flag(root, "vmx"), amd = has_cpu_flag(root, "svm");
  if (intel || amd) return {Grade::Pass, "hardware virtualization", intel ? "Intel VT-x" : "AMD-V", ""};
  return {Grade::Warn, "hardware virtualization", "neither vmx nor svm in /proc/cpuinfo",
          "switch it on in the firmware, or nested virtualization on in the outer host; until then guests run on the "
          "software CPU"};
}

Finding kvm_device(const std::string& root) {
  std::string path = root + "/dev/kvm";
  if (!exists(path))
    return {Grade::Warn, "/dev/kvm", "missing",
            "modprobe kvm_intel or kvm_amd; guests run on the software CPU without it"};
  if (::access(path.c_str(), R_OK | W_OK) != 0)
    return {Grade::Warn, "/dev/kvm", "no permission", "join the group kvm, or be root"};
  return {Grade::Pass, "/dev/kvm", "can be opened", ""};
}

/// A yes/no parameter of kvm_intel or kvm_amd.
Finding module_parameter(const std::string& root, std::string_view subject, std::string_view intel,
                         std::string_view amd) {
  for (auto [module, name] : {std::pair{"kvm_intel", intel}, {"kvm_amd", amd}}) {
    std::string value = text_of(fmt::format("{}/sys/module/{}/parameters/{}", root, module, name));
    if (value.empty()) continue;
    if (value == "Y" || value == "1")
      return {Grade::Pass, std::string(subject), fmt::format("{} {}", module, name), ""};
    return {Grade::Warn, std::string(subject), fmt::format("{}={} in {}", name, value, module),
            fmt::format("load {} with {}=1", module, name)};
  }
  return {Grade::Warn, std::string(subject), "no KVM module is loaded", ""};
}

Finding iommu(const std::string& root) {
  size_t groups = entries_of(root + "/sys/kernel/iommu_groups");
  if (groups > 0) return {Grade::Pass, "IOMMU", fmt::format("{} groups", groups), ""};
  return {Grade::Warn, "IOMMU", "no groups", "boot with intel_iommu=on or amd_iommu=on to hand PCI devices to guests"};
}

Finding ksm(const std::string& root) {
  std::string run = text_of(root + "/sys/kernel/mm/ksm/run");
  if (run.empty()) return {Grade::Warn, "same-page merging", "the kernel lacks KSM", ""};
  if (run == "1") return {Grade::Pass, "same-page merging", "on", ""};
  return {Grade::Warn, "same-page merging", "off", "echo 1 > /sys/kernel/mm/ksm/run"};
}

Finding huge_pages(const std::string& root) {
  std::string text = text_of(root + "/sys/kernel/mm/transparent_hugepage/enabled");
  std::string reserved = text_of(root + "/proc/sys/vm/nr_hugepages");
  std::string detail =
      fmt::format("transparent: {}; reserved: {}", text.empty() ? "none" : text, reserved.empty() ? "0" : reserved);
  if (!text.empty() && !text.contains("[never]")) return {Grade::Pass, "huge pages", detail, ""};
  return {Grade::Warn, "huge pages", detail, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
}

Finding numa(const std::string& root) {
  std::string nodes = text_of(root + "/sys/devices/system/node/online");
  return {Grade::Pass, "NUMA", nodes.empty() ? "none" : "nodes " + nodes, ""};
}

Finding control_groups(const std::string& root) {
  std::string two = text_of(root + "/sys/fs/cgroup/cgroup.controllers");
  if (!two.empty()) return {Grade::Pass, "control groups", "v2: " + two, ""};
  if (exists(root + "/sys/fs/cgroup/cpu") && exists(root + "/sys/fs/cgroup/memory"))
    return {Grade::Pass, "control groups", "v1", ""};
  return {Grade::Warn, "control groups", "neither v2 nor v1 is mounted", "mount -t cgroup2 none /sys/fs/cgroup"};
}

Finding device_node(const std::string& root, std::string_view path, std::string_view what) {
  if (exists(root + std::string(path))) return {Grade::Pass, std::string(path), std::string(what), ""};
  return {Grade::Warn, std::string(path), "missing: " + std::string(what), ""};
}

Finding io_uring(const std::string& root) {
  std::string off = text_of(root + "/proc/sys/kernel/io_uring_disabled");
  if (off.empty() || off == "0") return {Grade::Pass, "io_uring", "allowed", ""};
  return {Grade::Fail, "io_uring", "switched off",
          "sysctl kernel.io_uring_disabled=0; virtual machines cannot start without it"};
}

std::string_view word(Grade grade) { return grade == Grade::Pass ? "PASS" : grade == Grade::Warn ? "WARN" : "FAIL"; }

}  // namespace

std::vector<Finding> examine_host(const std::string& root) {
  return {hardware(root),
          kvm_device(root),
          module_parameter(root, "two-dimensional paging", "ept", "npt"),
          module_parameter(root, "nested guests", "nested", "nested"),
          iommu(root),
          ksm(root),
          huge_pages(root),
          numa(root),
          control_groups(root),
          io_uring(root),
          device_node(root, "/dev/net/tun", "tap devices"),
          device_node(root, "/dev/vhost-net", "network packets by the kernel")};
}

int run_doctor(std::span<const std::string> words) {
  if (!words.empty()) {
    fmt::print(stderr, "error: doctor takes no arguments\n");
    return 1;
  }
  bool failed = false;
  for (const Finding& f : examine_host("")) {
    failed |= f.grade == Grade::Fail;
    fmt::print("{:<26} {}  {}\n", f.subject, word(f.grade), f.detail);
    if (!f.advice.empty()) fmt::print("{:<26}       -> {}\n", "", f.advice);
  }
  return failed;
}

}  // namespace atl::client
