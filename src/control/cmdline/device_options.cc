// -drive, -blockdev, -device, -object, -global.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/tls.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"
#include "control/qmp/json_text.h"

namespace atl::control {
namespace {

constexpr std::string_view kInterfaces[] = {"", "ide", "scsi", "floppy", "virtio", "pflash", "none"};
constexpr std::string_view kForeignInterfaces[] = {"sd", "mtd", "xen"};

template <size_t N>
bool contains(const std::string_view (&list)[N], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

Status check_interface(const std::string& interface) {
  if (contains(kInterfaces, interface)) return {};
  if (contains(kForeignInterfaces, interface)) return invalid_option(fmt::format("if={} is not available; use if=virtio", interface));
  return invalid_option(fmt::format("unsupported bus type '{}'", interface));
}

Result<std::optional<unsigned>> take_place(KeyValues& values, std::string_view key) {
  constexpr u64 kMax = 255;
  if (!values.has(key)) return std::optional<unsigned>();
  const u64 number = TRY(values.take_u64(key, 0));
  if (number > kMax) return invalid_option(fmt::format("'{}={}' is too much", key, number));
  return std::optional<unsigned>(static_cast<unsigned>(number));
}

Status add_file(Builder& b, const OptionUse& use, const char* interface, unsigned index, bool cdrom) {
  DriveRequest request{.origin = use, .interface = interface, .cdrom = cdrom, .index = index};
  KeyValues values;
  values.set("file", use.value);
  values.set("media", cdrom ? "cdrom" : "disk");
  request.drive = TRY(drive_from_option(std::move(values), b.program().fd_sets));
  b.drives.push_back(std::move(request));
  return {};
}

Status add_drive(Builder& b, const OptionUse& use, KeyValues values) {
  DriveRequest request{.origin = use};
  request.interface = values.take("if").value_or("");
  TRY(check_interface(request.interface));
  request.index = TRY(take_place(values, "index"));
  request.bus = TRY(take_place(values, "bus"));
  request.unit = TRY(take_place(values, "unit"));
  if (request.index && (request.bus || request.unit)) return invalid_option("index cannot be used with bus and unit");
  if (request.interface == "pflash" && (request.unit || request.index)) request.flash_unit = request.unit ? request.unit : request.index;
  request.cdrom = values.get("media") == "cdrom";
  request.drive = TRY(drive_from_option(std::move(values), b.program().fd_sets));
  b.drives.push_back(std::move(request));
  return {};
}

}  // namespace

Status option_drive(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  if (values.get("format") == "help" || values.get("format") == "?") {
    b.line.text = format_help();
    return {};
  }
  return add_drive(b, use, std::move(values));
}

Status option_pflash(Builder& b, const OptionUse& use) {
  KeyValues values;
  values.set("file", use.value);
  values.set("if", "pflash");
  return add_drive(b, use, std::move(values));
}

Status option_hard_disk(Builder& b, const OptionUse& use) {
  return add_file(b, use, "ide", static_cast<unsigned>(use.name.back() - 'a'), false);
}

Status option_cdrom(Builder& b, const OptionUse& use) {
  constexpr unsigned kIndex = 2;
  return add_file(b, use, "ide", kIndex, true);
}

Status option_floppy(Builder& b, const OptionUse& use) {
  return add_file(b, use, "floppy", static_cast<unsigned>(use.name.back() - 'a'), false);
}

Status option_snapshot(Builder& b, const OptionUse&) {
  b.snapshot = true;
  return {};
}

Status option_blockdev(Builder& b, const OptionUse& use) {
  if (use.value.starts_with('{')) {
    auto tree = TRY(parse_json(use.value));
    if (!tree.is_object()) return invalid_option("invalid JSON");
    b.drives.push_back({.origin = use, .drive = TRY(drive_from_tree(std::move(tree), b.program().fd_sets)), .interface = "none"});
    return {};
  }
  auto values = TRY(KeyValues::parse(use.value, "driver"));
  b.drives.push_back({.origin = use, .drive = TRY(drive_from_blockdev(values, b.program().fd_sets)), .interface = "none"});
  return {};
}

namespace {

// The serial ports are parts of the board; this is the way to one that libvirt takes.
Status add_serial_device(Builder& b, const OptionUse& use, KeyValues values) {
  for (const char* key : {"driver", "id"}) values.take(key);
  b.default_serial = false;
  u64 index = TRY(values.take_u64("index", b.serials.size()));
  if (index != b.serials.size()) return invalid_option(fmt::format("index={} is not supported: {} is next", index, b.serials.size()));
  auto chardev = values.take("chardev");
  if (!values.empty()) return invalid_option(fmt::format("Property 'isa-serial.{}' not found", values.entries()[0].key));
  b.serials.push_back({use, chardev ? "chardev:" + *chardev : "none"});
  return {};
}

Status add_tls_credentials(Builder& b, KeyValues values) {
  const std::string type = values.take("qom-type").value_or(""), id = TRY(values.take_required("id"));
  TRY(check_id(id));
  const TlsOptions options = TRY(read_tls_options(type, std::move(values)));
  b.program().tls_credentials[id] = TRY(TlsCredentials::load(options));
  return {};
}

}  // namespace

Status option_device(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "driver"));
  if (values.asks_help()) {
    b.line.text = TRY(device_help(board_device_name(values.get("driver"), machine::BoardKind::Pc)));
    return {};
  }
  for (std::string_view type : {"ide-cd", "ide-hd", "scsi-cd", "scsi-hd"})
    if (values.get("driver") == type) b.default_cdrom = false;
  if (values.get("driver") == "floppy") b.default_floppy = false;
  if (values.get("driver") == "isa-serial") return add_serial_device(b, use, std::move(values));
  b.devices.push_back({use, TRY(device_from_values(std::move(values)))});
  return {};
}

Status option_usb(Builder& b, const OptionUse&) {
  b.usb = true;
  return {};
}

Status option_usbdevice(Builder& b, const OptionUse& use) {
  struct Name {
    std::string_view old_name;
    const char* type;
  };
  constexpr Name kNames[] = {{"tablet", "usb-tablet"}, {"mouse", "usb-mouse"}, {"keyboard", "usb-kbd"}};
  auto name = std::find_if(std::begin(kNames), std::end(kNames), [&](const Name& n) { return n.old_name == use.value; });
  if (name == std::end(kNames)) return invalid_option(fmt::format("could not add USB device '{}'", use.value));
  b.usb = true;
  b.devices.push_back({use, {.type = name->type}});
  return {};
}

Status option_object(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "qom-type"));
  if (values.asks_help()) {
    b.line.text = object_help();
    return {};
  }
  std::string type = values.get("qom-type");
  if (is_memory_object(type)) return add_memory_backend(b, use, std::move(values));
  if (type == "iothread") {
    machine::IoThreadConfig thread;
    values.take("qom-type");
    thread.id = TRY(values.take_required("id"));
    TRY(check_id(thread.id));
    b.config().iothreads.push_back(thread);
    return values.expect_empty();
  }
  if (type == "secret") {
    b.config().secrets.push_back(TRY(secret_from_values(std::move(values))));
    return {};
  }
  if (type.starts_with("tls-creds-")) return add_tls_credentials(b, std::move(values));
  if (type == "throttle-group") {
    b.config().throttle_groups.push_back(TRY(throttle_group_from_values(std::move(values))));
    return {};
  }
  b.config().rngs.push_back(TRY(rng_from_values(std::move(values))));
  return {};
}

Status option_global(Builder& b, const OptionUse& use) {
  GlobalProperty global{.origin = use};
  size_t equals = use.value.find('='), dot = use.value.find('.');
  if (dot < equals && equals != std::string::npos) {
    global.driver = use.value.substr(0, dot);
    global.property = use.value.substr(dot + 1, equals - dot - 1);
    global.value = use.value.substr(equals + 1);
  } else {
    KeyValues values = TRY(KeyValues::parse(use.value));
    global.driver = TRY(values.take_required("driver"));
    global.property = TRY(values.take_required("property"));
    global.value = TRY(values.take_required("value"));
    TRY(values.expect_empty());
  }
  b.globals.push_back(std::move(global));
  return {};
}

}  // namespace atl::control
