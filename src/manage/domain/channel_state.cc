#include "manage/domain/channel_state.h"

#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"

namespace atl::manage {

std::string set_channel_state(Element& tree, const std::string& alias, bool open) {
  for (Element* channel : each(devices_of(tree), "channel")) {
    Element* target = channel->child("target");
    if (!target || alias_of(*channel) != alias || target->attribute("type") != "virtio") continue;
    target->set("state", open ? "connected" : "disconnected");
    return target->attribute("name");
  }
  return {};
}

void set_channel_states(Element& tree, const nlohmann::json& chardevs) {
  constexpr std::string_view kPrefix = "char";
  for (const auto& chardev : chardevs)
    if (const std::string label = chardev.value("label", ""); label.starts_with(kPrefix))
      set_channel_state(tree, label.substr(kPrefix.size()), chardev.value("frontend-open", false));
}

void tell_of_agent(Events& events, const Domain& domain, const std::string& name, bool open, AgentReason reason) {
  constexpr i32 kConnected = 1, kDisconnected = 2;
  if (name == kAgentPort) events.domain(DomainEvent::AgentLifecycle, domain.ref(), open ? kConnected : kDisconnected, static_cast<i32>(reason));
}

void tell_of_agent_at_start(Events& events, const Domain& domain, const Element& tree) {
  for (const Element* channel : devices_of(tree).children("channel"))
    tell_of_agent(events, domain, at(*channel, "target", "name"), at(*channel, "target", "state") == "connected", AgentReason::DomainStarted);
}

}  // namespace atl::manage
