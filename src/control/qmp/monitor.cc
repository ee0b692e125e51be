#include "control/qmp/monitor.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/qmp/command.h"
#include "control/qmp/events.h"
#include "control/qmp/schema.h"
#include "control/version.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

/// A client that reads nothing gets no more events than this; replies hold back its next commands.
constexpr size_t kEventBacklogBytes = 1 * kMiB;

Json error_reply(std::string_view error_class, std::string_view text) {
  return {{"error", {{"class", error_class}, {"desc", text}}}};
}

Json generic_error(std::string_view text) { return error_reply("GenericError", text); }

constexpr std::string_view kOutOfBand = "oob";

/// Capabilities that a connection may choose: exec-oob where it is not one of several users of a back end.
Json greeting(bool out_of_band) {
  Json version = {{"qemu", {{"major", kQemuMajor}, {"minor", kQemuMinor}, {"micro", kQemuMicro}}}, {"package", kPackage}};
  return {{"QMP", {{"version", version}, {"capabilities", out_of_band ? Json::array({kOutOfBand}) : Json::array()}}}};
}

/// What is wrong with a request's shape, in QEMU's words; "" if nothing.
std::string shape_error(const Json& request, bool out_of_band) {
  if (!request.is_object()) return "QMP input must be a JSON object";
  for (const auto& [key, value] : request.items()) {
    if (key == "id") continue;
    if (key == "execute" || (key == "exec-oob" && out_of_band)) {
      if (!value.is_string()) return fmt::format("QMP input member '{}' must be a string", key);
    } else if (key == "arguments") {
      if (!value.is_object()) return "QMP input member 'arguments' must be an object";
    } else {
      return fmt::format("QMP input member '{}' is unexpected", key);
    }
  }
  if (request.contains("execute") && request.contains("exec-oob")) return "QMP input member 'exec-oob' clashes with 'execute'";
  return request.contains("execute") || request.contains("exec-oob") ? "" : "QMP input lacks member 'execute'";
}

Json reply_of(const QmpCommand& command, Result<Json> result) {
  if (result) return {{"return", *std::move(result)}};
  bool special = result.error().kind() == ErrorKind::NotFound || result.error().kind() == ErrorKind::Unsupported;
  return error_reply(special ? command.not_found_class : "GenericError", result.error().text());
}

}  // namespace

QmpMonitor::QmpMonitor(VmControl& vm, CharBackend& chars, Chardev* connection, bool pretty)
    : vm_(vm), chars_(chars), connection_(connection), pretty_(pretty) {
  vm_.add_listener([this](const machine::Event& event) { send_event(event); });
  chars_.attach({
      .can_receive = [this] { return output_.empty() && vm_.has_machine() ? size_t{4096} : 0; },
      .receive = [this](std::span<const u8> data) { receive(data); },
      .event = [this](CharEvent event) { on_event(event); },
      .writable = [this] { push_output(); },
  });
}

QmpMonitor::~QmpMonitor() { chars_.detach(); }

void QmpMonitor::on_event(CharEvent event) {
  if (event == CharEvent::Break) return;
  open_ = event == CharEvent::Opened;
  negotiated_ = false;
  output_.clear();
  framer_.reset();
  out_of_band_ = false;
  if (open_) send(greeting(connection_ != nullptr));
}

void QmpMonitor::receive(std::span<const u8> data) {
  for (u8 byte : data) {
    auto frame = framer_.feed(static_cast<char>(byte));
    if (!frame) continue;
    if (frame->error) send(generic_error("JSON parse error, stray input"));
    else handle_text(frame->text);
  }
}

void QmpMonitor::handle_text(const std::string& text) {
  auto request = parse_json(text);
  if (request) handle_request(*request);
  else send(generic_error(request.error().text()));
}

void QmpMonitor::handle_request(const Json& request) {
  std::string wrong = shape_error(request, out_of_band_);
  Json reply = wrong.empty() ? execute(request) : generic_error(wrong);
  if (request.is_object() && request.contains("id")) reply["id"] = request["id"];
  send(reply);
}

Json QmpMonitor::execute(const Json& request) {
  const bool at_once = request.contains("exec-oob");
  const auto& name = request[at_once ? "exec-oob" : "execute"].get_ref<const std::string&>();
  if (at_once && find_qmp_command(name) && !is_out_of_band(name)) return generic_error(fmt::format("The command {} does not support OOB", name));
  Json arguments = request.contains("arguments") ? request["arguments"] : Json::object();
  if (name == "qmp_capabilities") return negotiate(arguments);
  if (!negotiated_)
    return error_reply("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
  return run_command(name, arguments);
}

Json QmpMonitor::negotiate(const Json& arguments) {
  if (negotiated_) return error_reply("CommandNotFound", "Capabilities negotiation is already complete, command ignored");
  for (const auto& [key, value] : arguments.items()) {
    if (key != "enable") return generic_error(fmt::format("Parameter '{}' is unexpected", key));
    if (!value.is_array()) return generic_error("Invalid parameter type for 'enable', expected: array");
    for (const Json& capability : value) {
      if (!capability.is_string()) return generic_error("Invalid parameter type for 'enable[0]', expected: string");
      if (capability != kOutOfBand) return generic_error(fmt::format("Parameter 'enable[0]' does not accept value '{}'", capability.get<std::string>()));
      if (!connection_) return generic_error("Capability oob not available");
      out_of_band_ = true;
    }
  }
  negotiated_ = true;
  return {{"return", Json::object()}};
}

Json QmpMonitor::run_command(std::string_view name, const Json& arguments) {
  const QmpCommand* command = find_qmp_command(name);
  if (!command) return error_reply("CommandNotFound", fmt::format("The command {} has not been found", name));
  if (Status fits = check_arguments(*command, arguments); !fits) return generic_error(fits.error().text());
  QmpContext context{vm_, connection_};
  Json reply = reply_of(*command, command->handler(context, arguments));
  if (vm_.has_machine()) vm_.machine().tell_news(context.news.value_or(~u64{0}));
  return reply;
}

void QmpMonitor::send_event(const machine::Event& event) {
  if (!negotiated_ || output_.size() >= kEventBacklogBytes) return;
  if (Json message = event_json(event, realtime_ns()); message.contains("event")) send(message);
}

void QmpMonitor::send(const Json& message) {
  if (!open_) return;
  output_ += json_text(message, pretty_);
  output_ += "\r\n";
  push_output();
}

void QmpMonitor::push_output() {
  if (output_.empty()) return;
  size_t taken = chars_.write(std::span<const u8>(reinterpret_cast<const u8*>(output_.data()), output_.size()));
  output_.erase(0, taken);
  if (output_.empty()) chars_.accept_input();
}

}  // namespace atl::control
