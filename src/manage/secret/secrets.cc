#include "manage/secret/secrets.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "manage/xml/errors.h"
#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

enum SecretEvent : i32 { kDefined = 0, kUndefined = 1 };
constexpr size_t kLongestValue = 65536;

struct Usage {
  std::string_view name, element;  // of the child that holds the usage's id
};
constexpr Usage kUsages[] = {{"none", ""},        {"volume", "volume"}, {"ceph", "name"},
                             {"iscsi", "target"}, {"tls", "name"},      {"vtpm", "name"}};

Error refusal(Code code, std::string text) { return {code, std::move(text), Part::Secret}; }

Status read_usage(const Element* usage, SecretRef& ref) {
  if (!usage) return {};
  std::string type = TRY(xml::required_attribute(*usage, "type"));
  auto found = std::ranges::find(kUsages, type, &Usage::name);
  if (found == std::end(kUsages))
    return refusal(Code::ConfigUnsupported, fmt::format("unknown secret usage type {}", type));
  ref.usage_type = static_cast<i32>(found - std::begin(kUsages));
  if (ref.usage_type) ref.usage_id = TRY(xml::required_text(*usage, found->element));
  return {};
}

}  // namespace

Result<Secrets::Secret> Secrets::parse(std::string_view text) {
  Element element = TRY(xml::parse(text, "(definition_of_secret)", "secret"));
  Secret secret;
  secret.ref.uuid = TRY(xml::uuid_child(element));
  secret.is_ephemeral = TRY(xml::yes_no(element, "ephemeral", false));
  secret.is_private = TRY(xml::yes_no(element, "private", false));
  TRY(read_usage(element.child("usage"), secret.ref));
  Element tree("secret");
  tree.set("ephemeral", secret.is_ephemeral ? "yes" : "no").set("private", secret.is_private ? "yes" : "no");
  tree.add("uuid", format_uuid(secret.ref.uuid));
  for (const char* name : {"description", "usage"})
    if (const Element* child = element.child(name)) tree.add(*child);
  secret.tree = std::move(tree);
  return secret;
}

Result<std::unique_ptr<Secrets>> Secrets::create(const Config& config, Events& events) {
  StateFolder definitions = TRY(StateFolder::open(config.paths.config + "/secrets"));
  StateFolder values = TRY(StateFolder::open(config.paths.config + "/secrets", ".value"));
  std::unique_ptr<Secrets> secrets(new Secrets(events, std::move(definitions), std::move(values)));
  Lock lock(secrets->mutex_);
  for (const std::string& name : TRY(secrets->definitions_.names())) {
    auto text = secrets->definitions_.read(name);
    auto secret = text ? parse(*text) : Result<Secret>(text.error());
    if (!secret || format_uuid(secret->ref.uuid) != name) {
      log_warning("secret {} is left out", name);
      continue;
    }
    if (secrets->values_.contains(name)) secret->value = TRY(secrets->values_.read(name));
    secrets->secrets_.emplace(secret->ref.uuid, *std::move(secret));
  }
  return secrets;
}

Result<const Secrets::Secret*> Secrets::require(const Uuid& uuid) const {
  auto found = secrets_.find(uuid);
  if (found == secrets_.end()) return no_secret(format_uuid(uuid));
  return &found->second;
}

std::vector<Secrets::State> Secrets::list() const {
  Lock lock(mutex_);
  std::vector<State> states;
  for (const auto& [uuid, secret] : secrets_) states.push_back({secret.ref, secret.is_ephemeral, secret.is_private});
  return states;
}

Result<SecretRef> Secrets::find(const Uuid& uuid) const {
  Lock lock(mutex_);
  const Secret* secret = TRY(require(uuid));
  return secret->ref;
}

Result<SecretRef> Secrets::find_usage(i32 type, const std::string& id) const {
  Lock lock(mutex_);
  for (const auto& [uuid, secret] : secrets_)
    if (secret.ref.usage_type == type && secret.ref.usage_id == id) return secret.ref;
  return refusal(Code::NoSecret, fmt::format("no secret with matching usage '{}'", id));
}

Result<SecretRef> Secrets::define(std::string_view text) {
  Secret secret = TRY(parse(text));
  Lock lock(mutex_);
  for (const auto& [uuid, other] : secrets_)
    if (secret.ref.usage_type && uuid != secret.ref.uuid && other.ref.usage_type == secret.ref.usage_type &&
        other.ref.usage_id == secret.ref.usage_id)
      return refusal(Code::InternalError, fmt::format("a secret with UUID {} already defined for use with {}",
                                                      format_uuid(uuid), secret.ref.usage_id));
  auto old = secrets_.find(secret.ref.uuid);
  if (old != secrets_.end()) {
    if (old->second.ref.usage_type != secret.ref.usage_type || old->second.ref.usage_id != secret.ref.usage_id)
      return refusal(Code::InternalError, fmt::format("a secret with UUID {} is already defined for use with {}",
                                                      format_uuid(secret.ref.uuid), old->second.ref.usage_id));
    if (old->second.is_private && !secret.is_private)
      return refusal(Code::OperationDenied, "cannot change private flag on existing secret");
    secret.value = old->second.value;
  }
  std::string name = format_uuid(secret.ref.uuid);
  if (secret.is_ephemeral) {
    TRY(values_.remove(name));
    TRY(definitions_.remove(name));
  } else {
    TRY(definitions_.write(name, xml::write(secret.tree)));
    if (secret.value) TRY(values_.write(name, *secret.value));
  }
  SecretRef ref = secret.ref;
  secrets_[ref.uuid] = std::move(secret);
  events_.secret_lifecycle(ref, kDefined, 0);
  return ref;
}

Status Secrets::undefine(const Uuid& uuid) {
  Lock lock(mutex_);
  const Secret* secret = TRY(require(uuid));
  SecretRef ref = secret->ref;
  TRY(values_.remove(format_uuid(uuid)));
  TRY(definitions_.remove(format_uuid(uuid)));
  secrets_.erase(uuid);
  events_.secret_lifecycle(ref, kUndefined, 0);
  return {};
}

Result<std::string> Secrets::xml(const Uuid& uuid) const {
  Lock lock(mutex_);
  const Secret* secret = TRY(require(uuid));
  return xml::write(secret->tree);
}

Status Secrets::set_value(const Uuid& uuid, std::string value) {
  if (value.size() > kLongestValue) return invalid_arg("the secret's value is too long");
  Lock lock(mutex_);
  TRY(require(uuid));
  Secret& secret = secrets_[uuid];
  if (!secret.is_ephemeral) TRY(values_.write(format_uuid(uuid), value));
  secret.value = std::move(value);
  events_.secret_value_changed(secret.ref);
  return {};
}

Result<std::string> Secrets::value_of(const Uuid& uuid, bool for_use) const {
  Lock lock(mutex_);
  const Secret* secret = TRY(require(uuid));
  if (secret->is_private && !for_use) return refusal(Code::InvalidSecret, "secret is private");
  if (!secret->value)
    return refusal(Code::NoSecret, fmt::format("secret '{}' does not have a value", format_uuid(uuid)));
  return *secret->value;
}

Result<std::string> Secrets::value(const Uuid& uuid) const { return value_of(uuid, false); }
Result<std::string> Secrets::value_for_use(const Uuid& uuid) const { return value_of(uuid, true); }

}  // namespace atl::manage
