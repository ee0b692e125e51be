// Screen, keyboard and mouse.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/qmp/command.h"
#include "control/screen/screendump.h"
#include "display/keys.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

const Json& member(const Json& object, const char* name) {
  static const Json none;
  auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : none;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

Reply take_screendump(QmpContext& c, const Json& arguments) {
  auto format = TRY(picture_format(text_argument(arguments, "format", "ppm")));
  if (number_argument(arguments, "head").value_or(0) != 0) return invalid("there is one head, number 0");
  if (arguments.contains("device")) return invalid("there is one screen; 'device' is not accepted");
  TRY(screendump(c.vm.machine(), text_argument(arguments, "filename"), format));
  return Json::object();
}

/// {"type": "qcode", "data": "ret"} or {"type": "number", "data": 28}.
Result<u8> key_of(const Json& value) {
  const std::string type = text_of(member(value, "type"));
  const Json& data = member(value, "data");
  if (type == "qcode") {
    if (auto number = display::key_number(text_of(data))) return *number;
    return invalid(fmt::format("Parameter 'data' does not accept value '{}'", text_of(data)));
  }
  if (type == "number" && data.is_number_unsigned() && data.get<u64>() > 0 && data.get<u64>() < 256) {
    return static_cast<u8>(data.get<u64>());
  }
  return invalid("a key is a 'qcode' with a name, or a 'number' from 1 to 255");
}

Reply send_key(QmpContext& c, const Json& arguments) {
  UserInput::Chord chord;
  for (const Json& key : arguments["keys"]) chord.push_back(TRY(key_of(key)));
  if (chord.empty() || chord.size() > 16) return invalid("1 to 16 keys are expected");
  TRY(c.vm.input().press(std::move(chord), number_argument(arguments, "hold-time").value_or(UserInput::kHold_ms)));
  return Json::object();
}

/// Bits of the PS/2 mouse; the wheel's "buttons" are handled apart.
u8 button_bit(const std::string& name) {
  struct Button {
    const char* name;
    u8 bit;
  };
  constexpr Button kButtons[] = {{"left", 1}, {"right", 2}, {"middle", 4}, {"side", 8}, {"extra", 16}};
  for (const Button& b : kButtons)
    if (name == b.name) return b.bit;
  return 0;
}

Status send_button(UserInput& input, const Json& data) {
  const std::string name = text_of(member(data, "button"));
  const bool down = member(data, "down") == Json(true);
  if (name == "wheel-up" || name == "wheel-down") return down ? input.move(0, 0, name == "wheel-up" ? -1 : 1) : Status{};
  const u8 bit = button_bit(name);
  if (!bit) return invalid(fmt::format("Parameter 'button' does not accept value '{}'", name));
  return input.set_buttons(static_cast<u8>(down ? input.buttons() | bit : input.buttons() & ~bit));
}

Status send_movement(UserInput& input, const Json& data) {
  const std::string axis = text_of(member(data, "axis"));
  const Json& value = member(data, "value");
  if (!value.is_number_integer() || (axis != "x" && axis != "y")) return invalid("an axis 'x' or 'y' and a value are expected");
  const auto steps = static_cast<i32>(std::clamp<i64>(value.get<i64>(), -32768, 32767));
  return axis == "x" ? input.move(steps, 0, 0) : input.move(0, steps, 0);
}

Status send_event(UserInput& input, const Json& event) {
  const std::string type = text_of(member(event, "type"));
  const Json& data = member(event, "data");
  if (type == "key") return input.key(TRY(key_of(member(data, "key"))), member(data, "down") == Json(true));
  if (type == "btn") return send_button(input, data);
  if (type == "rel") return send_movement(input, data);
  if (type == "abs") return Error(ErrorKind::NotFound, "Input handler not found for event type abs");
  return invalid(fmt::format("Parameter 'type' does not accept value '{}'", type));
}

Reply input_send_event(QmpContext& c, const Json& arguments) {
  if (arguments.contains("device") || number_argument(arguments, "head").value_or(0) != 0)
    return invalid("there is one screen; 'device' and other heads than 0 are not accepted");
  for (const Json& event : arguments["events"]) TRY(send_event(c.vm.input(), event));
  return Json::object();
}

Result<display::vnc::Server*> vnc_server(QmpContext& c) {
  if (RemoteScreen* screen = c.vm.remote_screen()) return &screen->server();
  return Error(ErrorKind::NotFound, "VNC is not enabled (-vnc)");
}

Status set_vnc_password(QmpContext& c, const Json& arguments) {
  auto* server = TRY(vnc_server(c));
  if (!server->has_password()) return invalid("VNC has no password authentication (-vnc ...,password=on)");
  server->set_password(text_argument(arguments, "password"));
  return {};
}

Reply change_vnc_password(QmpContext& c, const Json& arguments) {
  TRY(set_vnc_password(c, arguments));
  return Json::object();
}

Reply set_password(QmpContext& c, const Json& arguments) {
  if (arguments["protocol"] != "vnc") return invalid("Parameter 'protocol' accepts 'vnc'");
  if (arguments.contains("display")) return invalid("there is one remote screen; 'display' is not accepted");
  if (text_argument(arguments, "connected", "keep") != "keep") return invalid("Parameter 'connected' accepts 'keep'");
  return change_vnc_password(c, arguments);
}

Reply query_vnc(QmpContext& c, const Json&) {
  if (!c.vm.remote_screen()) return Json{{"enabled", false}};
  const display::vnc::Server& server = c.vm.remote_screen()->server();
  const auto& options = server.options();
  const bool local = !options.unix_path.empty();
  return Json{{"enabled", true},
              {"host", local ? options.unix_path : options.host.empty() ? "0.0.0.0" : options.host},
              {"service", local ? "" : options.port},
              {"family", local ? "unix" : options.host.find(':') == std::string::npos ? "ipv4" : "ipv6"},
              {"auth", server.has_password() ? "vnc" : "none"},
              {"clients", Json::array()}};
}

constexpr QmpCommand kCommands[] = {
    {"screendump", "filename:s device?:s head?:i format?:s", take_screendump},
    {"send-key", "keys:a hold-time?:i", send_key},
    {"query-vnc", "", query_vnc},
    {"change-vnc-password", "password:s", change_vnc_password},
    {"set_password", "protocol:s password:s connected?:s display?:s", set_password},
    {"input-send-event", "device?:s head?:i events:a", input_send_event},
};

}  // namespace

std::span<const QmpCommand> screen_commands() { return kCommands; }

}  // namespace atl::control
