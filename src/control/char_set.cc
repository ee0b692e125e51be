#include "control/char_set.h"

#include <algorithm>

#include <fmt/format.h>

namespace atl::control {

Result<std::unique_ptr<CharSet>> CharSet::create(Loop& loop, const ProgramOptions& options, std::function<void()> on_exit_key) {
  auto set = std::make_unique<CharSet>();
  for (const auto& config : options.chardevs)
    TRY(set->add(loop, config, options.escape, on_exit_key).context(fmt::format("chardev {}", config.id)));
  for (const auto& [user, chardev] : options.ports) set->add_user(user, chardev);
  return set;
}

Status CharSet::add(Loop& loop, const ChardevConfig& config, u8 escape, const std::function<void()>& on_exit_key) {
  Entry entry{.plain = TRY(create_chardev(loop, config))};
  entry.chardev = entry.plain.get();
  if (config.mux) entry.mux = TRY(Mux::create(loop, std::move(entry.plain), escape, on_exit_key));
  entries_.push_back(std::move(entry));
  return {};
}

void CharSet::add_user(const machine::CharId& user, const std::string& chardev) {
  for (auto& entry : entries_) {
    if (entry.chardev->id() != chardev) continue;
    users_[user] = entry.mux ? &entry.mux->add_port(user) : entry.chardev;
  }
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
  for (auto& entry : entries_)
    if (entry.mux) entry.mux->start();
}

bool CharSet::is_waiting() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.chardev->is_waiting(); });
}

void CharSet::drain(u64 timeout_ns) {
  for (auto& entry : entries_) entry.chardev->drain(timeout_ns);
}

}  // namespace atl::control
