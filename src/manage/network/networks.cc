#include "manage/network/networks.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/strings.h"
#include "manage/network/host_side.h"
#include "manage/network/links.h"
#include "manage/network/status_file.h"
#include "manage/network/update.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

// virNetworkEventLifecycleType.
enum NetworkEvent : i32 { kDefined = 0, kUndefined = 1, kStarted = 2, kStopped = 3 };

Error refusal(Code code, std::string text) { return {code, std::move(text), Part::NetworkDriver}; }
Error no_network_uuid(const Uuid& uuid) {
  return refusal(Code::NoNetwork, fmt::format("no network with matching uuid '{}'", format_uuid(uuid)));
}
Error not_active(const std::string& name) {
  return refusal(Code::OperationInvalid, fmt::format("network '{}' is not active", name));
}

}  // namespace

Networks::Networks(Events& events, StateFolder config, StateFolder run, std::string state_path)
    : events_(events), config_(std::move(config)), run_(std::move(run)), state_path_(std::move(state_path)) {}

Result<std::unique_ptr<Networks>> Networks::create(const Config& config, Events& events) {
  StateFolder stored = TRY(StateFolder::open(config.paths.config + "/networks"));
  // dnsmasq reads its files there after it has become another user.
  StateFolder run = TRY(StateFolder::open(config.paths.run + "/networks", ".xml", 0755, Flush::Never));
  std::string leases = config.paths.state + "/leases";
  TRY(make_folders(leases, 0755));
  std::unique_ptr<Networks> networks(new Networks(events, std::move(stored), std::move(run), leases));
  TRY(networks->load());
  return networks;
}

Status Networks::load() {
  Lock lock(mutex_);
  for (const std::string& name : TRY(config_.names())) {
    auto text = config_.read(name);
    auto network = text ? parse_network(*text) : Result<NetworkDefinition>(text.error());
    if (!network || network->name != name) {
      log_warning("network {} is left out: {}", name,
                  network ? "its file has another name" : network.error().message());
      continue;
    }
    auto entry = std::make_unique<Network>();
    entry->stored = *std::move(network);
    entry->autostart = config_.autostart(name);
    networks_.push_back(std::move(entry));
  }
  for (const std::string& name : TRY(run_.names()))
    if (Status loaded = load_live(name); !loaded) log_warning("network {}: {}", name, loaded.error().message());
  return {};
}

Status Networks::load_live(const std::string& name) {
  std::string text = TRY(run_.read(name));
  NetworkStatus status = TRY(parse_network_status(text));
  NetworkDefinition& live = status.network;
  // Cut off while it was started or stopped, or the host has been started anew: down it goes.
  if (!status.is_complete || (live.is_virtual() && !is_bridge(live.bridge))) {
    take_down_network(live, dnsmasq_of(name));
    return run_.remove(name);
  }
  Network* entry = by_name(name);
  if (!entry) entry = networks_.emplace_back(std::make_unique<Network>()).get();
  if (live.is_virtual() && needs_dnsmasq(live))
    if (Dnsmasq dnsmasq = dnsmasq_of(name); !dnsmasq.is_running())
      if (Status started = dnsmasq.start(live); !started)
        log_warning("network {}: {}", name, started.error().message());
  entry->live = std::move(live);
  entry->ports = std::move(status.ports);
  return {};
}

Networks::Network* Networks::by_uuid(const Uuid& uuid) {
  for (auto& network : networks_)
    if (network->any().uuid == uuid) return network.get();
  return nullptr;
}

Networks::Network* Networks::by_name(std::string_view name) {
  for (auto& network : networks_)
    if (network->any().name == name) return network.get();
  return nullptr;
}

Result<Networks::Network*> Networks::require(const Uuid& uuid) {
  Network* network = by_uuid(uuid);
  if (!network) return no_network_uuid(uuid);
  return network;
}

// --- looking

std::vector<Networks::State> Networks::list() const {
  Lock lock(mutex_);
  std::vector<State> states;
  for (const auto& network : networks_)
    states.push_back({network->ref(), network->live.has_value(), network->stored.has_value(), network->autostart});
  return states;
}

Result<NetworkRef> Networks::find(const std::string& name) const {
  Lock lock(mutex_);
  for (const auto& network : networks_)
    if (network->any().name == name) return network->ref();
  return no_network(name);
}

Result<NetworkRef> Networks::find(const Uuid& uuid) const {
  State found = TRY(state(uuid));
  return found.ref;
}

Result<Networks::State> Networks::state(const Uuid& uuid) const {
  Lock lock(mutex_);
  for (const auto& network : networks_)
    if (network->any().uuid == uuid)
      return State{network->ref(), network->live.has_value(), network->stored.has_value(), network->autostart};
  return no_network_uuid(uuid);
}

Result<std::string> Networks::xml(const Uuid& uuid, bool inactive) const {
  Lock lock(mutex_);
  auto found = std::ranges::find_if(networks_, [&](const auto& network) { return network->any().uuid == uuid; });
  if (found == networks_.end()) return no_network_uuid(uuid);
  const Network& network = **found;
  if (network.live && !(inactive && network.stored)) {
    xml::Element tree = network.live->tree;
    if (network.ports.empty()) return xml::write(tree);
    auto attributes = tree.attributes();
    attributes.insert(attributes.begin(), {"connections", std::to_string(network.ports.size())});
    tree.set_attributes(std::move(attributes));
    return xml::write(tree);
  }
  return xml::write(network.stored->tree);
}

Result<std::string> Networks::bridge_name(const Uuid& uuid) const {
  Lock lock(mutex_);
  for (const auto& network : networks_) {
    if (network->any().uuid != uuid) continue;
    if (network->any().bridge.empty())
      return refusal(Code::InternalError,
                     fmt::format("network '{}' does not have a bridge name.", network->any().name));
    return network->any().bridge;
  }
  return no_network_uuid(uuid);
}

Result<std::vector<Lease>> Networks::leases(const Uuid& uuid, const std::string& mac) const {
  State found = TRY(state(uuid));
  std::vector<Lease> leases = dnsmasq_of(found.ref.name).leases();
  i64 now = static_cast<i64>(::time(nullptr));
  std::erase_if(leases, [&](const Lease& lease) {
    return (lease.expires != 0 && lease.expires < now) || (!mac.empty() && !iequals(lease.mac, mac));
  });
  return leases;
}

// --- defining

Status Networks::choose_bridge(NetworkDefinition& network) {
  auto used = [&](const std::string& wanted) REQUIRES(mutex_) {
    return std::ranges::any_of(networks_, [&](const auto& other) {
      if (other->any().uuid == network.uuid) return false;
      return (other->stored && other->stored->bridge == wanted) || (other->live && other->live->bridge == wanted);
    });
  };
  if (!network.is_virtual()) return {};
  if (!network.bridge.empty()) {
    if (used(network.bridge))
      return refusal(Code::InternalError, fmt::format("bridge name '{}' already in use.", network.bridge));
    return {};
  }
  for (int number = 0; number < 10'000; ++number) {
    std::string name = fmt::format("virbr{}", number);
    if (used(name) || link_exists(name)) continue;
    network.bridge = name;
    xml::Element& bridge = *network.tree.child("bridge");
    auto attributes = bridge.attributes();
    std::erase_if(attributes, [](const auto& attribute) { return attribute.first == "name"; });
    attributes.insert(attributes.begin(), {"name", name});
    bridge.set_attributes(std::move(attributes));
    return {};
  }
  return refusal(Code::InternalError, "Bridge generation exceeded max id 10000");
}

Status Networks::check_new(NetworkDefinition& network, bool may_be_active) {
  if (Network* same = by_uuid(network.uuid)) {
    const std::string& name = same->any().name;
    if (name != network.name)
      return refusal(Code::OperationFailed,
                     fmt::format("network '{}' is already defined with uuid {}", name, format_uuid(network.uuid)));
    if (!may_be_active && same->live)
      return refusal(Code::OperationInvalid, fmt::format("network is already active as '{}'", name));
  } else if (Network* other = by_name(network.name)) {
    return refusal(Code::OperationFailed, fmt::format("network '{}' already exists with uuid {}", network.name,
                                                      format_uuid(other->any().uuid)));
  }
  return choose_bridge(network);
}

Result<NetworkRef> Networks::define(std::string_view text) {
  NetworkDefinition network = TRY(parse_network(text));
  Lock lock(mutex_);
  TRY(check_new(network, true));
  TRY(config_.write(network.name, xml::write(network.tree)));
  Network* entry = by_uuid(network.uuid);
  if (!entry) entry = networks_.emplace_back(std::make_unique<Network>()).get();
  entry->stored = std::move(network);
  events_.network_lifecycle(entry->ref(), kDefined, 0);
  return entry->ref();
}

Status Networks::undefine(const Uuid& uuid) {
  Lock lock(mutex_);
  Network* network = TRY(require(uuid));
  if (!network->stored) return refusal(Code::OperationInvalid, "can't undefine transient network");
  NetworkRef ref = network->ref();
  TRY(config_.remove(ref.name));
  network->autostart = false;
  if (network->live) {
    network->stored.reset();
  } else {
    dnsmasq_of(ref.name).forget();
    std::erase_if(networks_, [&](const auto& entry) { return entry.get() == network; });
  }
  events_.network_lifecycle(ref, kUndefined, 0);
  return {};
}

Status Networks::set_autostart(const Uuid& uuid, bool on) {
  Lock lock(mutex_);
  Network* network = TRY(require(uuid));
  if (!network->stored) return refusal(Code::OperationInvalid, "cannot set autostart for transient network");
  TRY(config_.set_autostart(network->stored->name, on));
  network->autostart = on;
  return {};
}

// --- starting and stopping

Status Networks::save_live(const Network& network, bool is_complete) const {
  return run_.write(network.live->name, network_status_text(*network.live, network.ports, is_complete));
}

Status Networks::begin(const Uuid& uuid) {
  NetworkDefinition network;
  {
    Lock lock(mutex_);
    Network* entry = TRY(require(uuid));
    if (entry->live) return refusal(Code::OperationInvalid, "network is already active");
    network = *entry->stored;
    if (network.is_virtual() && link_exists(network.bridge))
      return refusal(Code::InternalError,
                     fmt::format("Network bridge '{}' exists already on this host", network.bridge));
    TRY(run_.write(network.name, network_status_text(network, {}, false)));
  }
  if (Status up = bring_up_network(network, dnsmasq_of(network.name)); !up) {
    take_down_network(network, dnsmasq_of(network.name));
    (void)run_.remove(network.name);
    return up;
  }
  Lock lock(mutex_);
  Network* entry = by_uuid(uuid);
  if (!entry) entry = networks_.emplace_back(std::make_unique<Network>()).get();  // undefined meanwhile: transient now
  entry->live = std::move(network);
  entry->ports.clear();
  TRY(save_live(*entry, true));
  events_.network_lifecycle(entry->ref(), kStarted, 0);
  return {};
}

Status Networks::start(const Uuid& uuid) {
  Lock working(working_);
  return begin(uuid);
}

Result<NetworkRef> Networks::create_transient(std::string_view text) {
  NetworkDefinition network = TRY(parse_network(text));
  Lock working(working_);
  bool is_new = false;
  {
    Lock lock(mutex_);
    TRY(check_new(network, false));
    is_new = by_uuid(network.uuid) == nullptr;
    if (is_new) {
      auto entry = std::make_unique<Network>();
      entry->stored = network;  // until it runs
      networks_.push_back(std::move(entry));
    }
  }
  Status begun = begin(network.uuid);
  Lock lock(mutex_);
  Network* entry = by_uuid(network.uuid);
  if (is_new && entry) {
    if (entry->live)
      entry->stored.reset();
    else
      std::erase_if(networks_, [&](const auto& other) { return other.get() == entry; });
  }
  if (!begun) return begun.error();
  return NetworkRef{network.name, network.uuid};
}

Status Networks::destroy(const Uuid& uuid) {
  Lock working(working_);
  NetworkDefinition network;
  {
    Lock lock(mutex_);
    Network* entry = TRY(require(uuid));
    if (!entry->live) return not_active(entry->any().name);
    network = *entry->live;
    TRY(save_live(*entry, false));
  }
  take_down_network(network, dnsmasq_of(network.name));
  Lock lock(mutex_);
  TRY(run_.remove(network.name));
  Network* entry = TRY(require(uuid));
  entry->live.reset();
  entry->ports.clear();
  events_.network_lifecycle({network.name, network.uuid}, kStopped, 0);
  if (!entry->stored) std::erase_if(networks_, [&](const auto& other) { return other.get() == entry; });
  return {};
}

void Networks::start_marked() {
  for (const State& state : list()) {
    if (!state.autostart || state.active) continue;
    if (Status started = start(state.ref.uuid); !started)
      log_warning("network {} does not start: {}", state.ref.name, started.error().message());
  }
}

// --- changing

Status Networks::update(const Uuid& uuid, const Update& update) {
  Lock working(working_);
  std::optional<NetworkDefinition> live, stored, before;
  {
    Lock lock(mutex_);
    Network* network = TRY(require(uuid));
    bool to_live = update.live || (!update.config && network->live);
    bool to_config = update.config || (!update.live && !network->live);
    if (to_live && !network->live) return refusal(Code::OperationInvalid, "network is not running");
    if (to_config && !network->stored)
      return refusal(Code::OperationInvalid,
                     fmt::format("can't update the stored definition of transient network '{}'", network->any().name));
    if (to_live) live = before = network->live;
    if (to_config) stored = network->stored;
  }
  for (std::optional<NetworkDefinition>* definition : {&live, &stored}) {
    if (!*definition) continue;
    xml::Element tree = (*definition)->tree;
    TRY(update_tree(tree, update.command, update.section, update.parent_index, update.xml));
    *definition = TRY(read_network(tree));
  }
  if (live) TRY(change_network(*before, *live, dnsmasq_of(live->name)));
  Lock lock(mutex_);
  Network* network = TRY(require(uuid));
  if (stored) {
    TRY(config_.write(stored->name, xml::write(stored->tree)));
    network->stored = std::move(stored);
  }
  if (live) {
    network->live = std::move(live);
    TRY(save_live(*network, true));
  }
  return {};
}

}  // namespace atl::manage
