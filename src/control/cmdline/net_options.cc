// -netdev, -nic, and the old -net with its cards and back ends.
#include <fmt/format.h>

#include "control/cmdline/handlers.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

/// The card's part of -nic and -net nic.
Result<NicRequest> take_nic(KeyValues& values, const OptionUse& use, const char* mac_key) {
  NicRequest nic{.origin = use};
  nic.model = values.take("model").value_or("");
  nic.mac = values.take(mac_key).value_or("");
  return nic;
}

std::string next_name(Builder& b) { return fmt::format("#net{}", b.generated_nics++); }

Result<std::string> add_backend(Builder& b, KeyValues values, std::string id) {
  // A generated name is not one that a user could give: "#net0".
  bool generated = id.empty();
  if (generated) id = next_name(b);
  values.set("id", generated ? "generated" : id);
  auto config = TRY(net_from_values(std::move(values)));
  config.id = id;
  auto name = [&](auto& options) {
    if constexpr (requires { options.id; }) options.id = id;
  };
  std::visit(name, config.options);
  b.config().networks.push_back(std::move(config));
  return id;
}

}  // namespace

Status option_netdev(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "type"));
  if (values.asks_help()) {
    b.line.text = "Available netdev backend types:\nsocket\nstream\ndgram\nhubport\ntap\nuser\nvhost-user\n";
    return {};
  }
  b.config().networks.push_back(TRY(net_from_values(std::move(values))));
  b.default_net = false;
  return {};
}

Status option_nic(Builder& b, const OptionUse& use) {
  b.default_net = false;
  KeyValues values = TRY(KeyValues::parse(use.value, "type"));
  if (values.get("model") == "help" || values.asks_help()) {
    b.line.text = "Available NIC models:\ne1000\ne1000e\nrtl8139\nvirtio-net-device\nvirtio-net-pci\n";
    return {};
  }
  if (values.get("type") == "none") {
    values.take("type");
    return values.expect_empty();
  }
  NicRequest nic = TRY(take_nic(values, use, "mac"));
  nic.id = values.take("id").value_or("");
  nic.backend = TRY(add_backend(b, std::move(values), ""));
  b.nics.push_back(std::move(nic));
  return {};
}

Status option_net(Builder& b, const OptionUse& use) {
  b.default_net = false;
  KeyValues values = TRY(KeyValues::parse(use.value, "type"));
  std::string type = values.get("type");
  u64 vlan = TRY(values.take_u64("vlan", 0, 1 << 16));
  if (type == "none") return {};
  if (type == "nic") {
    values.take("type");
    NicRequest nic = TRY(take_nic(values, use, "macaddr"));
    nic.backend = values.take("netdev").value_or("");
    nic.id = values.take("name").value_or("");
    nic.vlan = vlan;
    TRY(values.expect_empty());
    b.nics.push_back(std::move(nic));
    return {};
  }
  std::string name = values.take("name").value_or("");
  values.take("id");
  b.hub_ports.push_back({use, TRY(add_backend(b, std::move(values), name)), vlan});
  return {};
}

}  // namespace atl::control
