#include "machine/back_ends.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/core.h>

namespace atl::machine {
namespace {

const std::string kDeviceThread = "device ";  // and its user: no id that an option could give

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
  while (!networks_.empty()) networks_.pop_back();  // a hub's port goes before what it holds
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
  auto& thread = iothreads_[kDeviceThread + user];
  if (!thread) thread = TRY(LoopThread::start("IO " + user).context("start a thread for " + user));
  return thread.get();
}

std::vector<IoThreadInfo> BackEnds::iothreads() const {
  std::vector<IoThreadInfo> list;
  for (const auto& [id, thread] : iothreads_)
    if (!id.starts_with(kDeviceThread)) list.push_back({id, thread->run_on([] { return ::gettid(); })});
  return list;
}

BackEnds::Network* BackEnds::find_network(const std::string& id) {
  auto found = std::ranges::find_if(networks_, [&](const Network& n) { return n.config.id == id; });
  return found == networks_.end() ? nullptr : &*found;
}

Status BackEnds::add_network(const NetConfig& config) {
  if (find_network(config.id)) return Error(ErrorKind::Exists, fmt::format("Duplicate ID '{}' for netdev", config.id));
  auto backend = TRY(open_network(config).context("netdev " + config.id));
  networks_.push_back({config, std::move(backend), {}});
  return {};
}

Result<std::unique_ptr<net::Backend>> BackEnds::open_network(const NetConfig& config) {
  Loop& loop = default_->loop();
  const auto& options = config.options;
  if (const auto* port = std::get_if<net::HubPortOptions>(&options)) return open_hub_port(*port);
  if (std::holds_alternative<VhostUserNetOptions>(options)) return std::unique_ptr<net::Backend>();  // the card speaks to it
  return default_->run_on([&]() -> Result<std::unique_ptr<net::Backend>> {
    if (const auto* user = std::get_if<net::UserOptions>(&options)) return net::create_user_backend(loop, *user);
    if (const auto* wire = std::get_if<net::SocketOptions>(&options)) return net::create_socket_backend(loop, *wire);
    return net::create_tap_backend(loop, std::get<net::TapOptions>(options));
  });
}

Result<std::unique_ptr<net::Backend>> BackEnds::open_hub_port(const net::HubPortOptions& options) {
  const Network* behind = find_network(options.netdev);
  if (behind && std::holds_alternative<net::HubPortOptions>(behind->config.options))
    return Error(ErrorKind::Invalid, fmt::format("netdev={}: a hub's port cannot be behind another one", options.netdev));  // frames would circle
  if (behind && !behind->backend) return Error(ErrorKind::Invalid, fmt::format("netdev={}: vhost-user serves a card only", options.netdev));
  net::Backend* held = options.netdev.empty() ? nullptr : TRY(claim_network(options.netdev, options.id));
  net::Hub& hub = hubs_.try_emplace(options.hub, default_->loop()).first->second;
  return default_->run_on([&] { return hub.add_port(options, held); });
}

void BackEnds::close_network(Network& network) {
  default_->run_on([&] { network.backend.reset(); });
  const auto* port = std::get_if<net::HubPortOptions>(&network.config.options);
  if (port && !port->netdev.empty()) release(port->id);
  if (port && hubs_.at(port->hub).empty()) hubs_.erase(port->hub);
}

Status BackEnds::remove_network(const std::string& id) {
  Network* network = find_network(id);
  if (!network) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", id));
  if (!network->user.empty()) return in_use("Netdev", id, network->user);
  close_network(*network);
  std::erase_if(networks_, [&](const Network& n) { return n.config.id == id; });
  return {};
}

Status BackEnds::change_forward(const std::string& id, const net::HostForward& rule, bool add) {
  auto is_wanted = [&](const Network& n) { return id.empty() ? std::holds_alternative<net::UserOptions>(n.config.options) : n.config.id == id; };
  auto network = std::ranges::find_if(networks_, is_wanted);
  if (network == networks_.end())
    return Error(ErrorKind::NotFound, id.empty() ? "there is no user-mode network" : fmt::format("unrecognized netdev id '{}'", id));
  if (!network->backend) return Error(ErrorKind::Unsupported, fmt::format("netdev '{}' forwards no ports", id));
  return default_->run_on([&] { return add ? network->backend->add_forward(rule) : network->backend->remove_forward(rule); });
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
