// Commands of the human monitor about disks: what they are, drives that come and go, commits.
#include <fmt/format.h>

#include <ctime>

#include <nlohmann/json.hpp>

#include "base/key_values.h"
#include "base/strings.h"
#include "block/job/copy.h"
#include "control/cmdline/translate.h"
#include "control/hmp/command.h"
#include "control/qmp/block_support.h"

namespace atl::control {
namespace {

using Arguments = const HmpArguments&;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

std::string text_of(const Json& object, const char* key) { return object.value(key, std::string()); }

std::string cache_text(const Json& cache) {
  return fmt::format("{}{}{}", cache["writeback"] == true ? "writeback" : "writethrough", cache["direct"] == true ? ", direct" : "",
                     cache["no-flush"] == true ? ", ignore flushes" : "");
}

std::string throttling_text(const Json& medium) {
  std::string text = "    I/O throttling:  ";
  bool any = false;
  for (const char* key : {"bps", "bps_rd", "bps_wr", "bps_max", "bps_rd_max", "bps_wr_max", "iops", "iops_rd", "iops_wr", "iops_max",
                          "iops_rd_max", "iops_wr_max", "iops_size"}) {
    const u64 value = medium.value(key, u64{0});
    any |= value != 0;
    text += fmt::format(" {}={}", key, value);
  }
  return any ? fmt::format("{} group={}\n", text, text_of(medium, "group")) : "";
}

std::string medium_text(const Json& medium) {
  std::string text = fmt::format("    Cache mode:       {}\n", cache_text(medium["cache"]));
  if (medium.contains("backing_file"))
    text += fmt::format("    Backing file:     {} (chain depth: {})\n", text_of(medium, "backing_file"), medium["backing_file_depth"].get<u64>());
  if (text_of(medium, "detect_zeroes") != "off") text += fmt::format("    Detect zeroes:    {}\n", text_of(medium, "detect_zeroes"));
  return text + throttling_text(medium);
}

std::string title_of(const Json& drive, const Json& medium) {
  const std::string device = text_of(drive, "device"), node = text_of(medium, "node-name"), qdev = text_of(drive, "qdev");
  if (!device.empty()) return node.empty() ? device : fmt::format("{} ({})", device, node);
  if (!node.empty()) return node;
  return qdev.empty() ? "<anonymous>" : qdev;
}

std::string device_text(const Json& drive) {
  std::string text;
  if (drive.contains("qdev")) text += fmt::format("    Attached to:      {}\n", text_of(drive, "qdev"));
  const std::string status = text_of(drive, "io-status");
  if (!status.empty() && status != "ok") text += fmt::format("    I/O status:       {}\n", status);
  if (drive.value("removable", false))
    text += fmt::format("    Removable device: {}locked, tray {}\n", drive.value("locked", false) ? "" : "not ",
                        drive.value("tray_open", false) ? "open" : "closed");
  return text;
}

/// `drive`: an entry of query-block, or null for a node alone.
std::string block_text(const Json& drive, const Json& medium) {
  std::string text = title_of(drive, medium);
  if (medium.is_null()) text += ": [not inserted]\n";
  else
    text += fmt::format(": {} ({}{}{})\n", text_of(medium, "file"), text_of(medium, "drv"), medium.value("ro", false) ? ", read-only" : "",
                        medium.value("encrypted", false) ? ", encrypted" : "");
  text += device_text(drive);
  return medium.is_null() ? text : text + medium_text(medium);
}

Json medium_of(const Json& drive) { return drive.contains("inserted") ? drive["inserted"] : Json(); }

}  // namespace

/// -n: nodes by their names. -v shows no more: images are `qemu-img info`'s.
Status hmp_info_block(HmpContext& c, Arguments arguments) {
  std::string wanted;
  bool nodes = false;
  for (auto word : split(arguments.text, ' ')) {
    if (word == "-n") nodes = true;
    else if (!word.empty() && word != "-v") wanted = word;
  }
  std::string text;
  const auto show = [&](const Json& drive, const Json& medium) {
    const bool fits = wanted.empty() || wanted == text_of(drive, "device") || (nodes && wanted == text_of(medium, "node-name"));
    if (fits) text += (text.empty() ? "" : "\n") + block_text(drive, medium);
  };
  if (!nodes || !wanted.empty())
    for (const Json& drive : TRY(run_qmp(c, "query-block", Json::object()))) show(drive, medium_of(drive));
  if (nodes && text.empty())
    for (const Json& node : TRY(run_qmp(c, "query-named-block-nodes", Json::object()))) show(Json::object(), node);
  if (text.empty() && !wanted.empty()) return invalid(fmt::format("Device '{}' not found", wanted));
  c.output += text;
  return {};
}

/// "[-n] slot options": only drives that no machine type places itself.
Status hmp_drive_add(HmpContext& c, Arguments arguments) {
  std::string_view line = trim(arguments.text);
  const bool is_node = line.starts_with("-n ");
  if (is_node) line = trim(line.substr(3));
  const size_t blank = line.find(' ');
  if (blank == std::string_view::npos) return invalid("drive_add: a slot and options are expected");
  KeyValues values = TRY(KeyValues::parse(trim(line.substr(blank))));
  if (is_node) {
    if (!values.has("node-name")) return invalid("'node-name' needs to be specified");
    return c.vm.machine().blocks().add(TRY(drive_from_blockdev(values, c.vm.fd_sets())));
  }
  const std::string interface = values.take("if").value_or("ide");
  if (interface != "none") return invalid(fmt::format("Can't hot-add drive to type {}", interface));
  const machine::DriveConfig drive = TRY(drive_from_option(std::move(values), c.vm.fd_sets()));
  TRY(c.vm.machine().blocks().add(drive));
  c.output += "OK\n";
  return {};
}

Status hmp_drive_del(HmpContext& c, Arguments arguments) {
  const std::string id(trim(arguments.text));
  machine::BlockStore& blocks = c.vm.machine().blocks();
  const machine::BlockStore::Drive* drive = blocks.find_drive(id);
  if (!drive) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", id));
  if (!drive->user.empty()) return Error(ErrorKind::Busy, fmt::format("Device '{}' is in use by '{}'", id, drive->user));
  return blocks.remove(id);
}

namespace {

/// What the image holds itself goes into its backing file, and is gone from it then.
Task<Status> commit_drained(BlockStore::Place& place, block::NodePtr top) {
  block::NodePtr base = block::backing_of(*top);
  if (!base || !top->image()) co_return Error(ErrorKind::Unsupported, "Operation not supported", ENOTSUP);
  const bool was_readonly = base->info().readonly;
  Status status = co_await base->set_readonly(false);
  CO_TRY(std::move(status));
  if (base->size_bytes() < top->size_bytes()) status = co_await base->resize(top->size_bytes(), block::Preallocation::Off);
  block::CopyOptions copy;
  copy.source = top.get();
  copy.target = base.get();
  copy.base = base.get();
  copy.bytes = top->size_bytes();
  Result<block::CopyResult> copied = block::CopyResult{};
  if (status) copied = co_await block::copy_range(place.graph.loop(), std::move(copy));
  if (!copied) status = std::move(copied).error();
  if (status) status = co_await base->flush();
  if (status) status = co_await top->image()->make_empty();
  if (status) status = co_await top->flush();
  if (was_readonly) static_cast<void>(co_await base->set_readonly(true));
  co_return status;
}

Task<Status> commit(BlockStore::Place& place, block::NodePtr top) {
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await commit_drained(place, std::move(top));
  place.graph.resume();
  co_return status;
}

Status commit_drive(HmpContext& c, const std::string& name) {
  QmpContext context{c.vm};
  auto located = find_node(context, name);
  if (!located) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", name));
  TRY(check_idle(*located));
  return finish_on(located->place->thread, [&] { return commit(*located->place, located->node); })
      .context(fmt::format("'commit' error for '{}'", name));
}

}  // namespace

Status hmp_commit(HmpContext& c, Arguments arguments) {
  const std::string name(trim(arguments.text));
  if (name != "all") return commit_drive(c, name);
  for (const auto& drive : c.vm.machine().blocks().drives()) {
    if (!drive.root || !drive.config.from_drive_option) continue;
    const bool is_backed = drive.place->thread.run_on([&] { return block::backing_of(*drive.root->node()) != nullptr; });
    if (is_backed) TRY(commit_drive(c, drive.config.id));
  }
  return {};
}

/// "[-a] [-w] address": -a exports all drives by their names, -w for writing too.
Status hmp_nbd_server_start(HmpContext& c, Arguments arguments) {
  bool all = false, writable = false;
  std::string address;
  for (auto word : split(arguments.text, ' ')) {
    if (word.starts_with('-')) {
      all |= word.find('a') != std::string_view::npos;
      writable |= word.find('w') != std::string_view::npos;
    } else if (!word.empty()) {
      address = word;
    }
  }
  if (writable && !all) return invalid("-w only valid together with -a");
  Json target = {{"type", "unix"}, {"data", {{"path", address.substr(std::min<size_t>(5, address.size()))}}}};
  const size_t colon = address.rfind(':');
  if (!address.starts_with("unix:")) {
    if (colon == std::string::npos) return invalid(fmt::format("port not found in '{}'", address));
    target = {{"type", "inet"}, {"data", {{"host", address.substr(0, colon)}, {"port", address.substr(colon + 1)}}}};
  }
  TRY(run_qmp(c, "nbd-server-start", {{"addr", target}}));
  if (!all) return {};
  for (const Json& drive : TRY(run_qmp(c, "query-block", Json::object()))) {
    if (!drive.contains("inserted") || text_of(drive, "device").empty()) continue;
    const bool readonly = drive["inserted"].value("ro", false);
    TRY(run_qmp(c, "nbd-server-add", {{"device", text_of(drive, "device")}, {"writable", writable && !readonly}}));
  }
  return {};
}

/// Those of the first disk that holds any; without disks there is nothing to tell.
Status hmp_info_snapshots(HmpContext& c, Arguments) {
  for (const Json& drive : TRY(run_qmp(c, "query-block", Json::object()))) {
    if (!drive.contains("inserted") || !drive["inserted"]["image"].contains("snapshots")) continue;
    c.output += fmt::format("List of snapshots present on all disks:\n{:<10}{:<17}{:>8}{:>20}{:>13}\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK");
    for (const Json& s : drive["inserted"]["image"]["snapshots"]) {
      const u64 seconds = s["vm-clock-sec"].get<u64>();
      const std::time_t date = s["date-sec"].get<std::time_t>();
      std::tm parts{};
      ::localtime_r(&date, &parts);
      char day[32] = "";
      std::strftime(day, sizeof day, "%Y-%m-%d %H:%M:%S", &parts);
      c.output += fmt::format("{:<10}{:<17}{:>8}{:>20}{:>13}\n", text_of(s, "id"), text_of(s, "name"), s["vm-state-size"].get<u64>(), day,
                              fmt::format("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60,
                                          s["vm-clock-nsec"].get<u64>() / 1'000'000));
    }
    return {};
  }
  c.output += "There is no snapshot available.\n";
  return {};
}

}  // namespace atl::control
