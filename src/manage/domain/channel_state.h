// Who listens to a guest's virtio channels, as <target state=> tells, and what clients hear of the guest's agent.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "manage/domain/domain.h"
#include "manage/events.h"

namespace atl::manage {

inline constexpr std::string_view kAgentPort = "org.qemu.guest_agent.0";

/// virConnectDomainEventAgentLifecycleReason.
enum class AgentReason : i32 { Unknown = 0, DomainStarted = 1, Channel = 2 };

/// The name of the channel with this alias; "" if there is none.
std::string set_channel_state(Element& tree, const std::string& alias, bool open);
/// Of all channels, from the answer to query-chardev.
void set_channel_states(Element& tree, const nlohmann::json& chardevs);
/// Nothing unless `name` is the agent's.
void tell_of_agent(Events& events, const Domain& domain, const std::string& name, bool open, AgentReason reason);
/// At the start of a domain that has a channel for an agent.
void tell_of_agent_at_start(Events& events, const Domain& domain, const Element& tree);

}  // namespace atl::manage
