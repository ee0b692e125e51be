// Screen, keyboard and mouse.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
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
  TRY(screendump(c.vm.machine(), text_argument(arguments, "device"), text_argument(arguments, "filename"), format));
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

Status send_place(UserInput& input, const Json& data) {
  const std::string axis = text_of(member(data, "axis"));
  const Json& value = member(data, "value");
  if (!value.is_number_integer() || (axis != "x" && axis != "y")) return invalid("an axis 'x' or 'y' and a value are expected");
  const auto place = static_cast<i32>(std::clamp<i64>(value.get<i64>(), 0, display::PointerEvent::kMax));
  return axis == "x" ? input.point(place, std::nullopt) : input.point(std::nullopt, place);
}

Status send_event(UserInput& input, const Json& event) {
  const std::string type = text_of(member(event, "type"));
  const Json& data = member(event, "data");
  if (type == "key") return input.key(TRY(key_of(member(data, "key"))), member(data, "down") == Json(true));
  if (type == "btn") return send_button(input, data);
  if (type == "rel") return send_movement(input, data);
  if (type == "abs") return send_place(input, data);
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

Status check_display(QmpContext& c, const Json& arguments) {
  if (arguments["protocol"] != "vnc") return invalid("Parameter 'protocol' accepts 'vnc'");
  const std::string display = text_argument(arguments, "display");
  RemoteScreen* screen = c.vm.remote_screen();
  if (!display.empty() && screen && screen->id() != display) return invalid(fmt::format("VNC server '{}' not found", display));
  return {};
}

Reply set_password(QmpContext& c, const Json& arguments) {
  TRY(check_display(c, arguments));
  if (text_argument(arguments, "connected", "keep") != "keep") return invalid("Parameter 'connected' accepts 'keep'");
  return change_vnc_password(c, arguments);
}

Reply expire_password(QmpContext& c, const Json& arguments) {
  TRY(check_display(c, arguments));
  auto* server = TRY(vnc_server(c));
  server->set_password_end(TRY(password_end(text_argument(arguments, "time"))));
  return Json::object();
}

Json endpoint_json(const display::vnc::Endpoint& at) {
  return {{"host", at.host.empty() ? at.service : at.host}, {"service", at.family == "unix" ? "" : at.service},
          {"family", at.family}, {"websocket", at.websocket}};
}

Json endpoints_json(const std::vector<display::vnc::Endpoint>& endpoints) {
  Json out = Json::array();
  for (const auto& at : endpoints) out.push_back(endpoint_json(at));
  return out;
}

/// "vencrypt+x509+vnc" in the older of the two queries.
std::string joined_auth(const display::vnc::Server& server) {
  std::string text(server.sub_auth());
  std::ranges::replace(text, '-', '+');
  return text.empty() ? std::string(server.auth()) : fmt::format("{}+{}", server.auth(), text);
}

Reply query_vnc(QmpContext& c, const Json&) {
  if (!c.vm.remote_screen()) return Json{{"enabled", false}};
  display::vnc::Server& server = c.vm.remote_screen()->server();
  Json out = server.listeners().empty() ? Json::object() : endpoint_json(server.listeners().front());
  out.erase("websocket");
  out.update({{"enabled", true}, {"auth", joined_auth(server)}, {"clients", endpoints_json(server.viewers())}});
  return out;
}

Reply query_vnc_servers(QmpContext& c, const Json&) {
  if (!c.vm.remote_screen()) return Json::array();
  display::vnc::Server& server = c.vm.remote_screen()->server();
  Json places = Json::array();
  for (const auto& at : server.listeners()) {
    Json place = endpoint_json(at);
    // TLS lies below a WebSocket: inside there is only the password.
    place["auth"] = at.websocket ? (server.has_password() ? "vnc" : "none") : server.auth();
    if (!at.websocket && !server.sub_auth().empty()) place["vencrypt"] = server.sub_auth();
    places.push_back(std::move(place));
  }
  Json entry = {{"id", c.vm.remote_screen()->id()}, {"auth", server.auth()}, {"server", std::move(places)},
                {"clients", endpoints_json(server.viewers())}};
  if (!server.sub_auth().empty()) entry["vencrypt"] = server.sub_auth();
  return Json::array({std::move(entry)});
}

Result<display::vnc::Listen> place_of(const Json& address) {
  display::vnc::Listen place;
  const std::string type = text_of(member(address, "type"));
  if (type == "unix") {
    place.unix_path = text_of(member(address, "path"));
    if (place.unix_path.empty()) return invalid("Parameter 'path' is missing");
    return place;
  }
  if (type != "inet") return invalid(fmt::format("Parameter 'type' does not accept value '{}'", type));
  place.host = text_of(member(address, "host"));
  place.port = text_of(member(address, "port"));
  if (!parse_u64(place.port)) return invalid("Parameter 'port' expects a number");
  return place;
}

/// Listens at other addresses; WebSockets stay where they are.
Reply display_update(QmpContext& c, const Json& arguments) {
  if (arguments["type"] != "vnc") return invalid("Parameter 'type' accepts 'vnc'");
  auto* server = TRY(vnc_server(c));
  std::vector<display::vnc::Listen> places;
  for (const Json& address : member(arguments, "addresses")) places.push_back(TRY(place_of(address)));
  if (places.empty()) return Json::object();
  for (const auto& place : server->options().listen)
    if (place.websocket) places.push_back(place);
  TRY(server->listen(places));
  return Json::object();
}

Reply display_reload(QmpContext& c, const Json& arguments) {
  if (arguments["type"] != "vnc") return invalid("Parameter 'type' accepts 'vnc'");
  TRY(vnc_server(c));
  if (member(arguments, "tls-certs") == Json(true)) TRY(c.vm.remote_screen()->reload_credentials());
  return Json::object();
}

Reply query_mice(QmpContext& c, const Json&) {
  Json out = Json::array();
  for (const auto& mouse : c.vm.machine().input().mice())
    out.push_back({{"name", mouse.name}, {"index", mouse.index}, {"current", mouse.current}, {"absolute", mouse.absolute}});
  return out;
}

constexpr QmpCommand kCommands[] = {
    {"screendump", "filename:s device?:s head?:i format?:s", take_screendump},
    {"send-key", "keys:a hold-time?:i", send_key},
    {"query-vnc", "", query_vnc},
    {"query-vnc-servers", "", query_vnc_servers},
    {"query-mice", "", query_mice},
    {"expire_password", "protocol:s time:s display?:s", expire_password},
    {"display-update", "type:s addresses?:a", display_update},
    {"display-reload", "type:s tls-certs?:b", display_reload},
    {"change-vnc-password", "password:s", change_vnc_password},
    {"set_password", "protocol:s password:s connected?:s display?:s", set_password},
    {"input-send-event", "device?:s head?:i events:a", input_send_event},
};

}  // namespace

std::span<const QmpCommand> screen_commands() { return kCommands; }

}  // namespace atl::control
