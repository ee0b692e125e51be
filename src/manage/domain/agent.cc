#include "manage/domain/agent.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/sockets.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kSecond_ns = 1'000'000'000;
constexpr u64 kSync_ns = 5 * kSecond_ns;
constexpr u64 kForever_ns = 3600 * kSecond_ns;  // "block" ends, too: a worker is not for ever
constexpr u64 kQuestion_ns = 10 * kSecond_ns;
constexpr size_t kMaxAnswerBytes = 64 * kMiB;
constexpr std::string_view kPort = "org.qemu.guest_agent.0";

Error unresponsive(std::string text) { return {Code::AgentUnresponsive, std::move(text)}; }

const Element* agent_port(const Element& tree) {
  for (const Element* channel : devices_of(tree).children("channel"))
    if (at(*channel, "target", "name") == kPort && channel->attribute("type") == "unix") return channel;
  return nullptr;
}

/// A conversation over the channel's socket, one line each way.
class Conversation {
 public:
  explicit Conversation(Fd fd) : fd_(std::move(fd)) {}

  Status say(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent > 0) text.remove_prefix(static_cast<size_t>(sent));
      else if (sent < 0 && errno == EAGAIN) TRY(await(POLLOUT, monotonic_ns() + kQuestion_ns));
      else if (sent < 0 && errno != EINTR) return unresponsive("QEMU guest agent is not available due to an error");
    }
    return {};
  }

  /// The next line that is JSON; what else there is, is left over from before.
  Result<Json> hear(u64 deadline_ns) {
    while (true) {
      const size_t end = input_.find('\n');
      if (end != std::string::npos) {
        std::string line = input_.substr(0, end);
        input_.erase(0, end + 1);
        line.erase(0, line.rfind('\xff') + 1);  // guest-sync-delimited's mark
        Json message = Json::parse(line, nullptr, false);
        if (message.is_object()) return message;
        continue;
      }
      TRY(await(POLLIN, deadline_ns));
      std::array<char, 16384> some;
      const ssize_t got = ::recv(fd_.get(), some.data(), some.size(), 0);
      if (got == 0) return unresponsive("QEMU guest agent is not available due to an error");
      if (got > 0) input_.append(some.data(), static_cast<size_t>(got));
      if (input_.size() > kMaxAnswerBytes) return unresponsive("the guest agent's answer is too long");
    }
  }

 private:
  Status await(short what, u64 deadline_ns) {
    const u64 now = monotonic_ns();
    if (now >= deadline_ns) return unresponsive("QEMU guest agent is not connected");
    pollfd poll{.fd = fd_.get(), .events = what, .revents = 0};
    const u64 ms = std::min<u64>((deadline_ns - now) / 1'000'000 + 1, 60'000);
    (void)::poll(&poll, 1, static_cast<int>(ms));
    return {};
  }

  Fd fd_;
  std::string input_;
};

/// Whether somebody in the guest has the port open; without, questions would lie there until somebody does.
Status check_open(const Domain& domain, const Element& port) {
  auto monitor = TRY(domain.monitor());
  const std::string label = "char" + at(port, "alias", "name");
  const Json chardevs = TRY(monitor->execute("query-chardev", Json::object(), kQuestion_ns));
  for (const Json& chardev : chardevs)
    if (chardev.value("label", "") == label && chardev.value("frontend-open", false)) return {};
  return unresponsive("QEMU guest agent is not connected");
}

Result<Conversation> connect_to_agent(const Domain& domain) {
  auto tree = domain.live();
  if (!tree) return operation_invalid("domain is not running");
  if (domain.facts().state.state != RunState::Running) return operation_invalid("domain is not running");
  const Element* port = agent_port(*tree);
  if (!port) return Error(Code::ArgumentUnsupported, "QEMU guest agent is not configured");
  TRY(check_open(domain, *port));
  const sockaddr_un address = TRY(unix_address(at(*port, "source", "path")));
  Fd fd = TRY(make_socket(AF_UNIX));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return unresponsive("QEMU guest agent is not connected");
  return Conversation(std::move(fd));
}

/// Answers to questions that nobody waits for any more may come first.
Status synchronise(Conversation& agent) {
  std::random_device random;
  const u64 id = random();
  const u64 deadline = monotonic_ns() + kSync_ns;
  TRY(agent.say(fmt::format("\xff{{\"execute\":\"guest-sync\",\"arguments\":{{\"id\":{}}}}}\n", id)));
  while (true) {
    const Json answer = TRY(agent.hear(deadline));
    if (auto value = answer.find("return"); value != answer.end() && value->is_number_integer() && value->get<u64>() == id) return {};
  }
}

u64 patience_ns(i32 seconds) {
  if (seconds == kAgentBlock) return kForever_ns;
  if (seconds == kAgentDefault) return 5 * kSecond_ns;
  return seconds == kAgentNoWait ? 0 : static_cast<u64>(seconds) * kSecond_ns;
}

Result<Json> converse(Domain& domain, const Json& question, i32 seconds) {
  auto turn = TRY(domain.begin_agent_job());
  Conversation agent = TRY(connect_to_agent(domain));
  TRY(synchronise(agent));
  TRY(agent.say(question.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"));
  return agent.hear(monotonic_ns() + patience_ns(seconds));
}

Error refusal(std::string_view command, const Json& answer) {
  const Json error = answer.value("error", Json::object());
  return internal_error(fmt::format("unable to execute QEMU agent command '{}': {}", command, error.value("desc", "unknown QEMU command error")));
}

Json question_of(std::string_view command, const Json& arguments) {
  Json question = {{"execute", command}};
  if (!arguments.empty()) question["arguments"] = arguments;
  return question;
}

}  // namespace

Result<Json> ask_agent(Domain& domain, std::string_view command, const Json& arguments) {
  const Json answer = TRY(converse(domain, question_of(command, arguments), domain.agent_timeout()));
  if (!answer.contains("return")) return refusal(command, answer);
  return answer["return"];
}

Result<std::string> pass_to_agent(Domain& domain, const std::string& command, i32 seconds) {
  const Json question = Json::parse(command, nullptr, false);
  if (!question.is_object()) TRY(connect_to_agent(domain));  // whether there is an agent is told first
  if (!question.is_object()) return internal_error(fmt::format("cannot parse json {}", command));
  const Json answer = TRY(converse(domain, question, seconds));
  if (!answer.contains("return")) return refusal(question.value("execute", ""), answer);
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status tell_agent(Domain& domain, std::string_view command, const Json& arguments) {
  auto turn = TRY(domain.begin_agent_job());
  Conversation agent = TRY(connect_to_agent(domain));
  TRY(synchronise(agent));
  TRY(agent.say(question_of(command, arguments).dump() + "\n"));
  constexpr u64 kRefusal_ns = 2 * kSecond_ns;
  auto answer = agent.hear(monotonic_ns() + kRefusal_ns);
  if (answer && answer->contains("error")) return refusal(command, *answer);
  return {};
}

}  // namespace atl::manage
