#include "control/char_set.h"

#include <algorithm>

#include <fmt/format.h>

namespace atl::control {

Result<std::unique_ptr<CharSet>> CharSet::create(Loop& loop, const ProgramOptions& options, std::function<void()> on_exit_key) {
  std::unique_ptr<CharSet> set(new CharSet(loop, options.escape, std::move(on_exit_key)));
  for (const auto& monitor : options.monitors) set->settled_.insert(monitor.chardev);
  set->settled_.insert({options.gdb, options.qtest});
  for (const auto& config : options.chardevs) TRY(set->open(config).context(fmt::format("chardev {}", config.id)));
  for (const auto& [user, chardev] : options.ports)
    if (Entry* entry = set->find_entry(chardev)) set->add_user(*entry, user);
  return set;
}

Status CharSet::open(const ChardevConfig& config) {
  Entry entry{.plain = std::make_unique<ChardevSlot>(TRY(create_chardev(loop_, config)))};
  entry.chardev = entry.plain.get();
  if (config.mux) entry.mux = TRY(Mux::create(loop_, std::move(entry.plain), escape_, on_exit_key_));
  entries_.push_back(std::move(entry));
  return {};
}

void CharSet::add_user(Entry& entry, const machine::CharId& user) {
  users_[user] = entry.mux ? &entry.mux->add_port(user) : entry.chardev;
  entry.users.push_back(user);
}

CharSet::Entry* CharSet::find_entry(std::string_view id) {
  auto at = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.chardev->id() == id; });
  return at == entries_.end() ? nullptr : &*at;
}

CharBackend* CharSet::find_user(const machine::CharId& id) const {
  auto at = users_.find(id);
  return at == users_.end() ? nullptr : at->second;
}

std::vector<Chardev*> CharSet::all() const {
  std::vector<Chardev*> list;
  for (const auto& entry : entries_) list.push_back(entry.chardev);
  return list;
}

Chardev* CharSet::find(std::string_view id) const {
  for (const auto& entry : entries_)
    if (entry.chardev->id() == id) return entry.chardev;
  return nullptr;
}

void CharSet::start() {
  started_ = true;
  for (auto& entry : entries_)
    if (entry.mux) entry.mux->start();
}

bool CharSet::is_waiting() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.chardev->is_waiting(); });
}

void CharSet::drain(u64 timeout_ns) {
  for (auto& entry : entries_) entry.chardev->drain(timeout_ns);
}

Result<Chardev*> CharSet::add(const ChardevConfig& config) {
  if (find(config.id)) return Error(ErrorKind::Exists, fmt::format("Chardev with id '{}' already exists", config.id));
  TRY(open(config));
  if (entries_.back().mux && started_) entries_.back().mux->start();
  return entries_.back().chardev;
}

Status CharSet::remove(std::string_view id) {
  Entry* entry = find_entry(id);
  if (!entry) return Error(ErrorKind::NotFound, fmt::format("Chardev '{}' not found", id));
  const bool busy = !std::ranges::all_of(entry->users, [&](const auto& user) { return idle_users_.contains(user); });
  if (busy) return Error(ErrorKind::Busy, fmt::format("Chardev '{}' is busy", id));
  for (const auto& user : entry->users) {
    users_.erase(user);
    idle_users_.erase(user);
  }
  entries_.erase(entries_.begin() + (entry - entries_.data()));
  return {};
}

Status CharSet::exchange(const ChardevConfig& config) {
  Entry* entry = find_entry(config.id);
  if (!entry) return Error(ErrorKind::NotFound, fmt::format("Chardev '{}' does not exist", config.id));
  if (entry->mux || config.mux) return Error(ErrorKind::Unsupported, "Mux device hotswap not supported yet");
  if (settled_.contains(config.id) || !entry->chardev->can_be_exchanged())
    return Error(ErrorKind::Unsupported, "Chardev user does not support chardev hotswap");
  entry->chardev->exchange(TRY(create_chardev(loop_, config)));
  return {};
}

Status CharSet::send_break(std::string_view id) {
  Entry* entry = find_entry(id);
  if (!entry) return Error(ErrorKind::NotFound, fmt::format("Chardev '{}' not found", id));
  entry->chardev->send_break();
  return {};
}

/// Users that have gone make place for the next one.
Result<machine::CharId> CharSet::claim(const std::string& chardev) {
  Entry* entry = find_entry(chardev);
  if (!entry) return Error(ErrorKind::NotFound, fmt::format("chardev '{}' not found", chardev));
  for (const auto& user : entry->users)
    if (idle_users_.erase(user)) return user;
  if (!entry->users.empty() && !entry->mux) return Error(ErrorKind::Busy, fmt::format("chardev '{}' is in use", chardev));
  const std::string user = entry->users.empty() ? chardev : fmt::format("{}#{}", chardev, entry->users.size());
  add_user(*entry, user);
  return user;
}

}  // namespace atl::control
