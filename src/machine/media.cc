#include "machine/media.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace atl::machine {

std::vector<std::string> Media::remove_all_of(const devices::Device& controller) {
  std::vector<std::string> users;
  for (const Slot& slot : slots_)
    if (slot.controller == &controller) users.push_back(slot.user);
  std::erase_if(slots_, [&](const Slot& slot) { return slot.controller == &controller; });
  return users;
}

std::vector<devices::Device*> Media::pausable() const {
  std::vector<devices::Device*> list;
  for (const Slot& slot : slots_)
    if (slot.pausable) list.push_back(slot.pausable);
  return list;
}

namespace {

/// Requests that are under way end first; new ones find no medium.
Task<Status> detach_disk(const Media::Slot& slot, Loop& loop) {
  slot.io->set_node(nullptr);
  slot.io->drop_kept();
  while (!slot.io->is_idle()) co_await loop.sleep(1'000'000);
  slot.detach();
  co_return Status{};
}

}  // namespace

Status Media::remove(const std::string& user) {
  auto found = std::ranges::find(slots_, user, &Slot::user);
  if (found == slots_.end()) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", user));
  if (!found->detach) return Error(ErrorKind::Unsupported, fmt::format("Device '{}' does not support hotplugging", user));
  TRY(finish_on(*found->thread, [&] { return detach_disk(*found, found->thread->loop()); }));
  const bool owns_node = found->owns_node;
  const std::string node = found->node;
  blocks_.retire(user);
  slots_.erase(found);
  return owns_node ? blocks_.remove(node) : Status{};
}

bool Media::has_medium(const Slot& slot) const {
  return slot.drive && slot.thread->run_on([&] { return slot.drive->medium_io().node() != nullptr; });
}

std::vector<DriveState> Media::states() const {
  std::vector<DriveState> list;
  for (const Slot& slot : slots_) {
    DriveState state{.drive = slot.home, .qdev = slot.user, .removable = slot.drive != nullptr};
    if (slot.drive) {
      state.tray_open = slot.drive->tray_is_open();
      state.locked = slot.drive->is_locked();
      state.has_medium = has_medium(slot);
    }
    list.push_back(std::move(state));
  }
  return list;
}

Result<Media::Slot*> Media::find(const std::string& name) {
  auto found = std::ranges::find_if(slots_, [&](const Slot& s) { return !name.empty() && (s.user == name || s.home == name); });
  const bool fixed = std::ranges::any_of(blocks_.drives(), [&](const auto& d) { return !d.user.empty() && (d.user == name || d.config.id == name); });
  if (found == slots_.end() && !fixed) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", name));
  if (found == slots_.end() || !found->drive) return Error(ErrorKind::Invalid, fmt::format("Device '{}' is not removable", name));
  return &*found;
}

bool Media::try_open(Slot& slot, bool force) {
  return slot.thread->run_on([&] {
    if (!slot.drive->tray_is_open() && slot.drive->is_locked() && !force) {
      slot.drive->request_eject();
      return false;
    }
    slot.drive->open_tray();
    return true;
  });
}

namespace {

/// Requests that are under way end first; new ones find no medium.
Task<Status> empty_drive(devices::RemovableDrive& drive, Loop& loop) {
  drive.set_medium(nullptr);
  drive.medium_io().drop_kept();
  while (!drive.medium_io().is_idle()) co_await loop.sleep(1'000'000);
  co_return Status{};
}

}  // namespace

Status Media::take(Slot& slot) {
  TRY(finish_on(*slot.thread, [&] { return empty_drive(*slot.drive, slot.thread->loop()); }));
  if (slot.node.empty()) {
    if (!slot.home.empty()) blocks_.empty(slot.home);
    return {};
  }
  blocks_.release_drive(slot.node);
  Status removed = slot.owns_node ? blocks_.remove(slot.node) : Status{};
  slot.node.clear();
  slot.owns_node = false;
  return removed;
}

Status Media::put(Slot& slot, block::Node& medium) {
  slot.thread->run_on([&] { slot.drive->set_medium(&medium); });
  return {};
}

Status Media::open_tray(const std::string& name, bool force) {
  Slot* slot = TRY(find(name));
  try_open(*slot, force);  // a locked one: the guest opens it when it likes
  return {};
}

Status Media::close_tray(const std::string& name) {
  Slot* slot = TRY(find(name));
  slot->thread->run_on([&] { slot->drive->close_tray(); });
  return {};
}

Status Media::eject(const std::string& name, bool force) {
  Slot* slot = TRY(find(name));
  if (!try_open(*slot, force)) {
    return Error(ErrorKind::Busy,
                 fmt::format("Device '{}' is locked and force was not specified, wait for tray to open and try again", name));
  }
  return take(*slot);
}

Status Media::remove_medium(const std::string& name) {
  Slot* slot = TRY(find(name));
  if (!slot->drive->tray_is_open()) return Error(ErrorKind::Invalid, fmt::format("Tray of device '{}' is not open", name));
  return take(*slot);
}

Status Media::insert_medium(const std::string& name, const std::string& node_name) {
  Slot* slot = TRY(find(name));
  if (!slot->drive->tray_is_open()) return Error(ErrorKind::Invalid, fmt::format("Tray of device '{}' is not open", name));
  if (has_medium(*slot)) return Error(ErrorKind::Invalid, fmt::format("There already is a medium in device '{}'", name));
  const auto medium = TRY(blocks_.claim(node_name, slot->user, *slot->thread, false));
  if (!medium.root) return Error(ErrorKind::NotFound, fmt::format("Node '{}' not found", node_name));
  slot->node = medium.config->id;
  return put(*slot, *medium.root);
}

/// The new medium is opened first: if that fails, the old one stays in.
Status Media::change_medium(const std::string& name, const DriveConfig& medium, bool force) {
  Slot* slot = TRY(find(name));
  DriveConfig config = medium;
  config.id = fmt::format("atoll-medium-{}", ++made_);
  config.from_drive_option = false;
  auto tree = *medium.tree;
  tree["node-name"] = config.id;
  config.tree = std::make_shared<const nlohmann::json>(std::move(tree));
  TRY(blocks_.add(config));
  Status done;
  if (!try_open(*slot, force)) done = Error(ErrorKind::Busy, fmt::format("Device '{}' is locked and force was not specified, wait for tray to open and try again", name));
  if (done) done = take(*slot);
  if (done) done = insert_medium(name, config.id);
  if (!done) {
    static_cast<void>(blocks_.remove(config.id));
    return done;
  }
  slot->owns_node = true;
  return close_tray(name);
}

}  // namespace atl::machine
