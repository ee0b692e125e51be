#include "machine/back_ends.h"

#include <algorithm>

#include <fmt/core.h>

namespace atl::machine {
namespace {

Result<std::unique_ptr<block::Node>> open_nodes(Loop& loop, const DriveConfig& config) {
  auto file = TRY(block::open_file_node(loop, config.file));
  return block::open_raw_node(std::move(file), config.raw);
}

Result<std::unique_ptr<net::Backend>> open_network(Loop& loop, const NetConfig& config) {
  if (const auto* user = std::get_if<net::UserOptions>(&config.options)) return net::create_user_backend(loop, *user);
  return net::create_tap_backend(loop, std::get<net::TapOptions>(config.options));
}

Error in_use(std::string_view what, const std::string& id, const std::string& user) {
  return Error(ErrorKind::Busy, fmt::format("{} '{}' is already in use by device '{}'", what, id, user));
}

}  // namespace

Result<std::unique_ptr<BackEnds>> BackEnds::create() {
  std::unique_ptr<BackEnds> ends(new BackEnds());
  ends->default_ = TRY(LoopThread::start("IO main").context("start the I/O thread"));
  return ends;
}

BackEnds::~BackEnds() {
  stop_threads();
  networks_.clear();
  drives_.clear();
}

void BackEnds::stop_threads() {
  default_->stop();
  for (auto& [id, thread] : iothreads_) thread->stop();
}

Status BackEnds::add_iothread(const IoThreadConfig& config) {
  if (iothreads_.contains(config.id)) {
    return Error(ErrorKind::Exists, fmt::format("attempt to add duplicate property '{}' to object", config.id));
  }
  iothreads_[config.id] = TRY(LoopThread::start("IO " + config.id).context("iothread " + config.id));
  return {};
}

Result<LoopThread*> BackEnds::iothread(const std::string& id) {
  if (id.empty()) return default_.get();
  auto found = iothreads_.find(id);
  if (found != iothreads_.end()) return found->second.get();
  return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", id));
}

BackEnds::Drive* BackEnds::find_drive(const std::string& id) {
  auto found = std::ranges::find_if(drives_, [&](const Drive& d) { return d.config.id == id; });
  return found == drives_.end() ? nullptr : &*found;
}

Status BackEnds::open_drive(Drive& drive, LoopThread& thread) {
  drive.node = TRY(thread.run_on([&] { return open_nodes(thread.loop(), drive.config); }));
  drive.thread = &thread;
  return {};
}

/// Nodes end on the loop that they belong to.
void BackEnds::close_drive(Drive& drive) {
  if (drive.node) drive.thread->run_on([&] { drive.node.reset(); });
  drive.thread = nullptr;
}

Status BackEnds::add_drive(const DriveConfig& config) {
  if (find_drive(config.id)) return Error(ErrorKind::Exists, fmt::format("Duplicate ID '{}' for drive", config.id));
  Drive drive{.config = config};
  TRY(open_drive(drive, *default_));
  drives_.push_back(std::move(drive));
  return {};
}

Status BackEnds::remove_drive(const std::string& id) {
  Drive* drive = find_drive(id);
  if (!drive) return Error(ErrorKind::NotFound, fmt::format("Failed to find node with node-name='{}'", id));
  if (!drive->user.empty()) return Error(ErrorKind::Busy, fmt::format("Node {} is in use", id));
  close_drive(*drive);
  std::erase_if(drives_, [&](const Drive& d) { return d.config.id == id; });
  return {};
}

Result<BackEnds::ClaimedDrive> BackEnds::claim_drive(const std::string& id, const std::string& user, LoopThread& thread,
                                                      bool shared) {
  Drive* drive = find_drive(id);
  if (!drive) return Error(ErrorKind::NotFound, fmt::format("Property 'drive' can't find value '{}'", id));
  if (!drive->user.empty()) return in_use("Drive", id, drive->user);
  const bool unlock = shared && drive->config.file.locking;
  if (drive->thread != &thread || unlock) {
    close_drive(*drive);
    if (unlock) drive->config.file.locking = false;
    TRY(open_drive(*drive, thread));
  }
  drive->user = user;
  return ClaimedDrive{drive->node.get(), &drive->config};
}

BackEnds::Network* BackEnds::find_network(const std::string& id) {
  auto found = std::ranges::find_if(networks_, [&](const Network& n) { return n.config.id == id; });
  return found == networks_.end() ? nullptr : &*found;
}

Status BackEnds::add_network(const NetConfig& config) {
  if (find_network(config.id)) return Error(ErrorKind::Exists, fmt::format("Duplicate ID '{}' for netdev", config.id));
  LoopThread& thread = *default_;
  auto backend = TRY(thread.run_on([&] { return open_network(thread.loop(), config); }).context("netdev " + config.id));
  networks_.push_back({config, std::move(backend), {}});
  return {};
}

Status BackEnds::remove_network(const std::string& id) {
  Network* network = find_network(id);
  if (!network) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", id));
  if (!network->user.empty()) return in_use("Netdev", id, network->user);
  default_->run_on([&] { network->backend.reset(); });
  std::erase_if(networks_, [&](const Network& n) { return n.config.id == id; });
  return {};
}

Result<net::Backend*> BackEnds::claim_network(const std::string& id, const std::string& user) {
  Network* network = find_network(id);
  if (!network) return Error(ErrorKind::NotFound, fmt::format("Property 'netdev' can't find value '{}'", id));
  if (!network->user.empty()) return in_use("Netdev", id, network->user);
  network->user = user;
  return network->backend.get();
}

Status BackEnds::add_rng(const RngConfig& config) {
  if (rng_path(config.id)) {
    return Error(ErrorKind::Exists, fmt::format("attempt to add duplicate property '{}' to object", config.id));
  }
  rngs_.push_back(config);
  return {};
}

Result<std::string> BackEnds::rng_path(const std::string& id) const {
  for (const RngConfig& rng : rngs_) {
    if (rng.id == id) return rng.path;
  }
  return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", id));
}

Status BackEnds::remove_object(const std::string& id) {
  if (std::erase_if(rngs_, [&](const RngConfig& r) { return r.id == id; })) return {};
  auto thread = iothreads_.find(id);
  if (thread == iothreads_.end()) return Error(ErrorKind::NotFound, fmt::format("object '{}' not found", id));
  for (const Drive& d : drives_) {
    if (d.thread == thread->second.get()) return Error(ErrorKind::Busy, fmt::format("object '{}' is in use, can not be deleted", id));
  }
  iothreads_.erase(thread);
  return {};
}

void BackEnds::release(const std::string& user) {
  for (Drive& d : drives_) {
    if (d.user == user) d.user.clear();
  }
  for (Network& n : networks_) {
    if (n.user == user) n.user.clear();
  }
}

Status BackEnds::flush() {
  for (Drive& d : drives_) {
    if (!d.node || d.config.file.readonly || d.config.raw.readonly) continue;
    struct Waiter {
      std::binary_semaphore done{0};
      Status status;
    } waiter;
    d.thread->loop().post([&] {
      start(d.node->flush(), [&waiter](Status status) {
        waiter.status = std::move(status);
        waiter.done.release();
      });
    });
    waiter.done.acquire();
    if (!waiter.status) return std::move(waiter.status).context("flush " + d.config.file.filename);
  }
  return {};
}

}  // namespace atl::machine
