#include "manage/daemon.h"

#include "manage/network/card_plug.h"
#include "manage/uuid.h"

namespace atl::manage {

Result<std::unique_ptr<Daemon>> Daemon::create(Loop& loop, const Config& config) {
  std::unique_ptr<Daemon> daemon(new Daemon(loop, config));
  daemon->host_ = TRY(host::Host::create(config));
  daemon->networks_ = TRY(Networks::create(config, daemon->events_));
  daemon->filters_ = TRY(Filters::create(config));
  daemon->secrets_ = TRY(Secrets::create(config, daemon->events_));
  auto find_secret = [secrets = daemon->secrets_.get()](const Uuid& uuid) { return secrets->value_for_use(uuid); };
  daemon->pools_ = TRY(Pools::create(config, daemon->events_, find_secret));
  daemon->networks_->start_marked();
  daemon->pools_->start_marked();
  daemon->domains_ = TRY(Domains::create(daemon->events_, config));
  daemon->connect_domains();
  daemon->domains_->start_marked();
  return daemon;
}

void Daemon::connect_domains() {
  NetworkPlugs plugs;
  plugs.plug = [this](const xml::Element& card, const DomainRef& domain) -> Result<PluggedTap> {
    Plug plug = TRY(plug_card({*networks_, *filters_}, card, domain));
    return PluggedTap{std::move(plug.tap.fd), std::move(plug.tap.name)};
  };
  plugs.unplug = [this](const xml::Element& card) { unplug_card({*networks_, *filters_}, card); };
  domains_->set_network_plugs(std::move(plugs));
  domains_->set_volume_paths([this](const std::string& pool, const std::string& volume) -> Result<std::string> {
    Pools::Found found = TRY(pools_->volume(pool, volume));
    return found.volume.path;
  });
  domains_->set_secret_values([this](const xml::Element& secret) -> Result<std::string> {
    if (auto uuid = parse_uuid(secret.attribute("uuid"))) return secrets_->value_for_use(*uuid);
    const auto usage = static_cast<i32>(SecretUsage::Volume);
    return secrets_->value_for_use(TRY(secrets_->find_usage(usage, secret.attribute("usage"))).uuid);
  });
  filters_->keep_bindings(link_exists);
  networks_->keep_ports(link_exists);  // taps of VMs that ended while no daemon ran are gone
}

Daemon::~Daemon() = default;

}  // namespace atl::manage
