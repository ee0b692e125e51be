// From options to the domain's XML. What is left out, the daemon chooses: addresses, MACs, machine versions.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/strings.h"
#include "client/install.h"
#include "manage/xml/write.h"

namespace atl::client {
namespace {

using manage::invalid_arg;
using manage::xml::Element;

std::string value_of(const SubOptions& list, std::string_view key, std::string fallback = {}) {
  for (const auto& [name, value] : list)
    if (name == key) return value;
  return fallback;
}

bool is_on(const std::string& text) { return text == "on" || text == "yes" || text == "true" || text == "1"; }

bool is_off(const std::string& text) { return text == "off" || text == "no" || text == "false" || text == "0"; }

/// Mistyped keys are told, not swallowed.
Status check_keys(std::string_view option, const SubOptions& list, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : list)
    if (!key.empty() && std::ranges::find(known, key) == known.end())
      return invalid_arg(fmt::format("--{}: '{}' is not supported", option, key));
  return {};
}

std::string absolute(const std::string& path) {
  if (path.empty() || path.front() == '/') return path;
  char folder[4096];
  return ::getcwd(folder, sizeof folder) ? fmt::format("{}/{}", folder, path) : path;
}

Result<u64> number(std::string_view option, const std::string& text) {
  auto value = parse_u64(text);
  if (!value || *value == 0 || *value > 1'000'000'000)
    return invalid_arg(fmt::format("--{}: '{}' is not a number that makes sense", option, text));
  return *value;
}

/// Gigabytes with a fraction, as virt-install takes them.
Result<u64> gigabytes(const std::string& text) {
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !(value > 0) || value > 1e9)
    return invalid_arg(fmt::format("--disk: size '{}' is not a number of gigabytes", text));
  return static_cast<u64>(value * static_cast<double>(kGiB));
}

/// Guests that have no virtio drivers on their installation media.
bool is_foreign(const InstallOptions& o) { return o["os-variant"].starts_with("win"); }

/// Disks' names, by bus.
class TargetNames {
 public:
  std::string next(const std::string& bus) {
    const char* prefix = bus == "virtio" ? "vd" : bus == "ide" ? "hd" : bus == "fdc" ? "fd" : "sd";
    for (char letter = 'a'; letter <= 'z'; ++letter)
      if (std::string name = fmt::format("{}{}", prefix, letter); used_.insert(name).second) return name;
    return fmt::format("{}z", prefix);
  }
  void take(const std::string& name) { used_.insert(name); }

 private:
  std::set<std::string> used_;
};

struct Builder {
  const InstallOptions& options;
  InstallPlan& plan;
  TargetNames targets;

  Status identity(Element& domain);
  Status processor(Element& domain);
  Status disks(Element& devices);
  Status disk(Element& devices, const SubOptions& list);
  Status disk_source(Element& element, const SubOptions& list);
  Status networks(Element& devices);
  Status screens(Element& devices);
  Status lines(Element& devices);
  Status boot(Element& domain);
};

Status Builder::identity(Element& domain) {
  if (options["name"].empty()) return invalid_arg("--name is needed");
  plan.name = options["name"];
  const std::string type = options["virt-type"].empty() ? "kvm" : options["virt-type"];
  domain.set("type", type);
  domain.add("name", std::string_view(plan.name));
  if (options.has("uuid")) domain.add("uuid", std::string_view(options["uuid"]));
  if (options.has("description")) domain.add("description", std::string_view(options["description"]));
  SubOptions memory = split_sub_options(options["memory"]);
  TRY(check_keys("memory", memory, {"memory", "maxmemory", "currentMemory"}));
  const std::string now = value_of(memory, "", value_of(memory, "memory"));
  if (now.empty()) return invalid_arg("--memory is needed");
  u64 current = TRY(number("memory", now)), most = current;
  if (std::string text = value_of(memory, "maxmemory"); !text.empty()) most = TRY(number("memory", text));
  domain.add("memory", most).set("unit", "MiB");
  domain.add("currentMemory", current).set("unit", "MiB");
  return {};
}

Status Builder::processor(Element& domain) {
  SubOptions count = split_sub_options(options["vcpus"]);
  TRY(check_keys("vcpus", count, {"vcpus", "maxvcpus"}));
  const std::string now = value_of(count, "", value_of(count, "vcpus", "1"));
  const std::string most = value_of(count, "maxvcpus", now);
  u64 current = TRY(number("vcpus", now)), all = TRY(number("vcpus", most));
  Element& vcpu = domain.add("vcpu", all);
  if (current != all) vcpu.set("current", current);
  SubOptions cpu = split_sub_options(options["cpu"]);
  if (cpu.empty()) return {};
  const std::string model = value_of(cpu, "", value_of(cpu, "mode"));
  Element& element = domain.add("cpu");
  const std::string mode = model == "host" ? "host-passthrough" : model;
  if (mode == "host-passthrough" || mode == "host-model" || mode == "maximum") {
    element.set("mode", mode);
  } else {
    element.set("mode", "custom").set("match", "exact");
    element.add("model", std::string_view(model)).set("fallback", "allow");
  }
  for (const auto& [key, value] : cpu) {
    if (key.empty() || key == "mode") continue;
    // "+pcid" and "require=pcid"
    std::string name = value.empty() ? key.substr(1) : value;
    std::string policy = key[0] == '+' ? "force" : key[0] == '-' ? "disable" : key;
    element.add("feature").set("policy", policy).set("name", name);
  }
  return {};
}

/// A file, a device, or a volume; one that is to be made is noted.
Status Builder::disk_source(Element& element, const SubOptions& list) {
  std::string volume = value_of(list, "vol"), path = absolute(value_of(list, "path", value_of(list, "")));
  std::string format = value_of(list, "format", value_of(list, "driver.type"));
  if (!volume.empty()) {
    size_t slash = volume.find('/');
    if (slash == volume.npos) return invalid_arg("--disk: vol= takes POOL/VOLUME");
    element.set("type", "volume");
    element.add("source").set("pool", volume.substr(0, slash)).set("volume", volume.substr(slash + 1));
  } else if (!path.empty()) {
    struct stat status;
    bool is_there = ::stat(path.c_str(), &status) == 0;
    element.set("type", is_there && S_ISBLK(status.st_mode) ? "block" : "file");
    element.add("source").set(is_there && S_ISBLK(status.st_mode) ? "dev" : "file", path);
    const std::string size = value_of(list, "size");
    if (!is_there && size.empty() && value_of(list, "backing_store").empty())
      return invalid_arg(fmt::format("--disk: '{}' does not exist, and no size= says how large it is to be", path));
    if (!is_there) {
      if (format.empty()) format = "qcow2";
      NewVolume made{path,
                     format,
                     absolute(value_of(list, "backing_store")),
                     value_of(list, "backing_format"),
                     0,
                     !is_off(value_of(list, "sparse"))};
      if (!size.empty()) made.bytes = TRY(gigabytes(size));
      plan.volumes.push_back(std::move(made));
    }
  } else if (value_of(list, "device", "disk") == "disk") {
    return invalid_arg("--disk needs path= or vol=");
  } else {
    element.set("type", "file");
  }
  if (!format.empty()) element.child("driver")->set("type", format);
  return {};
}

Status Builder::disk(Element& devices, const SubOptions& list) {
  TRY(check_keys("disk", list,
                 {"path",   "size",          "format",         "driver.type",  "bus",    "target.bus", "target.dev",
                  "device", "readonly",      "cache",          "driver.cache", "io",     "discard",    "driver.discard",
                  "serial", "backing_store", "backing_format", "vol",          "sparse", "boot.order"}));
  const std::string device = value_of(list, "device", "disk");
  Element element("disk");
  element.set("type", "file").set("device", device);
  Element& driver = element.add("driver");
  driver.set("name", "qemu").set("type", "raw");
  TRY(disk_source(element, list));
  for (const char* key : {"cache", "io", "discard"})
    if (std::string value = value_of(list, key, value_of(list, std::string("driver.") + key)); !value.empty())
      driver.set(key, value);
  const std::string usual = device == "cdrom"     ? "sata"
                            : device == "floppy"  ? "fdc"
                            : is_foreign(options) ? "sata"
                                                  : "virtio";
  std::string bus = value_of(list, "bus", value_of(list, "target.bus", usual));
  if (bus == "sata" && options["machine"] != "q35" && !options["machine"].contains("q35"))
    bus = "ide";  // what the old board has
  const std::string name = value_of(list, "target.dev", targets.next(bus));
  targets.take(name);
  element.add("target").set("dev", name).set("bus", bus);
  if (std::string serial = value_of(list, "serial"); !serial.empty()) element.add("serial", std::string_view(serial));
  if (is_on(value_of(list, "readonly")) || device == "cdrom") element.add("readonly");
  if (std::string order = value_of(list, "boot.order"); !order.empty()) element.add("boot").set("order", order);
  devices.add(std::move(element));
  return {};
}

Status Builder::disks(Element& devices) {
  if (auto found = options.devices.find("disk"); found != options.devices.end())
    for (const SubOptions& list : found->second)
      if (value_of(list, "") != "none") TRY(disk(devices, list));
  if (options.has("cdrom")) return disk(devices, {{"path", options["cdrom"]}, {"device", "cdrom"}});
  return {};
}

Status Builder::networks(Element& devices) {
  auto found = options.devices.find("network");
  const std::vector<SubOptions> usual = {{{"network", "default"}}};
  for (const SubOptions& list : found == options.devices.end() ? usual : found->second) {
    TRY(check_keys("network", list,
                   {"network", "bridge", "user", "type", "source", "model", "mac", "mac.address", "portgroup",
                    "source.portgroup", "filterref", "mtu.size", "target.dev", "boot.order"}));
    std::string word = value_of(list, "", value_of(list, "type"));
    if (word == "none") return {};
    std::string network = value_of(list, "network"), bridge = value_of(list, "bridge");
    if (word == "network" && network.empty()) network = value_of(list, "source");
    if (word == "bridge" && bridge.empty()) bridge = value_of(list, "source");
    const std::string type = !network.empty() ? "network" : !bridge.empty() ? "bridge" : word;
    if (type != "network" && type != "bridge" && type != "user")
      return invalid_arg(fmt::format("--network: '{}' is not supported", type));
    Element& card = devices.add("interface").set("type", type);
    if (std::string mac = value_of(list, "mac", value_of(list, "mac.address")); !mac.empty() && mac != "RANDOM")
      card.add("mac").set("address", mac);
    if (type != "user") card.add("source").set(type, type == "network" ? network : bridge);
    if (std::string group = value_of(list, "portgroup", value_of(list, "source.portgroup")); !group.empty())
      card.child("source")->set("portgroup", group);
    card.add("model").set("type", value_of(list, "model", is_foreign(options) ? "e1000e" : "virtio"));
    if (std::string filter = value_of(list, "filterref"); !filter.empty()) card.add("filterref").set("filter", filter);
    if (std::string mtu = value_of(list, "mtu.size"); !mtu.empty()) card.add("mtu").set("size", mtu);
    if (std::string dev = value_of(list, "target.dev"); !dev.empty()) card.add("target").set("dev", dev);
    if (std::string order = value_of(list, "boot.order"); !order.empty()) card.add("boot").set("order", order);
  }
  return {};
}

Status Builder::screens(Element& devices) {
  auto found = options.devices.find("graphics");
  const std::vector<SubOptions> usual = {{{"", "vnc"}}};
  bool has_screen = false;
  for (const SubOptions& list : found == options.devices.end() ? usual : found->second) {
    TRY(check_keys("graphics", list, {"port", "listen", "password", "keymap", "type"}));
    const std::string type = value_of(list, "", value_of(list, "type"));
    if (type == "none") continue;
    if (type != "vnc") return invalid_arg(fmt::format("--graphics: '{}' is not supported, only vnc and none", type));
    has_screen = true;
    Element& graphics = devices.add("graphics");
    graphics.set("type", "vnc").set("port", value_of(list, "port", "-1"));
    for (auto [key, attribute] : {std::pair{"listen", "listen"}, {"password", "passwd"}, {"keymap", "keymap"}})
      if (std::string value = value_of(list, key); !value.empty()) graphics.set(attribute, value);
  }
  auto video = options.devices.find("video");
  if (video != options.devices.end()) {
    for (const SubOptions& list : video->second)
      if (std::string model = value_of(list, "", value_of(list, "model")); model != "none")
        devices.add("video").add("model").set("type", model);
  } else if (has_screen) {
    devices.add("video").add("model").set("type", "vga");
  }
  auto input = options.devices.find("input");
  if (input != options.devices.end()) {
    for (const SubOptions& list : input->second)
      devices.add("input")
          .set("type", value_of(list, "", value_of(list, "type")))
          .set("bus", value_of(list, "bus", "usb"));
  } else if (has_screen) {
    devices.add("input").set("type", "tablet").set("bus", "usb");
  }
  return {};
}

/// Serial ports and consoles; without any there is one of each.
Status Builder::lines(Element& devices) {
  auto serial = options.devices.find("serial");
  if (serial == options.devices.end())
    devices.add("serial").set("type", "pty");
  else
    for (const SubOptions& list : serial->second) {
      TRY(check_keys("serial", list, {"path", "source.path", "type"}));
      Element& line = devices.add("serial").set("type", value_of(list, "", value_of(list, "type", "pty")));
      if (std::string path = value_of(list, "path", value_of(list, "source.path")); !path.empty())
        line.add("source").set("path", absolute(path));
    }
  if (auto console = options.devices.find("console"); console != options.devices.end())
    for (const SubOptions& list : console->second) devices.add("console").set("type", value_of(list, "", "pty"));
  if (auto controller = options.devices.find("controller"); controller != options.devices.end())
    for (const SubOptions& list : controller->second) {
      Element& element = devices.add("controller").set("type", value_of(list, "", value_of(list, "type")));
      if (std::string model = value_of(list, "model"); !model.empty()) element.set("model", model);
    }
  if (std::string rng = options.has("rng") ? split_sub_options(options["rng"]).front().second : "/dev/urandom";
      rng != "none")
    devices.add("rng").set("model", "virtio").add("backend", std::string_view(rng)).set("model", "random");
  if (options.has("memballoon"))
    devices.add("memballoon").set("model", split_sub_options(options["memballoon"]).front().second);
  return {};
}

void add_kernel(Element& os, const SubOptions& list, const std::string& more) {
  for (const char* name : {"kernel", "initrd"})
    if (std::string path = value_of(list, name); !path.empty()) os.add(name, std::string_view(absolute(path)));
  std::string words = value_of(list, "kernel_args", value_of(list, "cmdline"));
  if (!more.empty()) words += (words.empty() ? "" : " ") + more;
  if (!words.empty()) os.add("cmdline", std::string_view(words));
}

/// <os> and what happens at a reboot, of the two phases.
Status Builder::boot(Element& domain) {
  Element os("os");
  Element& type = os.add("type", "hvm");
  type.set("arch", options["arch"].empty() ? "x86_64" : options["arch"]);
  if (!options["machine"].empty()) type.set("machine", options["machine"]);
  SubOptions boot = split_sub_options(options["boot"]);
  TRY(check_keys(
      "boot", boot,
      {"hd", "cdrom", "network", "fd", "uefi", "kernel", "initrd", "kernel_args", "cmdline", "menu", "loader"}));
  std::vector<std::string> order;
  for (const auto& [key, value] : boot) {
    const std::string& word = key.empty() ? value : key;
    if (word == "uefi")
      os.set("firmware", "efi");
    else if (word == "loader")
      os.add("loader", std::string_view(absolute(value)));
    else if (word == "menu")
      os.add("bootmenu").set("enable", is_on(value) ? "yes" : "no");
    else if (value.empty() || key.empty())
      order.push_back(word);
  }
  Element first = os;
  add_kernel(os, boot, "");
  SubOptions install = split_sub_options(options["install"]);
  TRY(check_keys("install", install, {"kernel", "initrd", "kernel_args"}));
  plan.installs = options.has("cdrom") || options.has("pxe") || !value_of(install, "kernel").empty();
  add_kernel(first, install, options["extra-args"]);
  if (options.has("cdrom")) first.add("boot").set("dev", "cdrom");
  if (options.has("pxe")) first.add("boot").set("dev", "network");
  if (order.empty()) order.push_back("hd");
  for (const std::string& device : order) os.add("boot").set("dev", device);
  if (plan.installs) first.add("boot").set("dev", "hd");
  plan.first.add(plan.installs ? std::move(first) : os);
  domain.add(std::move(os));
  return {};
}

/// Everything that both phases share, behind <os>.
void finish(Element& domain, const Element& rest, bool is_installer) {
  for (const Element& child : rest.content()) {
    if (is_installer && child.name() == "on_reboot") {
      domain.add("on_reboot", "destroy");  // the installer's reboot is the end of it
      continue;
    }
    domain.add(child);
  }
}

}  // namespace

Result<InstallPlan> plan_install(const InstallOptions& options) {
  if (options.has("location"))
    return invalid_arg(
        "--location is not supported: fetch the kernel and the initrd, and name them with --install "
        "kernel=FILE,initrd=FILE");
  bool has_way = options.has("cdrom") || options.has("import") || options.has("install") || options.has("pxe") ||
                 options.has("boot");
  if (!has_way) return invalid_arg("one of --cdrom, --import, --install, --pxe or --boot must say what to boot");
  if (options.has("arch") && options["arch"] != "x86_64")
    return invalid_arg(fmt::format("--arch: '{}' is not supported", options["arch"]));
  InstallPlan plan;
  Builder builder{options, plan, {}};
  TRY(builder.identity(plan.last));
  Element rest("rest");
  TRY(builder.processor(rest));
  Element& devices = rest.add("devices");
  TRY(builder.disks(devices));
  TRY(builder.networks(devices));
  TRY(builder.screens(devices));
  TRY(builder.lines(devices));
  plan.first = plan.last;
  TRY(builder.boot(plan.last));
  Element& features = *rest.content().insert(std::ranges::find(rest.content(), std::string("devices"), &Element::name),
                                             Element("features"));
  features.add("acpi");
  features.add("apic");
  Element& reboot = *rest.content().insert(std::ranges::find(rest.content(), std::string("devices"), &Element::name),
                                           Element("on_reboot"));
  reboot.set_text("restart");
  finish(plan.first, rest, plan.installs);
  finish(plan.last, rest, false);
  return plan;
}

}  // namespace atl::client
