// Character back ends: queries, ring buffers, opening and closing them while the VM runs.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/strings.h"
#include "control/cmdline/json_values.h"
#include "control/cmdline/translate.h"
#include "control/qmp/command.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;

Reply query_chardev(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const Chardev* chardev : c.vm.chars().all())
    list.push_back({{"label", chardev->id()}, {"filename", chardev->describe()}, {"frontend-open", chardev->frontend_open()}});
  return list;
}

Reply query_chardev_backends(QmpContext&, const Json&) {
  Json list = Json::array();
  for (auto name : chardev_backends()) list.push_back({{"name", name}});
  return list;
}

// --- ring buffers ---

Result<bool> is_base64(const Json& arguments) {
  const std::string format = text_argument(arguments, "format", "utf8");
  if (format != "utf8" && format != "base64") return Error(ErrorKind::Invalid, fmt::format("Parameter 'format' does not accept value '{}'", format));
  return format == "base64";
}

Result<Chardev*> find_device(QmpContext& c, const Json& arguments) {
  const auto& name = arguments["device"].get_ref<const std::string&>();
  Chardev* chardev = c.vm.chars().find(name);
  if (!chardev) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", name));
  return chardev;
}

Reply ringbuf_read(QmpContext& c, const Json& arguments) {
  const bool base64 = TRY(is_base64(arguments));
  Chardev* chardev = TRY(find_device(c, arguments));
  const std::string bytes = TRY(chardev->read_ring(number_argument(arguments, "size").value_or(0)));
  return Json(base64 ? encode_base64(bytes) : bytes);
}

Reply ringbuf_write(QmpContext& c, const Json& arguments) {
  const bool base64 = TRY(is_base64(arguments));
  Chardev* chardev = TRY(find_device(c, arguments));
  TRY(chardev->read_ring(0));  // it is one
  std::optional<std::string> bytes = text_argument(arguments, "data");
  if (base64) bytes = decode_base64(*bytes);
  if (!bytes) return Error(ErrorKind::Invalid, "Parameter 'data' is not valid base64");
  chardev->write({reinterpret_cast<const u8*>(bytes->data()), bytes->size()});
  return Json::object();
}

// --- while the VM runs ---

/// The command line's key for one of the schema's.
std::string_view option_key(std::string_view member) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {{"out", "path"}, {"in", "input-path"}, {"device", "path"}};
  for (auto [from, to] : kNames)
    if (member == from) return to;
  return member;
}

/// SocketAddressLegacy: {"type": "unix", "data": {"path": ...}}.
Status put_address(QmpContext& c, const Json& address, KeyValues& values) {
  const std::string type = text_argument(address, "type");
  if (type != "inet" && type != "unix" && type != "fd") return Error(ErrorKind::Unsupported, fmt::format("Parameter 'addr.type' does not accept value '{}'", type));
  const KeyValues data = key_values_from_json(address.value("data", Json::object()));
  for (const auto& entry : data.entries()) values.set(entry.key == "str" ? "fd" : entry.key, entry.value);
  if (type != "fd" || parse_u64(values.get("fd"))) return {};
  Fd fd = TRY(c.vm.take_fd(values.get("fd")));
  values.set("fd", fmt::format("{}", fd.release()));  // the back end's for good
  return {};
}

/// {"type": ..., "data": {...}} as the list that -chardev would have had; sockets are servers that do not wait if nothing is said.
Result<KeyValues> backend_values(QmpContext& c, const std::string& id, const Json& backend) {
  KeyValues values;
  values.set("id", id);
  values.set("backend", text_argument(backend, "type"));
  Json data = backend.value("data", Json::object());
  if (values.get("backend") == "socket") {
    values.set("server", "on");
    if (data.value("server", Json(true)) == true) values.set("wait", "off");
    TRY(put_address(c, data.value("addr", Json::object()), values));
    data.erase("addr");
  }
  const KeyValues rest = key_values_from_json(data);
  for (const auto& entry : rest.entries()) values.set(std::string(option_key(entry.key)), entry.value);
  return values;
}

Reply chardev_add(QmpContext& c, const Json& arguments) {
  const std::string id = text_argument(arguments, "id");
  if (c.vm.chars().find(id)) return Error(ErrorKind::Exists, fmt::format("Chardev with id '{}' already exists", id));
  const Json& backend = arguments["backend"];
  KeyValues values = TRY(backend_values(c, id, backend));
  const Chardev* chardev = TRY(c.vm.add_chardev(std::move(values)));
  if (backend["type"] != "pty") return Json::object();
  return Json{{"pty", chardev->describe().substr(4)}};  // behind "pty:"
}

/// The same in the place of one that has a user.
Reply chardev_change(QmpContext& c, const Json& arguments) {
  const std::string id = text_argument(arguments, "id");
  if (!c.vm.chars().find(id)) return Error(ErrorKind::NotFound, fmt::format("Chardev '{}' does not exist", id));
  const Json& backend = arguments["backend"];
  KeyValues values = TRY(backend_values(c, id, backend));
  const Chardev* chardev = TRY(c.vm.change_chardev(std::move(values)));
  if (backend["type"] != "pty") return Json::object();
  return Json{{"pty", chardev->describe().substr(4)}};
}

Reply chardev_send_break(QmpContext& c, const Json& arguments) {
  TRY(c.vm.chars().send_break(text_argument(arguments, "id")));
  return Json::object();
}

// --- connections that hang ---

Reply query_yank(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const Chardev* chardev : c.vm.chars().all())
    if (chardev->has_connection()) list.push_back({{"type", "chardev"}, {"id", chardev->id()}});
  return list;
}

Result<Chardev*> yank_instance(QmpContext& c, const Json& instance) {
  if (!instance.is_object() || text_argument(instance, "type").empty()) return Error(ErrorKind::Invalid, "Parameter 'instances[].type' is missing");
  Chardev* chardev = text_argument(instance, "type") == "chardev" ? c.vm.chars().find(text_argument(instance, "id")) : nullptr;
  if (!chardev || !chardev->has_connection()) return Error(ErrorKind::NotFound, "Instance not found");
  return chardev;
}

/// All of them or, if one is not known, none.
Reply yank(QmpContext& c, const Json& arguments) {
  std::vector<Chardev*> found;
  for (const Json& instance : arguments["instances"]) found.push_back(TRY(yank_instance(c, instance)));
  for (Chardev* chardev : found) chardev->cut_connection();
  return Json::object();
}

/// A connected socket for VNC, or for a chardev that listens.
Reply add_client(QmpContext& c, const Json& arguments) {
  const std::string protocol = text_argument(arguments, "protocol"), name = text_argument(arguments, "fdname");
  auto fd = c.vm.take_fd(name);
  if (!fd) return Error(ErrorKind::Invalid, fmt::format("File descriptor named '{}' has not been found", name));
  if (protocol == "vnc") {
    if (!c.vm.remote_screen()) return Error(ErrorKind::Invalid, "VNC is not enabled (-vnc)");
    const bool trusted = arguments.value("skipauth", Json(false)) == true;
    TRY(c.vm.remote_screen()->server().adopt(*std::move(fd), trusted));
    return Json::object();
  }
  Chardev* chardev = c.vm.chars().find(protocol);
  if (!chardev) return Error(ErrorKind::Invalid, fmt::format("protocol '{}' is invalid", protocol));
  TRY(chardev->add_client(*std::move(fd)));
  return Json::object();
}

Reply chardev_remove(QmpContext& c, const Json& arguments) {
  TRY(c.vm.chars().remove(text_argument(arguments, "id")));
  return Json::object();
}

constexpr QmpCommand kCommands[] = {
    {"query-chardev", "", query_chardev},
    {"query-chardev-backends", "", query_chardev_backends},
    {"ringbuf-read", "device:s size:i format?:s", ringbuf_read, "DeviceNotFound"},
    {"ringbuf-write", "device:s data:s format?:s", ringbuf_write, "DeviceNotFound"},
    {"chardev-add", "id:s backend:o", chardev_add},
    {"chardev-remove", "id:s", chardev_remove},
    {"chardev-change", "id:s backend:o", chardev_change},
    {"chardev-send-break", "id:s", chardev_send_break},
    {"add_client", "protocol:s fdname:s skipauth?:b tls?:b", add_client},
    {"query-yank", "", query_yank},
    {"yank", "instances:a", yank, "DeviceNotFound"},
};

}  // namespace

std::span<const QmpCommand> chardev_commands() { return kCommands; }

}  // namespace atl::control
