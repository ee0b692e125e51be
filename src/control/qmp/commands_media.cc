// Media of CD and floppy drives: trays, ejecting, changing.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/cmdline/translate.h"
#include "control/qmp/block_support.h"
#include "machine/media.h"

namespace atl::control {
namespace {

machine::Media& media(QmpContext& c) { return c.vm.machine().media(); }

/// QEMU takes a drive's name as `device` and a device's as `id`.
Result<std::string> drive_argument(const Json& arguments) {
  std::string id = text_argument(arguments, "id"), device = text_argument(arguments, "device");
  if (id.empty() == device.empty()) return Error(ErrorKind::Invalid, "Need exactly one of 'device' and 'id'");
  return id.empty() ? device : id;
}

Reply eject(QmpContext& c, const Json& arguments) {
  return done(media(c).eject(TRY(drive_argument(arguments)), flag_argument(arguments, "force", false)));
}

Reply open_tray(QmpContext& c, const Json& arguments) {
  return done(media(c).open_tray(TRY(drive_argument(arguments)), flag_argument(arguments, "force", false)));
}

Reply close_tray(QmpContext& c, const Json& arguments) { return done(media(c).close_tray(TRY(drive_argument(arguments)))); }
Reply remove_medium(QmpContext& c, const Json& arguments) { return done(media(c).remove_medium(text_argument(arguments, "id"))); }

Reply insert_medium(QmpContext& c, const Json& arguments) {
  return done(media(c).insert_medium(text_argument(arguments, "id"), text_argument(arguments, "node-name")));
}

Reply change_medium(QmpContext& c, const Json& arguments) {
  const std::string mode = text_argument(arguments, "read-only-mode", "retain");
  if (mode != "retain" && mode != "read-only" && mode != "read-write")
    return Error(ErrorKind::Invalid, fmt::format("Parameter 'read-only-mode' does not accept value '{}'", mode));
  KeyValues values;
  values.set("file", text_argument(arguments, "filename"));
  if (std::string format = text_argument(arguments, "format"); !format.empty()) values.set("format", format);
  if (mode != "read-write") values.set("media", "cdrom");
  auto medium = TRY(drive_from_option(std::move(values), c.vm.fd_sets()));
  return done(media(c).change_medium(TRY(drive_argument(arguments)), medium, flag_argument(arguments, "force", false)));
}

constexpr QmpCommand kCommands[] = {
    {"eject", "device?:s id?:s force?:b", eject, "DeviceNotFound"},
    {"blockdev-open-tray", "device?:s id?:s force?:b", open_tray, "DeviceNotFound"},
    {"blockdev-close-tray", "device?:s id?:s", close_tray, "DeviceNotFound"},
    {"blockdev-remove-medium", "id:s", remove_medium, "DeviceNotFound"},
    {"blockdev-insert-medium", "id:s node-name:s", insert_medium, "DeviceNotFound"},
    {"blockdev-change-medium", "device?:s id?:s filename:s format?:s force?:b read-only-mode?:s", change_medium, "DeviceNotFound"},
};

}  // namespace

std::span<const QmpCommand> media_commands() { return kCommands; }

}  // namespace atl::control
