#include "machine/block_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/log.h"
#include "block/copy_on_read.h"
#include "machine/block_exports.h"
#include "machine/persistent_bitmaps.h"

namespace atl::machine {

using block::Json;
using block::NodePtr;

block::DirtyBitmap* BlockStore::Place::find_bitmap(const block::Node& node, const std::string& name) {
  Bitmap* entry = find_bitmap_entry(node, name);
  return entry ? entry->bitmap.get() : nullptr;
}

BlockStore::Place::Bitmap* BlockStore::Place::find_bitmap_entry(const block::Node& node, const std::string& name) {
  for (Bitmap& entry : bitmaps) {
    if (entry.node.lock().get() == &node && entry.bitmap->name() == name) return &entry;
  }
  return nullptr;
}

BlockStore::BlockStore(LoopThread& main) : main_(main), exports_(std::make_unique<BlockExports>(*this)) { place_of(main_); }
BlockStore::~BlockStore() { close(); }

BlockStore::Place& BlockStore::place_of(LoopThread& thread) {
  for (auto& place : places_)
    if (&place->thread == &thread) return *place;
  auto place = std::make_unique<Place>(thread);
  for (const auto& [id, value] : secrets_) place->graph.add_secret(id, value);
  for (const auto& [id, group] : throttle_groups_) place->graph.add_throttle_group(group);
  places_.push_back(std::move(place));
  return *places_.back();
}

std::vector<BlockStore::Place*> BlockStore::places() {
  std::vector<Place*> list;
  for (auto& place : places_) list.push_back(place.get());
  return list;
}

// --- objects ---

void BlockStore::add_secret(const SecretConfig& secret) {
  secrets_[secret.id] = secret.value;
  for (auto& place : places_) place->thread.run_on([&] { place->graph.add_secret(secret.id, secret.value); });
}

Status BlockStore::add_throttle_group(const ThrottleGroupConfig& config) {
  TRY(config.limits.check());
  auto& group = throttle_groups_[config.id];
  if (group) return Error(ErrorKind::Exists, fmt::format("attempt to add duplicate property '{}' to object", config.id));
  group = std::make_shared<block::ThrottleGroup>(config.id, config.limits);
  for (auto& place : places_) place->thread.run_on([&] { place->graph.add_throttle_group(group); });
  return {};
}

std::shared_ptr<block::ThrottleGroup> BlockStore::throttle_group(const std::string& id) const {
  auto found = throttle_groups_.find(id);
  return found == throttle_groups_.end() ? nullptr : found->second;
}

bool BlockStore::remove_object(const std::string& id) {
  if (throttle_groups_.erase(id)) {
    for (auto& place : places_) place->thread.run_on([&] { place->graph.remove_throttle_group(id); });
    return true;
  }
  return secrets_.erase(id) > 0;
}

// --- finding ---

BlockStore::Drive* BlockStore::find_drive(const std::string& id) {
  auto found = std::ranges::find_if(drives_, [&](const Drive& d) { return d.config.id == id; });
  return found == drives_.end() ? nullptr : &*found;
}

Result<BlockStore::Located> BlockStore::locate(const std::string& name) {
  // A -drive goes by its id whatever is on top of it; else a name means the node, also with an overlay above.
  if (Drive* drive = find_drive(name); drive && drive->root && drive->config.from_drive_option)
    return Located{drive->place, drive->place->thread.run_on([&] { return drive->root->node(); }), drive};
  for (auto& place : places_) {
    Located located{place.get(), nullptr, nullptr};
    place->thread.run_on([&] {
      located.node = place->graph.find(name);
      for (Drive& drive : drives_)
        if (located.node && drive.root && drive.place == place.get() && drive.root->node() == located.node) located.drive = &drive;
    });
    if (located.node) return located;
  }
  return Error(ErrorKind::NotFound, fmt::format("Cannot find device='{0}' nor node-name='{0}'", name));
}

std::string BlockStore::drive_of(const block::Node& node) {
  for (Drive& drive : drives_) {
    if (!drive.root || !drive.config.from_drive_option) continue;
    if (drive.place->thread.run_on([&] { return drive.root->node().get() == &node; })) return drive.config.id;
  }
  return {};
}

bool BlockStore::is_name_taken(const std::string& node_name) {
  for (auto& place : places_)
    if (place->thread.run_on([&] { return place->graph.find(node_name) != nullptr; })) return true;
  return false;
}

// --- opening and closing ---

namespace {

/// A file that is gone as soon as it is closed.
Result<std::string> temporary_path() {
  const char* folder = ::getenv("TMPDIR");
  std::string path = std::string(folder ? folder : "/var/tmp") + "/vl.XXXXXX";
  int fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return os_error("Could not get temporary filename in " + path);
  Fd owned(fd);
  return path;
}

std::string text_of(const Json& tree, const char* key) {
  auto found = tree.find(key);
  const auto* text = found == tree.end() ? nullptr : found->get_ptr<const std::string*>();
  return text ? *text : std::string();
}

/// The nodes that a tree names instead of describing.
void collect_references(const Json& tree, std::set<std::string>& names) {
  if (!tree.is_object() && !tree.is_array()) return;
  for (const auto& [key, value] : tree.items()) {
    if (value.is_structured()) collect_references(value, names);
    if (key != "filename" && key != "node-name" && key != "driver" && value.is_string())
      names.insert(*value.get_ptr<const std::string*>());
  }
}

}  // namespace

/// snapshot=on: an overlay in a temporary file, which has no name any more once it is open.
Task<Result<NodePtr>> BlockStore::open_snapshot(Place& place, NodePtr below) {
  std::string path = CO_TRY(temporary_path());
  const block::Driver* qcow2 = block::find_driver("qcow2");
  Json options = {{"size", std::to_string(below->size_bytes())}};
  Status created = co_await place.graph.create(*qcow2, path, options);
  Result<NodePtr> opened = Error(ErrorKind::Io, "");
  if (created) {
    Json tree = {{"driver", "qcow2"}, {"backing", below->info().node_name},
                 {"file", {{"driver", "file"}, {"filename", path}}}, {"cache", {{"no-flush", true}}}};
    block::OpenMode mode;
    mode.discard = true;
    mode.locking = false;  // nobody else knows the file
    opened = co_await place.graph.open(std::move(tree), std::move(mode));
  } else {
    opened = std::move(created).error();
  }
  ::unlink(path.c_str());
  co_return std::move(opened).context("snapshot=on");
}

Task<Result<NodePtr>> BlockStore::open_tree(Place& place, const DriveConfig& config) {
  block::OpenMode mode = config.mode;
  if (config.snapshot) mode.readonly = true;
  Json tree = *config.tree;
  Result<NodePtr> opened = co_await place.graph.open(std::move(tree), mode);
  if (opened && config.snapshot) {
    NodePtr below = *opened;
    opened = co_await open_snapshot(place, std::move(below));
  }
  if (opened && config.copy_on_read) opened = block::make_copy_on_read(place.graph, std::move(*opened));
  co_return opened;
}

Status BlockStore::open(Drive& drive, Place& place) {
  Result<NodePtr> opened = finish_on(place.thread, [&] { return open_tree(place, drive.config); });
  NodePtr node = TRY(std::move(opened));
  Status loaded = finish_on(place.thread, [&] { return load_bitmaps(place, node); });
  if (!loaded) log_error("bitmaps of {}: {}", drive.config.id, loaded.error().text());
  drive.place = &place;
  place.thread.run_on([&] {
    drive.node_name = node->info().node_name;
    if (drive.config.from_drive_option) drive.root = std::make_unique<block::Root>(place.graph, node);
    static_cast<void>(place.graph.name_node(node));  // checked when it was opened
    node.reset();
  });
  return set_throttle(drive, drive.config.throttle, drive.config.throttle_group);
}

namespace {

/// A node that nobody uses puts away what it holds.
Task<Status> close_unused(BlockStore::Place& place, NodePtr node) {
  if (!node || place.graph.is_used(*node)) co_return Status{};
  Status closed = co_await store_bitmaps(place, node);
  Status put_away = co_await node->close();
  if (closed) closed = std::move(put_away);
  std::erase_if(place.bitmaps, [&](const BlockStore::Place::Bitmap& b) { return b.node.lock() == node; });
  co_return closed;
}

/// Lets go of a drive's nodes.
Task<Status> let_go(BlockStore::Drive& drive) {
  block::Graph& graph = drive.place->graph;
  drive.place->jobs.reap();   // those that have ended hold their nodes
  NodePtr top = drive.root ? drive.root->node() : graph.find(drive.node_name);
  drive.root.reset();
  Status closed = co_await close_unused(*drive.place, std::move(top));
  graph.forget(drive.node_name);
  co_return closed;
}

/// Lets go of the node that a job has taken from under a drive's device. The drive is then called after the one that is there now.
Task<Status> let_go_of_old(BlockStore::Drive& drive) {
  block::Graph& graph = drive.place->graph;
  drive.place->jobs.reap();
  Status closed = co_await close_unused(*drive.place, graph.find(drive.node_name));
  graph.forget(drive.node_name);
  drive.node_name = drive.root->node()->info().node_name;
  co_return closed;
}

}  // namespace

void BlockStore::shut(Drive& drive) {
  if (!drive.place) return;
  Status closed = finish_on(drive.place->thread, [&] { return let_go(drive); });
  if (!closed) log_error("close {}: {}", drive.config.id, closed.error().text());
  drive.place = nullptr;
}

Status BlockStore::add(const DriveConfig& config) {
  if (find_drive(config.id)) {
    if (!config.from_drive_option && find_drive(config.id)->config.from_drive_option)
      return Error(ErrorKind::Exists, fmt::format("node-name={} is conflicting with a device id", config.id));
    if (!config.from_drive_option)
      return Error(ErrorKind::Exists, fmt::format("Duplicate nodes with node-name='{}'", config.id));
    return Error(ErrorKind::Exists, fmt::format("Duplicate ID '{}' for drive", config.id));
  }
  std::string name = config.tree ? text_of(*config.tree, "node-name") : std::string();
  if (!name.empty() && is_name_taken(name)) return Error(ErrorKind::Exists, fmt::format("Duplicate nodes with node-name='{}'", name));
  if (!config.tree) {
    drives_.push_back({.config = config, .place = places_.front().get()});
    return {};
  }
  // A node goes where those live that it stands on.
  Place* place = places_.front().get();
  std::set<std::string> references;
  collect_references(*config.tree, references);
  for (Drive& other : drives_)
    if (other.place && references.contains(other.node_name)) place = other.place;
  Drive drive{.config = config};
  TRY(open(drive, *place));
  drives_.push_back(std::move(drive));
  return {};
}

Status BlockStore::remove(const std::string& name) {
  Drive* drive = find_drive(name);
  if (!drive || !drive->place) return Error(ErrorKind::NotFound, fmt::format("Failed to find node with node-name='{}'", name));
  const bool plugged = !drive->user.empty();
  Place& place = *drive->place;
  TRY(place.thread.run_on([&]() -> Status {
    NodePtr node = place.graph.find(drive->node_name);
    const bool in_device = plugged && (drive->config.from_drive_option || !drive->root || !node || drive->root->node() == node);
    if (in_device) return Error(ErrorKind::Busy, fmt::format("Node {} is in use", name));
    if (auto job = node ? place.jobs.holder_of(*node) : nullptr)
      return Error(ErrorKind::Busy, fmt::format("Node '{}' is busy: block device is in use by block job: {}", name, job->type()));
    const bool used = node && (plugged || !drive->root) && place.graph.is_used(*node);
    return used ? Status(Error(ErrorKind::Busy, fmt::format("Node {} is in use", name))) : Status();
  }));
  if (plugged) return finish_on(place.thread, [&] { return let_go_of_old(*drive); });
  shut(*drive);
  drives_.remove_if([&](const Drive& d) { return &d == drive; });
  return {};
}

/// The drive and all that its tree names, in the order in which they were made.
std::vector<BlockStore::Drive*> BlockStore::closure(Drive& top) {
  std::set<Drive*> found = {&top};
  for (bool grew = true; grew;) {
    grew = false;
    for (Drive* drive : std::set<Drive*>(found)) {
      std::set<std::string> names;
      if (drive->config.tree) collect_references(*drive->config.tree, names);
      for (Drive& other : drives_)
        if (names.contains(other.node_name) && found.insert(&other).second) grew = true;
    }
  }
  std::vector<Drive*> order;
  for (Drive& drive : drives_)
    if (found.contains(&drive)) order.push_back(&drive);
  return order;
}

Status BlockStore::move(const std::string& node_name, Place& place) {
  Drive* top = nullptr;
  for (Drive& drive : drives_)
    if (drive.node_name == node_name) top = &drive;
  if (!top) return Error(ErrorKind::Unsupported, fmt::format("Node '{}' cannot be moved to another I/O thread", node_name), ENOTSUP);
  if (top->place == &place) return {};
  std::vector<Drive*> order = closure(*top);
  for (Drive* drive : order)
    if (!drive->user.empty()) return Error(ErrorKind::Busy, fmt::format("Node '{}' is in use on another I/O thread", drive->node_name));
  Place* before = top->place;
  for (auto it = order.rbegin(); it != order.rend(); ++it) shut(**it);
  Status moved;
  for (Drive* drive : order) {
    if (moved) moved = open(*drive, place);
  }
  if (moved) return {};
  for (Drive* drive : order) {
    if (drive->place) shut(*drive);
  }
  for (Drive* drive : order) static_cast<void>(open(*drive, *before));
  return moved;
}

Result<BlockStore::Claimed> BlockStore::claim(const std::string& id, const std::string& user, LoopThread& thread, bool shared) {
  Drive* drive = find_drive(id);
  if (!drive) {
    // A -drive's node name, or a node inside a tree.
    auto located = locate(id);
    if (!located || !located->drive) return Error(ErrorKind::NotFound, fmt::format("Property 'drive' can't find value '{}'", id));
    drive = located->drive;
  }
  if (!drive->user.empty())
    return Error(ErrorKind::Busy, fmt::format("Drive '{}' is already in use by device '{}'", id, drive->user));
  Place& place = place_of(thread);
  if (drive->node_name.empty()) {  // no medium
    drive->place = &place;
    drive->user = user;
    return Claimed{nullptr, &drive->config};
  }
  const bool unlock = shared && drive->config.mode.locking;
  if (unlock) {
    std::vector<Drive*> order = closure(*drive);
    for (Drive* part : order) part->config.mode.locking = false;
    for (auto it = order.rbegin(); it != order.rend(); ++it) shut(**it);
    for (Drive* part : order) TRY(open(*part, place));
  } else if (drive->place != &place) {
    TRY(move(drive->node_name, place));
  }
  TRY(place.thread.run_on([&]() -> Status {
    NodePtr node = place.graph.find(drive->node_name);
    if (!drive->root) drive->root = std::make_unique<block::Root>(place.graph, node);
    return {};
  }));
  drive->user = user;
  return Claimed{drive->root.get(), &drive->config};
}

void BlockStore::release(const std::string& user) {
  for (Drive& d : drives_)
    if (d.user == user) release_drive(d.config.id);
}

void BlockStore::retire(const std::string& user) {
  std::vector<std::string> gone;
  for (const Drive& d : drives_)
    if (d.user == user && d.config.from_drive_option) gone.push_back(d.config.id);
  release(user);
  for (const std::string& id : gone) static_cast<void>(remove(id));  // a job or an export may still need it
}

void BlockStore::release_drive(const std::string& id) {
  Drive* drive = find_drive(id);
  if (!drive) return;
  drive->user.clear();
  if (!drive->root) return;
  drive->place->thread.run_on([&] {
    drive->root->on_resized = nullptr;
    if (!drive->config.from_drive_option) drive->root.reset();
  });
  if (!drive->config.from_drive_option) drive->node_name = drive->config.id;  // whatever jobs have put there
}

void BlockStore::empty(const std::string& id) {
  Drive* drive = find_drive(id);
  if (!drive || drive->node_name.empty()) return;
  Place* place = drive->place;
  shut(*drive);
  drive->place = place;
  drive->node_name.clear();
  drive->config.tree = nullptr;
}

bool BlockStore::uses(const LoopThread& thread) const {
  return std::ranges::any_of(drives_, [&](const Drive& d) { return d.place && &d.place->thread == &thread; });
}

void BlockStore::forget(const LoopThread& thread) {
  std::erase_if(places_, [&](const auto& place) { return &place->thread == &thread; });
}

Status BlockStore::set_throttle(Drive& drive, const block::ThrottleLimits& limits, const std::string& group) {
  TRY(limits.check());
  std::shared_ptr<block::ThrottleGroup> chosen;
  if (!group.empty()) {
    auto& shared = throttle_groups_[group];
    if (!shared) shared = std::make_shared<block::ThrottleGroup>(group, limits);
    else if (limits.any()) shared->set_limits(limits);
    chosen = shared;
  } else if (limits.any()) {
    chosen = std::make_shared<block::ThrottleGroup>(drive.config.id, limits);
  }
  drive.config.throttle = limits;
  drive.config.throttle_group = group;
  if (drive.root) drive.place->thread.run_on([&] { drive.root->set_throttle(chosen); });
  return {};
}

// --- the end ---

namespace {

Task<Status> flush_all(block::Graph& graph) {
  std::vector<NodePtr> nodes = graph.all_nodes();
  for (const NodePtr& node : nodes) {
    const block::NodeInfo info = node->info();
    if (info.readonly) continue;
    Status status = co_await node->flush();
    CO_TRY(std::move(status).context("flush " + info.filename));
  }
  co_return Status{};
}

}  // namespace

Status BlockStore::flush() {
  for (auto& place : places_) TRY(finish_on(place->thread, [&] { return flush_all(place->graph); }));
  return {};
}

namespace {

/// Jobs hold nodes: they are given up, and end on their loop. In a drained graph no limit holds up their requests.
Task<Status> end_jobs(BlockStore::Place& place) {
  static_cast<void>(co_await place.graph.drain());
  for (const auto& job : place.jobs.list())
    if (!job->is_over()) static_cast<void>(job->cancel(true));
  auto running = [&] { return std::ranges::any_of(place.jobs.list(), [](const auto& job) { return !job->is_over(); }); };
  while (running()) co_await place.graph.loop().sleep(1'000'000);
  place.graph.resume();
  Status stored;
  std::vector<NodePtr> nodes = place.graph.all_nodes();
  for (const NodePtr& node : nodes) {
    Status status = co_await store_bitmaps(place, node);
    if (!status && stored) stored = std::move(status);
  }
  place.bitmaps.clear();
  Status closed = co_await place.graph.close_all();
  co_return stored ? std::move(closed) : std::move(stored);
}

}  // namespace

void BlockStore::close() {
  if (exports_->is_running()) static_cast<void>(exports_->stop());
  for (auto& place : places_) {
    if (!place->thread.is_running()) continue;  // closed before
    Status closed = finish_on(place->thread, [&] { return end_jobs(*place); });
    if (!closed) log_error("{}", closed.error().text());
  }
}

}  // namespace atl::machine
