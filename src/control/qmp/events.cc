#include "control/qmp/events.h"

#include <nlohmann/json.hpp>

#include "block/job/job.h"
#include "display/vnc/server.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using machine::Event;

// By ViewerChange's and JobEvent's kinds.
constexpr const char* kViewerEvents[] = {"VNC_CONNECTED", "VNC_INITIALIZED", "VNC_DISCONNECTED"};
constexpr const char* kJobEvents[] = {"JOB_STATUS_CHANGE", "BLOCK_JOB_READY", "BLOCK_JOB_PENDING", "BLOCK_JOB_COMPLETED",
                                      "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR"};

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
Json action_data(const Event& event) { return {{"action", event.action}}; }
Json no_data(const Event&) { return Json(); }
Json balloon_data(const Event& event) { return {{"actual", event.value}}; }
Json dump_data(const Event& event) {
  Json data = {{"result", {{"status", event.reason.empty() ? "completed" : "failed"}, {"completed", event.value}, {"total", event.threshold}}}};
  if (!event.reason.empty()) data["error"] = event.reason;
  return data;
}

Json rtc_data(const Event& event) { return {{"offset", event.value}}; }
Json filter_data(const Event& event) { return {{"name", event.device}, {"path", event.path}}; }

Json tray_data(const Event& event) { return {{"device", event.device}, {"id", event.path}, {"tray-open", event.value != 0}}; }

Json port_data(const Event& event) { return {{"id", event.device}, {"open", event.value != 0}}; }
Json export_data(const Event& event) { return {{"id", event.device}}; }

Json threshold_data(const Event& event) {
  return {{"node-name", event.node}, {"amount-exceeded", event.value}, {"write-threshold", event.threshold}};
}

Json endpoint_data(const display::vnc::Endpoint& at) {
  return {{"host", at.host}, {"service", at.service}, {"family", at.family}, {"websocket", at.websocket}};
}

void put_viewer_event(const display::vnc::ViewerChange& change, Json& message) {
  message["event"] = kViewerEvents[change.kind];
  message["data"] = {{"server", endpoint_data(change.server)}, {"client", endpoint_data(change.viewer)}};
  if (!change.auth.empty()) message["data"]["server"]["auth"] = change.auth;
}

Json job_status_data(const block::JobInfo& job) { return {{"id", job.id}, {"status", block::job_state_name(job.state)}}; }

/// BLOCK_JOB_*: what they have in common; `device` is the job's id, for history's sake.
Json block_job_data(const block::JobEvent& event) {
  const block::JobInfo& job = event.job;
  if (event.kind == block::JobEvent::IoError) {
    static constexpr const char* kActions[] = {"report", "ignore", "stop"};
    return {{"device", job.id}, {"operation", event.is_read ? "read" : "write"}, {"action", kActions[static_cast<size_t>(event.action)]}};
  }
  if (event.kind == block::JobEvent::Pending) return {{"type", job.type}, {"id", job.id}};
  Json data = {{"type", job.type}, {"device", job.id}, {"len", job.total}, {"offset", job.done}, {"speed", job.speed}};
  if (!job.error.empty()) data["error"] = job.error;
  return data;
}

/// Jobs that are no block jobs have JOB_STATUS_CHANGE alone.
void put_job_event(const block::JobEvent& event, Json& message) {
  if (event.job.type == "create" && event.kind != block::JobEvent::StatusChange) return;
  message["event"] = kJobEvents[event.kind];
  message["data"] = event.kind == block::JobEvent::StatusChange ? job_status_data(event.job) : block_job_data(event);
}

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
    {Event::Kind::Suspend, "SUSPEND", no_data},
    {Event::Kind::SuspendDisk, "SUSPEND_DISK", no_data},
    {Event::Kind::Wakeup, "WAKEUP", no_data},
    {Event::Kind::BlockIoError, "BLOCK_IO_ERROR", block_error_data},
    {Event::Kind::BalloonChange, "BALLOON_CHANGE", balloon_data},
    {Event::Kind::DeviceDeleted, "DEVICE_DELETED", device_data},
    {Event::Kind::NicRxFilterChanged, "NIC_RX_FILTER_CHANGED", filter_data},
    {Event::Kind::RtcChange, "RTC_CHANGE", rtc_data},
    {Event::Kind::BlockWriteThreshold, "BLOCK_WRITE_THRESHOLD", threshold_data},
    {Event::Kind::BlockExportDeleted, "BLOCK_EXPORT_DELETED", export_data},
    {Event::Kind::TrayMoved, "DEVICE_TRAY_MOVED", tray_data},
    {Event::Kind::SerialPortChange, "VSERPORT_CHANGE", port_data},
    {Event::Kind::GuestPanicked, "GUEST_PANICKED", action_data},
    {Event::Kind::GuestCrashLoaded, "GUEST_CRASHLOADED", action_data},
    {Event::Kind::Watchdog, "WATCHDOG", action_data},
    {Event::Kind::DumpCompleted, "DUMP_COMPLETED", dump_data},
    {Event::Kind::DeviceUnplugError, "DEVICE_UNPLUG_GUEST_ERROR", device_data},
};

}  // namespace

std::vector<std::string_view> event_names() {
  std::vector<std::string_view> names(std::begin(kJobEvents), std::end(kJobEvents));
  names.insert(names.end(), std::begin(kViewerEvents), std::end(kViewerEvents));
  for (const auto& form : kForms) names.push_back(form.name);
  return names;
}

Json event_json(const Event& event, u64 realtime_ns) {
  Json message = {{"timestamp", {{"seconds", realtime_ns / 1'000'000'000}, {"microseconds", realtime_ns / 1000 % 1'000'000}}}};
  if (event.job) put_job_event(*event.job, message);
  if (event.viewer) put_viewer_event(*event.viewer, message);
  for (const auto& form : kForms) {
    if (form.kind != event.kind) continue;
    message["event"] = form.name;
    if (Json data = form.data(event); !data.is_null()) message["data"] = std::move(data);
  }
  return message;
}

}  // namespace atl::control
