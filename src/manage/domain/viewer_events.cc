#include "manage/domain/viewer_events.h"

#include <nlohmann/json.hpp>

namespace atl::manage {
namespace {

using Json = nlohmann::json;

struct Endpoint {
  i32 family = 0;  // virDomainEventGraphicsAddressType
  std::string node, service;
  static constexpr auto kFields = std::tuple{&Endpoint::family, &Endpoint::node, &Endpoint::service};
};

/// Who a viewer has proved to be.
struct Identity {
  std::string type, name;
  static constexpr auto kFields = std::tuple{&Identity::type, &Identity::name};
};

Json part(const Json& data, const char* key) {
  auto found = data.is_object() ? data.find(key) : data.end();
  return data.is_object() && found != data.end() && found->is_object() ? *found : Json::object();
}

std::string text(const Json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Endpoint endpoint(const Json& end) {
  const std::string family = text(end, "family");
  return {family == "ipv6" ? 1 : family == "unix" ? 2 : 0, text(end, "host"), text(end, "service")};
}

}  // namespace

void tell_of_viewer(Events& events, const Domain& domain, const Json& data, ViewerPhase phase) {
  const Json server = part(data, "server"), client = part(data, "client");
  std::vector<Identity> subject;
  if (const std::string name = text(client, "x509_dname"); !name.empty()) subject.push_back({"x509dname", name});
  if (const std::string name = text(client, "sasl_username"); !name.empty()) subject.push_back({"saslUsername", name});
  events.domain(DomainEvent::Graphics, domain.ref(), static_cast<i32>(phase), endpoint(server), endpoint(client), text(server, "auth"), subject);
}

}  // namespace atl::manage
