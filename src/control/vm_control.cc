#include "control/vm_control.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "base/tls.h"
#include "control/cmdline/translate.h"
#include "control/gdb/machine_target.h"
#include "machine/block_store.h"
#include "machine/device_table.h"

namespace atl::control {

using machine::DriveConfig;
using machine::Event;

VmControl::VmControl(Loop& loop, const CommandLine& line, CharSet& chars)
    : loop_(loop), line_(line), chars_(chars), fd_sets_(line.program.fd_sets) {}

VmControl::~VmControl() = default;

void VmControl::set_machine(machine::Machine* machine) {
  machine_ = machine;
  if (machine_) machine_->set_event_handler([this](const Event& event) { on_event(event); });
}

void VmControl::tell(const Event& event) {
  for (const auto& listener : listeners_) listener(event);
  if (debugger_) debugger_->on_event(event);
}

void VmControl::on_event(const Event& event) {
  if (quitting_) return;  // the end has been told already
  if (event.kind == Event::Kind::DeviceDeleted) {
    auto [first, last] = device_chars_.equal_range(event.path);
    for (auto at = first; at != last; ++at) chars_.release(at->second);
    device_chars_.erase(first, last);
  }
  tell(event);
  if (event.kind != Event::Kind::Shutdown || config().no_shutdown) return;
  quitting_ = true;
  loop_.stop();
}

void VmControl::quit(const std::string& reason) {
  if (std::exchange(quitting_, true)) return;
  tell({.kind = Event::Kind::Shutdown, .reason = reason});
  loop_.stop();
}

Status VmControl::add_device(KeyValues values) {
  auto device = TRY(device_from_values(std::move(values)));
  device.type = board_device_name(device.type, config().board);
  TRY(machine::check_device(device));
  const std::vector<machine::CharId> claimed = TRY(claim_chardevs(device));
  Status added = machine_->add_device(device);
  for (const auto& user : claimed) {
    if (added) device_chars_.emplace(machine_->devices().back().path, user);
    else chars_.release(user);
  }
  return added;
}

Result<std::vector<machine::CharId>> VmControl::claim_chardevs(machine::DeviceConfig& device) {
  std::vector<machine::CharId> claimed;
  for (auto& [key, value] : device.properties) {
    if (!machine::has_property(device.type, key, machine::PropertyType::Chardev)) continue;
    auto user = chars_.claim(value);
    if (!user) {
      for (const auto& earlier : claimed) chars_.release(earlier);
      const char* why = user.error().kind() == ErrorKind::NotFound ? "find value '{}'" : "take value '{}', it's in use";
      return Error(user.error().kind(), fmt::format("Property '{}.{}' can't {}", device.type, key, fmt::format(fmt::runtime(why), value)));
    }
    claimed.push_back(*user);
    value = *std::move(user);
  }
  return claimed;
}

Result<Chardev*> VmControl::add_chardev(KeyValues values) { return chars_.add(TRY(chardev_from_values(std::move(values)))); }

void VmControl::set_debugger(std::unique_ptr<GdbStub> debugger) {
  debugger_.reset();
  if (!debugger_chardev_.empty()) {
    chars_.release(debugger_chardev_);
    static_cast<void>(chars_.remove(debugger_chardev_));  // nobody else uses it
    debugger_chardev_.clear();
  }
  debugger_ = std::move(debugger);
}

Status VmControl::start_debugger(const std::string& place) {
  if (place == "none") {
    set_debugger(nullptr);
    return {};
  }
  const std::string id = fmt::format("gdb{}", ++debuggers_);
  const ChardevConfig config = TRY(chardev_from_compat(debugger_place(place), id));
  TRY(chars_.add(config));
  const machine::CharId user = TRY(chars_.claim(id));
  set_debugger(std::make_unique<GdbStub>(*this, *chars_.find_user(user)));
  debugger_chardev_ = id;
  return {};
}

Status VmControl::resume() {
  if (dump_.state() == GuestDump::State::Active) return Error(ErrorKind::Busy, "There is a dump in process, please wait.");
  return machine_->resume();
}

void VmControl::dump_ended(u64 completed, u64 total, const Status& status) {
  report({.kind = Event::Kind::DumpCompleted, .reason = status ? "" : status.error().text(), .value = static_cast<i64>(completed), .threshold = total});
}

Result<Chardev*> VmControl::change_chardev(KeyValues values) {
  const ChardevConfig config = TRY(chardev_from_values(std::move(values)));
  TRY(chars_.exchange(config));
  return chars_.find(config.id);
}

Status VmControl::add_block_node(nlohmann::json tree) {
  DriveConfig drive = TRY(drive_from_tree(std::move(tree), fd_sets_));
  return machine_->blocks().add(drive);
}

// "fd=name" is a descriptor that getfd stored; it goes to the back end for good.
Status VmControl::add_network(KeyValues values) {
  auto fd = values.find("fd");
  auto at = fd ? named_fds_.find(*fd) : named_fds_.end();
  if (at != named_fds_.end()) values.set("fd", fmt::format("{}", at->second.get()));
  else if (fd && !parse_u64(*fd)) return Error(ErrorKind::NotFound, fmt::format("No file descriptor named {} found", *fd));
  auto network = TRY(net_from_values(std::move(values)));
  if (at != named_fds_.end()) {
    at->second.release();
    named_fds_.erase(at);
  }
  auto* peer = std::get_if<machine::VhostUserNetOptions>(&network.options);
  if (!peer) return machine_->add_network(network);
  peer->chardev = TRY(chars_.claim(peer->chardev));
  Status added = machine_->add_network(network);
  if (added) network_chars_[network.id] = peer->chardev;
  else chars_.release(peer->chardev);
  return added;
}

Status VmControl::remove_network(const std::string& id) {
  TRY(machine_->remove_network(id));
  if (auto user = network_chars_.extract(id)) chars_.release(user.mapped());
  return {};
}

Status VmControl::add_object(KeyValues values) {
  const std::string type = values.get("qom-type");
  if (type == "secret") {
    machine_->blocks().add_secret(TRY(secret_from_values(std::move(values))));
    return {};
  }
  if (type == "throttle-group") {
    auto group = TRY(throttle_group_from_values(std::move(values)));
    return machine_->blocks().add_throttle_group(group);
  }
  if (type.starts_with("tls-creds-")) {
    values.take("qom-type");
    const std::string id = TRY(values.take_required("id"));
    const TlsOptions options = TRY(read_tls_options(type, std::move(values)));
    auto credentials = TRY(TlsCredentials::load(options));
    for (machine::BlockStore::Place* place : machine_->blocks().places())
      place->thread.run_on([&] { place->graph.add_tls_credentials(id, credentials); });
    return {};
  }
  if (is_memory_object(type)) return add_memory(std::move(values));
  if (type == "iothread") {
    values.take("qom-type");
    machine::IoThreadConfig thread{.id = TRY(values.take_required("id"))};
    TRY(check_id(thread.id));
    TRY(values.expect_empty());
    return machine_->add_iothread(thread);
  }
  auto rng = TRY(rng_from_values(std::move(values)));
  return machine_->add_rng(rng);
}

Status VmControl::add_memory(KeyValues values) {
  const MemoryObject object = TRY(memory_from_values(std::move(values)));
  if (std::ranges::find(spare_memory_, object.id, &SpareMemory::id) != spare_memory_.end())
    return Error(ErrorKind::Exists, fmt::format("attempt to add duplicate property '{}' to object (type 'container')", object.id));
  auto block = TRY(memory::RamBlock::create(object.id, object.size_bytes, object.ram));
  spare_memory_.push_back({object.type, object.id, object.ram, std::move(block)});
  return {};
}

Status VmControl::remove_object(const std::string& id) {
  if (std::erase_if(spare_memory_, [&](const SpareMemory& memory) { return memory.id == id; })) return {};
  return machine_->remove_object(id);
}

Status VmControl::close_fd(const std::string& name) {
  TRY(take_fd(name));
  return {};
}

Result<Fd> VmControl::take_fd(const std::string& name) {
  auto at = named_fds_.find(name);
  if (at == named_fds_.end()) return Error(ErrorKind::NotFound, fmt::format("File descriptor named '{}' not found", name));
  Fd fd = std::move(at->second);
  named_fds_.erase(at);
  return fd;
}

Status VmControl::remove_from_fd_set(u64 set, std::optional<int> fd) {
  auto at = fd_sets_.find(set);
  if (at == fd_sets_.end() || (fd && at->second != *fd)) {
    const std::string which = fd ? fmt::format("fdset-id:{}, fd:{}", set, *fd) : fmt::format("fdset-id:{}", set);
    return Error(ErrorKind::Invalid, fmt::format("File descriptor named '{}' not found", which));
  }
  std::erase_if(set_fds_, [&](const Fd& kept) { return kept.get() == at->second; });
  fd_sets_.erase(at);
  return {};
}

std::pair<u64, int> VmControl::add_to_fd_set(std::optional<u64> set, Fd fd) {
  u64 number = set.value_or(0);
  while (!set && fd_sets_.contains(number)) ++number;
  int value = fd.get();
  set_fds_.push_back(std::move(fd));
  fd_sets_.emplace(number, value);
  return {number, value};
}

}  // namespace atl::control
