#include "devices/storage/virtio_scsi.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "block/iovecs.h"
#include "devices/virtio/spec.h"

namespace atl::devices {

namespace {

constexpr u64 kFeatureInout = 1 << 0, kFeatureHotplug = 1 << 1, kFeatureChange = 1 << 2;
constexpr u16 kControlQueue = 0, kEventQueue = 1, kFirstRequestQueue = 2;
constexpr u32 kCdbBytes = 32, kSenseBytes = 96;

// Response codes (5.6.6.1).
constexpr u8 kOk = 0, kBadTarget = 3, kFunctionComplete = 0;
// Events (5.6.6.3).
constexpr u32 kNoEvent = 0, kTransportReset = 1, kParameterChange = 3, kEventsMissed = 0x80000000;
constexpr u32 kReasonRescan = 1, kReasonRemoved = 2, kCapacityChanged = 0x2a | 0x09 << 8;

struct Config {
  u32 num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size, sense_size, cdb_size;
  u16 max_channel, max_target;
  u32 max_lun;
};
struct RequestHeader {
  u8 lun[8];
  u8 tag[8];
  u8 task_attributes, priority, crn;
  u8 cdb[kCdbBytes];
};
struct Response {
  u32 sense_len = 0, resid = 0;
  u16 status_qualifier = 0;
  u8 status = 0, response = 0;
  u8 sense[kSenseBytes] = {};
};
struct EventFrame {
  u32 event = 0;
  u8 lun[8] = {};
  u32 reason = 0;
};
static_assert(sizeof(Config) == 36 && sizeof(RequestHeader) == 51 && sizeof(Response) == 108 && sizeof(EventFrame) == 16);

VirtioDevice::Shape shape_of(const VirtioScsiOptions& options) {
  return {.device_id = virtio::kIdScsi,
          .features = kFeatureInout | kFeatureHotplug | kFeatureChange,
          .queue_sizes = std::vector<u16>(options.queues + kFirstRequestQueue, options.queue_size),
          .config_bytes = sizeof(Config)};
}

/// 5.6.6.1: 1, target, and a LUN in flat space or peripheral form. The REPORT LUNS well-known unit is 0xc1 0x01.
std::optional<ScsiAddress> decode_lun(const u8 (&lun)[8]) {
  if (lun[0] != 1) return std::nullopt;
  const u16 word = load_be<u16>(&lun[2]);
  if ((word & 0xc000) == 0xc000) return std::nullopt;
  return ScsiAddress{lun[1], static_cast<u16>(word & 0x3fff)};
}

}  // namespace

VirtioScsi::VirtioScsi(VirtioScsiOptions options, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice(shape_of(options), loop, memory),
      to_notify_(options.queues + kFirstRequestQueue),
      notify_(loop, [this] { notify_queues(); }) {
  const Config config{.num_queues = options.queues, .seg_max = options.queue_size - 2u, .max_sectors = 0xffff, .cmd_per_lun = 128,
                      .event_info_size = sizeof(EventFrame), .sense_size = kSenseBytes, .cdb_size = kCdbBytes,
                      .max_channel = 0, .max_target = kMaxTarget, .max_lun = kMaxLun};
  set_config(0, {reinterpret_cast<const u8*>(&config), sizeof config});
}

VirtioScsi::~VirtioScsi() {
  unpark();
  for (DiskIo* io : media()) io->drop_kept();
}

std::string VirtioScsi::describe() const {
  std::string text;
  for (const auto& [at, unit] : units_)
    text += fmt::format("{}dev: {} scsi-id = {} lun = {}", text.empty() ? "" : "\n        ", unit->is_cd() ? "scsi-cd" : "scsi-hd", at.target, at.lun);
  return text;
}

// --- units ---

ScsiUnit* VirtioScsi::scsi_unit(ScsiAddress at) {
  auto found = units_.find(at);
  return found == units_.end() ? nullptr : found->second.get();
}

void VirtioScsi::attach_scsi(ScsiAddress at, std::unique_ptr<ScsiUnit> unit, bool announce) {
  units_[at] = std::move(unit);
  if (announce) send_event(kTransportReset, at, kReasonRescan);
}

void VirtioScsi::detach_scsi(ScsiAddress at) {
  send_event(kTransportReset, at, kReasonRemoved);
  units_.erase(at);
}

void VirtioScsi::size_changed(ScsiAddress at) {
  if (ScsiUnit* unit = scsi_unit(at)) unit->size_changed();
  send_event(kParameterChange, at, kCapacityChanged);
}

std::vector<DiskIo*> VirtioScsi::media() {
  std::vector<DiskIo*> all;
  for (auto& [at, unit] : units_) all.push_back(&unit->io());
  return all;
}

// --- queues ---

void VirtioScsi::serve(u16 index) {
  unpark();
  for (DiskIo* io : media()) io->retry_kept();
  if (index == kEventQueue) return serve_events();
  while (auto chain = queue_at(index).pop()) {
    if (index == kControlQueue) serve_control(std::move(*chain));
    else begin(index, std::move(*chain));
  }
}

/// 5.6.6.2. Requests cannot be taken back from the host: each task management function finds none left, or lets them end.
void VirtioScsi::serve_control(Chain chain) {
  constexpr u32 kTaskManagement = 0, kQuery = 1, kSubscribe = 2, kLunReset = 5, kTargetReset = 3;
  u32 head[2] = {};
  u8 lun[8] = {};
  chain.read(0, {reinterpret_cast<u8*>(head), sizeof head});
  const u32 type = head[0];
  if (type == kTaskManagement) {
    chain.read(8, lun);
    const auto at = decode_lun(lun);
    const bool known = at && std::ranges::any_of(units_, [&](const auto& entry) { return entry.first.target == at->target; });
    if (known && (head[1] == kLunReset || head[1] == kTargetReset)) {
      for (auto& [place, unit] : units_)
        if (place.target == at->target && (head[1] == kTargetReset || place.lun == at->lun)) unit->reset();
    }
    chain.write_object(0, known ? kFunctionComplete : kBadTarget);
    chain.add_written(1);
  } else if (type == kQuery || type == kSubscribe) {
    const u8 none[5] = {};
    chain.write(0, none);
    chain.add_written(sizeof none);
  }
  chain.complete();
  to_notify_[kControlQueue] = true;
  notify_.schedule();
}

/// Buffers stay in the ring until there is an event.
void VirtioScsi::serve_events() {
  if (event_missed_) send_event(kNoEvent, {}, 0);
}

void VirtioScsi::send_event(u32 event, ScsiAddress at, u32 reason) {
  const u64 needed = event == kParameterChange ? kFeatureChange : kFeatureHotplug;
  if (event != kNoEvent && !(chosen_features() & needed)) return;
  std::optional<Chain> chain;
  if (running()) {
    refresh_memory();
    chain = queue_at(kEventQueue).pop();
  }
  if (!chain) {
    event_missed_ = true;
    return;
  }
  EventFrame frame;
  frame.event = event | (std::exchange(event_missed_, false) ? kEventsMissed : 0);
  frame.lun[0] = 1;
  frame.lun[1] = at.target;
  store_be<u16>(&frame.lun[2], static_cast<u16>(at.lun | 0x4000));
  frame.reason = reason;
  chain->write_object(0, frame);
  chain->add_written(sizeof frame);
  chain->complete();
  to_notify_[kEventQueue] = true;
  notify_.schedule();
}

void VirtioScsi::notify_queues() {
  for (u16 i = 0; i < to_notify_.size(); ++i) {
    if (!to_notify_[i]) continue;
    to_notify_[i] = false;
    queue_at(i).notify();
  }
}

// --- requests ---

void VirtioScsi::begin(u16 index, Chain chain) {
  RequestHeader header{};
  if (!chain.read_object(0, header) || chain.writable_bytes() < sizeof(Response)) {
    chain.complete();
    return fail("SCSI request without header or response");
  }
  auto owned = std::make_unique<Request>();
  Request* request = owned.get();
  request->queue = index;
  request->chain = std::move(chain);
  std::copy_n(header.cdb, request->command.cdb.size(), request->command.cdb.begin());
  requests_.push_back(std::move(owned));
  const auto at = decode_lun(header.lun);
  const bool all_luns = header.cdb[0] == scsi::kReportLuns && header.lun[0] == 1;
  request->unit = at ? scsi_unit(*at) : nullptr;
  const bool target_known = header.lun[0] == 1 && std::ranges::any_of(units_, [&](const auto& entry) { return entry.first.target == header.lun[1]; });
  if (all_luns && target_known) {
    report_luns(*request, header.lun[1]);
  } else if (!request->unit) {
    // A target without this unit answers INQUIRY with "no such device" (SPC-4, 6.6.2); one that is not there does not.
    if (!target_known) request->response = kBadTarget;
    else if (header.cdb[0] == scsi::kInquiry) {
      std::vector<u8> absent(36);
      absent[0] = 0x7f;
      absent[4] = 31;
      request->command.reply(std::move(absent), load_be<u16>(&header.cdb[3]));
    } else {
      request->command.fail(scsi::kNoSuchUnit);
    }
  }
  run(request);
}

void VirtioScsi::report_luns(Request& request, u8 target) {
  std::vector<u8> list(8);
  for (const auto& [at, unit] : units_) {
    if (at.target != target) continue;
    u8 entry[8] = {};
    store_be<u16>(entry, at.lun < 256 ? at.lun : static_cast<u16>(at.lun | 0x4000));
    const size_t end = list.size();
    list.resize(end + sizeof entry);
    std::copy_n(entry, sizeof entry, &list[end]);
  }
  store_be<u32>(&list[0], static_cast<u32>(list.size() - 8));
  request.unit = nullptr;
  request.command.reply(std::move(list), load_be<u32>(&request.command.cdb[6]));
}

Detached VirtioScsi::run(Request* request) {
  scsi::Command& command = request->command;
  if (request->unit) request->unit->prepare(command);
  if (request->response == kOk && command.good()) {
    static_cast<void>(co_await move_data(*request));
    if (request->unit) static_cast<void>(co_await request->unit->finish(command));
  }
  complete(request);
}

/// As much as both sides have; the rest is the residual.
Task<Status> VirtioScsi::move_data(Request& request) {
  scsi::Command& command = request.command;
  const bool in = command.direction == scsi::Command::Direction::FromDevice;
  if (command.direction == scsi::Command::Direction::None) co_return Status{};
  const auto list = in ? request.chain.writable() : request.chain.readable();
  const u64 skip = in ? sizeof(Response) : sizeof(RequestHeader);
  request.room = block::iovec_bytes(list) - skip;
  const u64 size = std::min(request.room, command.bytes);
  if (size < command.bytes && !in) {
    command.fail(scsi::kInvalidField);  // half of the parameters, or of a write
    co_return Status{};
  }
  const std::vector<iovec> buffers = block::iovec_slice(list, skip, size);
  Status status;
  if (request.unit) status = co_await request.unit->transfer(command, 0, buffers);
  else block::iovec_copy_to(buffers, std::span(command.data).first(size));
  if (status) request.moved = size;
  co_return status;
}

void VirtioScsi::complete(Request* request) {
  Response response;
  response.response = request->response;
  response.status = request->command.status;
  response.resid = static_cast<u32>(std::min<u64>(request->room - std::min(request->room, request->moved), 0xffffffff));
  if (!request->command.good()) {
    const auto sense = scsi::fixed_sense(request->command.sense);
    response.sense_len = sense.size();
    std::ranges::copy(sense, response.sense);
  }
  const bool in = request->command.direction == scsi::Command::Direction::FromDevice;
  request->chain.write_object(0, response);
  request->chain.add_written(sizeof response + (in ? request->moved : 0));
  request->chain.complete();
  to_notify_[request->queue] = true;
  notify_.schedule();
  std::erase_if(requests_, [&](const auto& r) { return r.get() == request; });
}

// --- pause, reset, saved state ---

void VirtioScsi::stopping() {
  notify_queues();
  when_all_idle(media(), [this] { park_kept(); });
}

/// What is still under way once the host is idle waits for another try.
void VirtioScsi::park_kept() {
  for (auto& request : requests_) {
    if (std::exchange(request->parked, true)) continue;
    queue_at(request->queue).park(request->chain);
  }
}

void VirtioScsi::unpark() {
  for (auto& request : requests_)
    if (std::exchange(request->parked, false)) queue_at(request->queue).unpark(request->chain);
}

void VirtioScsi::reset_state() {
  unpark();
  for (DiskIo* io : media()) io->drop_kept();
  event_missed_ = false;
  for (auto& [at, unit] : units_) unit->reset();
}

void VirtioScsi::visit(Archive& archive) {
  archive.field(1, "event_missed", event_missed_);
  u32 number = 16;
  for (auto& [at, unit] : units_) archive.part(number++, "unit", [&](Archive& part) { unit->visit(part); });
}

}  // namespace atl::devices
