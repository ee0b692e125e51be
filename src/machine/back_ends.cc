#include "machine/back_ends.h"

#include <algorithm>

#include <fmt/core.h>

namespace atl::machine {
namespace {

Result<std::unique_ptr<net::Backend>> open_network(Loop& loop, const NetConfig& config) {
  if (std::holds_alternative<VhostUserNetOptions>(config.options)) return std::unique_ptr<net::Backend>();  // the card speaks to it
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
  ends->blocks_ = std::make_unique<BlockStore>(*ends->default_);
  return ends;
}

BackEnds::~BackEnds() {
  stop_threads();
  networks_.clear();
  blocks_.reset();
}

void BackEnds::stop_threads() {
  if (blocks_) blocks_->close();
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

Result<LoopThread*> BackEnds::own_thread(const std::string& user) {
  auto& thread = iothreads_["device " + user];  // no id that an option could give
  if (!thread) thread = TRY(LoopThread::start("IO " + user).context("start a thread for " + user));
  return thread.get();
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
  if (!network->backend) return Error(ErrorKind::Unsupported, fmt::format("netdev '{}' is of type vhost-user, which only virtio-net can use", id));
  network->user = user;
  return network->backend.get();
}

Result<std::optional<CharId>> BackEnds::claim_vhost_user(const std::string& id, const std::string& user) {
  Network* network = find_network(id);
  const auto* options = network ? std::get_if<VhostUserNetOptions>(&network->config.options) : nullptr;
  if (!options) return std::optional<CharId>();
  if (!network->user.empty()) return in_use("Netdev", id, network->user);
  network->user = user;
  return std::optional(options->chardev);
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
  if (blocks_->remove_object(id)) return {};
  if (std::erase_if(rngs_, [&](const RngConfig& r) { return r.id == id; })) return {};
  auto thread = iothreads_.find(id);
  if (thread == iothreads_.end()) return Error(ErrorKind::NotFound, fmt::format("object '{}' not found", id));
  if (blocks_->uses(*thread->second)) {
    return Error(ErrorKind::Busy, fmt::format("object '{}' is in use, can not be deleted", id));
  }
  blocks_->forget(*thread->second);
  iothreads_.erase(thread);
  return {};
}

void BackEnds::release(const std::string& user) {
  blocks_->release(user);
  for (Network& n : networks_) {
    if (n.user == user) n.user.clear();
  }
}

Status BackEnds::flush() { return blocks_->flush(); }

}  // namespace atl::machine
