#include "control/gdb/server.h"

#include <algorithm>

#include <fmt/format.h>

#include "control/gdb/registers.h"

namespace atl::control {
namespace {

constexpr std::string_view kOk = "OK", kBadRequest = "E16", kFault = "E0e";
constexpr u64 kMaxTransfer = GdbPacketReader::kMaxPacket / 2;
constexpr size_t kMaxPoints = 1024;
using Point = cpu::DebugRequest::Point;

/// "a,b" or "a,b:rest"
struct Range {
  u64 address = 0, size = 0;
  std::string_view rest;
};

std::optional<Range> parse_range(std::string_view text) {
  size_t comma = text.find(','), colon = std::min(text.find(':'), text.size());
  if (comma == text.npos || comma > colon) return std::nullopt;
  auto address = hex_number(text.substr(0, comma)), size = hex_number(text.substr(comma + 1, colon - comma - 1));
  if (!address || !size || *size > kMaxTransfer) return std::nullopt;
  return Range{*address, *size, text.substr(std::min(colon + 1, text.size()))};
}

std::optional<Point::Kind> point_kind(char type) {
  switch (type) {
    case '0': case '1': return Point::Kind::Execute;
    case '2': return Point::Kind::Write;
    case '3': case '4': return Point::Kind::Access;  // the processor cannot watch reads alone
    default: return std::nullopt;
  }
}

bool same(const Point& a, const Point& b) { return a.address == b.address && a.kind == b.kind && a.length == b.length; }

}  // namespace

// Longest names first where one begins another; the name is followed by its arguments.
const GdbServer::Command GdbServer::kCommands[] = {
    {"qSupported", &GdbServer::supported},
    {"qXfer:features:read:", &GdbServer::features},
    {"qfThreadInfo", &GdbServer::first_threads},
    {"qsThreadInfo", &GdbServer::more_threads},
    {"qAttached", &GdbServer::attached_to},
    {"qC", &GdbServer::current_thread},
    {"QStartNoAckMode", &GdbServer::no_acknowledgements},
    {"vCont?", &GdbServer::vcont_query},
    {"vCont", &GdbServer::vcont},
    {"vKill", &GdbServer::kill},
    {"?", &GdbServer::why_stopped},
    {"g", &GdbServer::read_registers},
    {"G", &GdbServer::write_registers},
    {"p", &GdbServer::read_register},
    {"P", &GdbServer::write_register},
    {"m", &GdbServer::read_memory},
    {"M", &GdbServer::write_memory},
    {"X", &GdbServer::write_binary},
    {"Z", &GdbServer::insert_point},
    {"z", &GdbServer::remove_point},
    {"c", &GdbServer::resume},
    {"s", &GdbServer::step},
    {"H", &GdbServer::select_thread},
    {"T", &GdbServer::thread_alive},
    {"D", &GdbServer::detach},
    {"k", &GdbServer::kill},
};

GdbServer::GdbServer(CharBackend& backend, GdbTarget& target) : backend_(backend), target_(target) {
  backend_.attach({.can_receive = [] { return size_t{4096}; },
                   .receive = [this](std::span<const u8> bytes) { receive(bytes); },
                   .event = [this](CharEvent event) {
                     if (event == CharEvent::Closed && attached_) detach({});
                   },
                   .writable = {}});
}

GdbServer::~GdbServer() { backend_.detach(); }

void GdbServer::receive(std::span<const u8> bytes) {
  for (const auto& item : reader_.feed(bytes)) {
    switch (item.kind) {
      case GdbPacketReader::Kind::Damaged: send("-"); break;
      case GdbPacketReader::Kind::Rejected: send(last_frame_); break;
      case GdbPacketReader::Kind::Interrupt:
        interrupted_ = true;
        if (running_) (void)target_.interrupt();
        break;
      case GdbPacketReader::Kind::Packet:
        if (acknowledge_) send("+");
        serve(item.payload);
        break;
    }
  }
}

void GdbServer::serve(std::string_view packet) {
  if (!attached_) {
    attached_ = true;
    (void)target_.interrupt();  // a debugger finds the machine stopped
  }
  for (const Command& command : kCommands) {
    if (!packet.starts_with(command.name)) continue;
    std::string answer = (this->*command.run)(packet.substr(command.name.size()));
    if (!running_) reply(answer);
    return;
  }
  reply("");
}

void GdbServer::reply(std::string_view payload) {
  last_frame_ = gdb_frame(payload);
  send(last_frame_);
}

void GdbServer::send(std::string_view bytes) {
  backend_.write({reinterpret_cast<const u8*>(bytes.data()), bytes.size()});
}

void GdbServer::exited() {
  if (std::exchange(running_, false)) reply("W00");
}

void GdbServer::stopped(std::optional<u32> cpu, std::optional<Point> point) {
  if (!attached_) return;
  cpu_ = cpu.value_or(cpu_);
  hit_ = point;
  if (!std::exchange(running_, false)) return;
  reply(stop_reply());
  interrupted_ = false;
}

std::string GdbServer::stop_reply() const {
  std::string text = fmt::format("T{:02x}thread:{:x};", interrupted_ ? 2 : 5, cpu_ + 1);
  if (hit_ && hit_->kind != Point::Kind::Execute)
    text += fmt::format("{}:{:x};", hit_->kind == Point::Kind::Write ? "watch" : "awatch", hit_->address);
  return text;
}

// -- registers and memory --------------------------------------------------------------------------------------------------

std::string GdbServer::read_registers(std::string_view) {
  auto state = target_.state(cpu_);
  return state ? to_hex(gdb_registers(*state)) : std::string(kFault);
}

std::string GdbServer::write_registers(std::string_view text) {
  auto bytes = from_hex(text);
  auto state = target_.state(cpu_);
  if (!bytes || !state || !set_gdb_registers(*state, *bytes)) return std::string(kBadRequest);
  return std::string(target_.set_state(cpu_, *state) ? kOk : kFault);
}

std::string GdbServer::read_register(std::string_view text) {
  auto number = hex_number(text);
  auto state = target_.state(cpu_);
  if (!number || !state) return std::string(kBadRequest);
  auto bytes = gdb_register(*state, *number);
  return bytes.empty() ? std::string(kBadRequest) : to_hex(bytes);
}

std::string GdbServer::write_register(std::string_view text) {
  size_t equals = std::min(text.find('='), text.size());
  auto number = hex_number(text.substr(0, equals));
  auto bytes = from_hex(text.substr(std::min(equals + 1, text.size())));
  auto state = target_.state(cpu_);
  if (!number || !bytes || !state || !set_gdb_register(*state, *number, *bytes)) return std::string(kBadRequest);
  return std::string(target_.set_state(cpu_, *state) ? kOk : kFault);
}

std::string GdbServer::read_memory(std::string_view text) {
  auto range = parse_range(text);
  if (!range) return std::string(kBadRequest);
  auto bytes = target_.read(cpu_, range->address, range->size);
  return bytes ? to_hex(*bytes) : std::string(kFault);
}

std::string GdbServer::write_bytes(u64 address, std::span<const u8> bytes) {
  return std::string(target_.write(cpu_, address, bytes) ? kOk : kFault);
}

std::string GdbServer::write_memory(std::string_view text) {
  auto range = parse_range(text);
  auto bytes = range ? from_hex(range->rest) : std::nullopt;
  if (!bytes || bytes->size() != range->size) return std::string(kBadRequest);
  return write_bytes(range->address, *bytes);
}

std::string GdbServer::write_binary(std::string_view text) {
  auto range = parse_range(text);
  if (!range || range->rest.size() != range->size) return std::string(kBadRequest);
  return write_bytes(range->address, {reinterpret_cast<const u8*>(range->rest.data()), range->rest.size()});
}

// -- points ------------------------------------------------------------------------------------------------------------------

std::string GdbServer::insert_point(std::string_view text) { return change_points(text, true); }
std::string GdbServer::remove_point(std::string_view text) { return change_points(text, false); }

/// type,address,length
std::string GdbServer::change_points(std::string_view text, bool insert) {
  if (text.size() < 2 || text[1] != ',') return std::string(kBadRequest);
  auto kind = point_kind(text[0]);
  auto range = parse_range(text.substr(2, text.find(';') - 2));
  if (!kind || !range || range->size > 8) return std::string(kBadRequest);
  Point point{range->address, *kind == Point::Kind::Execute ? u8{1} : static_cast<u8>(range->size), *kind};
  auto changed = points_;
  std::erase_if(changed, [&](const Point& p) { return same(p, point); });
  if (insert) changed.push_back(point);
  if (changed.size() > kMaxPoints || !target_.set_points(changed)) return std::string(kFault);
  points_ = std::move(changed);
  return std::string(kOk);
}

// -- running -----------------------------------------------------------------------------------------------------------------

std::string GdbServer::run_target(std::optional<u32> step_cpu) {
  if (!target_.resume(step_cpu)) return std::string(kFault);
  running_ = true;
  interrupted_ = false;
  return {};
}

std::string GdbServer::resume(std::string_view address) { return address.empty() ? run_target(std::nullopt) : std::string(kBadRequest); }
std::string GdbServer::step(std::string_view address) { return address.empty() ? run_target(cpu_) : std::string(kBadRequest); }
std::string GdbServer::vcont_query(std::string_view) { return "vCont;c;C;s;S"; }

/// ;action[:thread]...: a step of one thread, or everyone runs.
std::string GdbServer::vcont(std::string_view text) {
  std::optional<u32> step_cpu;
  while (text.starts_with(';')) {
    text.remove_prefix(1);
    std::string_view action = text.substr(0, text.find(';'));
    text.remove_prefix(action.size());
    if (action.empty() || !std::string_view("cCsS").contains(action[0])) return std::string(kBadRequest);
    if (action[0] != 's' && action[0] != 'S') continue;
    size_t colon = action.find(':');
    auto thread = colon == action.npos ? std::optional<u64>(cpu_ + 1) : hex_number(action.substr(colon + 1));
    if (!thread || *thread == 0 || *thread > target_.cpu_count()) return std::string(kBadRequest);
    if (!step_cpu) step_cpu = static_cast<u32>(*thread - 1);
  }
  return run_target(step_cpu);
}

std::string GdbServer::why_stopped(std::string_view) { return stop_reply(); }

// -- threads and session -------------------------------------------------------------------------------------------------------

/// g or c, then a thread; 0 and -1 stand for any.
std::string GdbServer::select_thread(std::string_view text) {
  if (text.empty()) return std::string(kBadRequest);
  std::string_view which = text.substr(1);
  if (which == "0" || which == "-1") return std::string(kOk);
  auto thread = hex_number(which);
  if (!thread || *thread == 0 || *thread > target_.cpu_count()) return std::string(kBadRequest);
  cpu_ = static_cast<u32>(*thread - 1);
  return std::string(kOk);
}

std::string GdbServer::thread_alive(std::string_view text) {
  auto thread = hex_number(text);
  return std::string(thread && *thread > 0 && *thread <= target_.cpu_count() ? kOk : kBadRequest);
}

std::string GdbServer::supported(std::string_view) {
  return fmt::format("PacketSize={:x};qXfer:features:read+;vContSupported+;QStartNoAckMode+", GdbPacketReader::kMaxPacket);
}

/// annex:offset,length
std::string GdbServer::features(std::string_view text) {
  constexpr std::string_view kAnnex = "target.xml:";
  auto range = text.starts_with(kAnnex) ? parse_range(text.substr(kAnnex.size())) : std::nullopt;
  if (!range) return "E00";
  std::string xml = gdb_target_description();
  if (range->address >= xml.size()) return "l";
  std::string part = xml.substr(range->address, range->size);
  return (range->address + part.size() < xml.size() ? "m" : "l") + part;
}

std::string GdbServer::first_threads(std::string_view) {
  std::string text = "m";
  for (u32 i = 1; i <= target_.cpu_count(); ++i) text += fmt::format("{}{:x}", i > 1 ? "," : "", i);
  return text;
}

std::string GdbServer::more_threads(std::string_view) { return "l"; }
std::string GdbServer::current_thread(std::string_view) { return fmt::format("QC{:x}", cpu_ + 1); }
std::string GdbServer::attached_to(std::string_view) { return "1"; }

std::string GdbServer::no_acknowledgements(std::string_view) {
  acknowledge_ = false;
  return std::string(kOk);
}

std::string GdbServer::detach(std::string_view) {
  points_.clear();
  (void)target_.set_points({});
  attached_ = running_ = false;
  acknowledge_ = true;
  (void)target_.resume(std::nullopt);
  return std::string(kOk);
}

std::string GdbServer::kill(std::string_view) {
  attached_ = running_ = false;
  target_.quit();
  return std::string(kOk);
}

}  // namespace atl::control
