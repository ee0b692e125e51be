// The QEMU guest agent (qemu-ga, protocol in QEMU's docs/interop/qemu-ga.rst): JSON commands over the channel
// "org.qemu.guest_agent.0". Each command opens the channel's socket, makes sure that the answers are its own (guest-sync), asks, and
// closes it again. An agent is slow, absent or hostile: every wait ends, and answers have a bounded size.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "manage/domain/domain.h"

namespace atl::manage {

/// Seconds to wait for an answer, with libvirt's special values (virDomainAgentTimeoutValue).
inline constexpr i32 kAgentBlock = -2, kAgentDefault = -1, kAgentNoWait = 0;

/// What "return" holds. One command at a time, with the time that the domain gives its agent; without an agent AgentUnresponsive.
Result<nlohmann::json> ask_agent(Domain& domain, std::string_view command, const nlohmann::json& arguments);
/// Any command as a client wrote it; the whole reply.
Result<std::string> pass_to_agent(Domain& domain, const std::string& command, i32 seconds);
/// A command that ends or suspends the guest: it answers only when it fails.
Status tell_agent(Domain& domain, std::string_view command, const nlohmann::json& arguments);

}  // namespace atl::manage
