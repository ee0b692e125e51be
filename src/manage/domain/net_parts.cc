// Network cards and their back ends.
#include <fmt/format.h>

#include "manage/domain/aliases.h"
#include "manage/domain/vm_parts.h"

namespace atl::manage {

Result<OptionList> net_backend(const Element& card, const Handed& handed) {
  const std::string alias = alias_of(card);
  if (card.attribute("type") == "user") {
    OptionList backend("type", "user");
    for (const Element* ip : card.children("ip"))
      if (ip->attribute("family") != "ipv6") backend.set("net", fmt::format("{}/{}", ip->attribute("address"), ip->has_attribute("prefix") ? ip->attribute("prefix") : "24"));
    return backend.set("id", "host" + alias);
  }
  OptionList backend("type", "tap");
  auto tap = handed.taps.find(alias);
  if (tap != handed.taps.end()) backend.set("fd", tap->second);
  else backend.set_if("ifname", at(card, "target", "dev"));
  return backend.set("id", "host" + alias);
}

Result<OptionList> net_device(const Element& domain, const Element& card, u64 boot_index) {
  const std::string model = at(card, "model", "type");
  OptionList device("driver", model == "virtio" ? virtio_name(domain, "virtio-net") : model);
  device.set("netdev", "host" + alias_of(card)).set("id", alias_of(card)).set("mac", at(card, "mac", "address"));
  if (model == "virtio") device.set_if("host_mtu", at(card, "mtu", "size"));
  if (const std::string queues = at(card, "driver", "queues"); !queues.empty() && queues != "1")
    return config_unsupported("network cards with more than one queue are not supported by atoll-vmm");
  // Both directions have rings of one size here.
  const std::string rx = at(card, "driver", "rx_queue_size"), tx = at(card, "driver", "tx_queue_size");
  device.set_if("rx_queue_size", rx.empty() ? tx : rx);
  device.set_if("tx_queue_size", tx.empty() ? rx : tx);
  if (at(card, "rom", "bar") == "off" || at(card, "rom", "enabled") == "no") device.set("rombar", "0");
  if (boot_index) device.set("bootindex", boot_index);
  set_bus_address(device, domain, card);
  return device;
}

}  // namespace atl::manage
