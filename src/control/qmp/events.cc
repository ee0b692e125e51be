#include "control/qmp/events.h"

#include <nlohmann/json.hpp>

namespace atl::control {
namespace {

using Json = nlohmann::json;
using machine::Event;

Json device_data(const Event& event) {
  Json data = {{"path", event.path.empty() ? "/machine/peripheral/" + event.device : event.path}};
  if (!event.device.empty()) data["device"] = event.device;
  return data;
}

Json block_error_data(const Event& event) {
  return {{"device", event.device}, {"node-name", event.node}, {"operation", event.operation},
          {"action", event.action}, {"nospace", event.nospace}, {"reason", event.reason}};
}

Json ending_data(const Event& event) { return {{"guest", event.guest}, {"reason", event.reason}}; }
Json no_data(const Event&) { return Json(); }
Json balloon_data(const Event& event) { return {{"actual", event.value}}; }
Json rtc_data(const Event& event) { return {{"offset", event.value}}; }
Json filter_data(const Event& event) { return {{"name", event.device}, {"path", event.path}}; }

struct Form {
  Event::Kind kind;
  const char* name;
  Json (*data)(const Event&);
};
constexpr Form kForms[] = {
    {Event::Kind::Stop, "STOP", no_data},
    {Event::Kind::Resume, "RESUME", no_data},
    {Event::Kind::Reset, "RESET", ending_data},
    {Event::Kind::Shutdown, "SHUTDOWN", ending_data},
    {Event::Kind::Powerdown, "POWERDOWN", no_data},
    {Event::Kind::BlockIoError, "BLOCK_IO_ERROR", block_error_data},
    {Event::Kind::BalloonChange, "BALLOON_CHANGE", balloon_data},
    {Event::Kind::DeviceDeleted, "DEVICE_DELETED", device_data},
    {Event::Kind::NicRxFilterChanged, "NIC_RX_FILTER_CHANGED", filter_data},
    {Event::Kind::RtcChange, "RTC_CHANGE", rtc_data},
    {Event::Kind::DeviceUnplugError, "DEVICE_UNPLUG_GUEST_ERROR", device_data},
};

}  // namespace

Json event_json(const Event& event, u64 realtime_ns) {
  Json message = {{"timestamp", {{"seconds", realtime_ns / 1'000'000'000}, {"microseconds", realtime_ns / 1000 % 1'000'000}}}};
  for (const auto& form : kForms) {
    if (form.kind != event.kind) continue;
    message["event"] = form.name;
    if (Json data = form.data(event); !data.is_null()) message["data"] = std::move(data);
  }
  return message;
}

}  // namespace atl::control
