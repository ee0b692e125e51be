// -drive, -blockdev, -device, -object, -global.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/cmdline/handlers.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

constexpr std::string_view kForeignInterfaces[] = {"ide", "scsi", "floppy", "sd", "mtd", "pflash", "xen"};

bool is_foreign(std::string_view interface) {
  return std::find(std::begin(kForeignInterfaces), std::end(kForeignInterfaces), interface) != std::end(kForeignInterfaces);
}

Status check_interface(const std::string& interface) {
  if (interface.empty() || interface == "virtio" || interface == "none") return {};
  if (is_foreign(interface)) return invalid_option(fmt::format("if={} is not available; use if=virtio", interface));
  return invalid_option(fmt::format("unsupported bus type '{}'", interface));
}

}  // namespace

Status option_drive(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  DriveRequest request{.origin = use};
  request.interface = values.take("if").value_or("");
  TRY(check_interface(request.interface));
  values.take("index");  // drives of one interface are plugged in the order given
  request.drive = TRY(drive_from_option(std::move(values), b.program().fd_sets));
  b.drives.push_back(std::move(request));
  return {};
}

Status option_no_ide(Builder&, const OptionUse& use) {
  return invalid_option(fmt::format("IDE disks are not available; use -drive file={},if=virtio", use.value));
}

Status option_blockdev(Builder& b, const OptionUse& use) {
  if (use.value.starts_with('{')) {
    auto tree = nlohmann::json::parse(use.value, nullptr, false);
    if (!tree.is_object()) return invalid_option("invalid JSON");
    b.drives.push_back({use, TRY(drive_from_tree(std::move(tree), b.program().fd_sets)), "none"});
    return {};
  }
  auto values = TRY(KeyValues::parse(use.value, "driver"));
  b.drives.push_back({use, TRY(drive_from_blockdev(values, b.program().fd_sets)), "none"});
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

}  // namespace

Status option_device(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "driver"));
  if (values.asks_help()) {
    b.line.text = TRY(device_help(board_device_name(values.get("driver"), machine::BoardKind::Pc)));
    return {};
  }
  if (values.get("driver") == "isa-serial") return add_serial_device(b, use, std::move(values));
  b.devices.push_back({use, TRY(device_from_values(std::move(values)))});
  return {};
}

Status option_object(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "qom-type"));
  if (values.asks_help()) {
    b.line.text = object_help();
    return {};
  }
  std::string type = values.get("qom-type");
  if (type.starts_with("memory-backend-")) {
    if (type == "memory-backend-ram" || type == "memory-backend-file" || type == "memory-backend-memfd")
      return add_memory_backend(b, use, std::move(values));
  }
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
