#include "manage/domain/snapshots.h"

#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>

#include "base/log.h"
#include "manage/store/state_folder.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

// Which one is current is in its own record, as with libvirt: the element never leaves the daemon.
constexpr std::string_view kActive = "active";

Result<Snapshot> parse(std::string_view text, const std::string& root) {
  Snapshot snapshot{.tree = TRY(xml::parse(text, "(domain_snapshot)", root))};
  snapshot.current = text_at(snapshot.tree, kActive) == "1";
  snapshot.tree.remove(kActive);
  return snapshot;
}

}  // namespace

bool Snapshot::is_internal() const {
  const Element* disks = tree.child("disks");
  for (const Element* disk : disks ? disks->children("disk") : std::vector<const Element*>())
    if (disk->attribute("snapshot") == "internal") return true;
  return false;
}

std::vector<Snapshot> SnapshotStore::all() const {
  std::vector<Snapshot> list;
  if (::access(folder_.c_str(), F_OK) != 0) return list;
  auto folder = StateFolder::open(folder_);
  auto names = folder ? folder->names() : Result<std::vector<std::string>>(std::move(folder).error());
  if (!names) return list;
  for (const auto& name : *names) {
    auto text = folder->read(name);
    auto snapshot = text ? parse(*text, root_) : Result<Snapshot>(std::move(text).error());
    if (snapshot) list.push_back(std::move(*snapshot));
    else log_error("snapshot '{}' in {}: {}", name, folder_, snapshot.error().message());
  }
  return list;
}

Result<Snapshot> SnapshotStore::find(const std::string& name) const {
  for (auto& snapshot : all())
    if (snapshot.name() == name) return std::move(snapshot);
  if (root_ == "domaincheckpoint") return Error(Code::NoDomainCheckpoint, fmt::format("no domain checkpoint with matching name '{}'", name));
  return no_snapshot(name);
}

Status SnapshotStore::save(const Snapshot& snapshot) const {
  auto folder = TRY(StateFolder::open(folder_));
  Element tree = snapshot.tree;
  tree.remove(kActive);
  tree.add(kActive, std::string_view(snapshot.current ? "1" : "0"));
  return folder.write(snapshot.name(), xml::write(tree));
}

Status SnapshotStore::set_current(const std::string& name) const {
  for (auto& snapshot : all()) {
    const bool current = snapshot.name() == name;
    if (snapshot.current == current) continue;
    snapshot.current = current;
    TRY(save(snapshot));
  }
  return {};
}

Status SnapshotStore::remove(const std::string& name) const {
  const Snapshot gone = TRY(find(name));
  for (auto& snapshot : all()) {
    if (snapshot.parent() != name) continue;
    snapshot.tree.remove("parent");
    if (!gone.parent().empty()) snapshot.tree.add("parent").add("name", std::string_view(gone.parent()));
    TRY(save(snapshot));
  }
  auto folder = TRY(StateFolder::open(folder_));
  TRY(folder.remove(name));
  if (gone.current && !gone.parent().empty()) return set_current(gone.parent());
  return {};
}

void SnapshotStore::remove_all() const {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::vector<Snapshot> descendants(const std::vector<Snapshot>& all, const std::string& name) {
  std::vector<Snapshot> list;
  std::vector<std::string> parents = {name};
  // Every snapshot is met once: records that name each other as parents end the walk.
  while (!parents.empty() && list.size() <= all.size()) {
    const std::string parent = parents.back();
    parents.pop_back();
    for (const auto& snapshot : all)
      if (snapshot.parent() == parent && snapshot.name() != name) {
        list.push_back(snapshot);
        parents.push_back(snapshot.name());
      }
  }
  return list;
}

}  // namespace atl::manage
