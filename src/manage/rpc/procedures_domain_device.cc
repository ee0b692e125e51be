// Devices that come and go: attach, detach, update, live and in the stored definition.
#include <algorithm>

#include <fmt/format.h>

#include "manage/domain/addresses.h"
#include "manage/domain/hotplug.h"
#include "manage/rpc/domain_rows.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

/// What attach, detach and update have in common: a domain, a device's XML, and which parts of the domain it is about.
struct DeviceCall {
  DomainPtr domain;
  std::string text;
  u32 flags = 0;
};

Result<DeviceCall> read_device_call(Call& call, bool has_flags, std::string_view function) {
  DeviceCall device;
  device.domain = TRY(has_flags ? read_domain(call, device.text, device.flags) : read_domain(call, device.text));
  if (!has_flags) device.flags = kAffectLive;
  constexpr u32 kForce = 4;
  TRY(check_flags(device.flags, kAffect | kForce, function));
  return device;
}

using ConfigEdit = Status (*)(Element& tree, const Element& device);
using LiveEdit = Status (*)(Domains& domains, Domain& domain, Element device);

Status add_to_config(Element& tree, const Element& device) {
  TRY(check_no_clash(tree, device));
  insert_device(tree, device);
  return {};
}

Status remove_from_config(Element& tree, const Element& device) {
  const Element* found = find_device(tree, device);
  if (!found) return missing_device(device);
  devices_of(tree).content().remove_if([&](const Element& other) { return &other == found; });
  return {};
}

Status replace_in_config(Element& tree, const Element& device) {
  Element* found = const_cast<Element*>(find_device(tree, device));
  if (!found && device.name() == "disk") return invalid_arg(fmt::format("target {} doesn't exist.", at(device, "target", "dev")));
  if (!found) return missing_device(device);
  Element next = device;
  if (!next.child("address") && found->child("address")) next.add(*found->child("address"));
  *found = std::move(next);
  return {};
}

Status change_device(Call& call, const DeviceCall& request, ConfigEdit edit, LiveEdit live) {
  Domain& domain = *request.domain;
  Domains& domains = call.daemon().domains();
  auto job = TRY(domain.begin_job());
  const Impact impact = TRY(impact_of(domain, request.flags));
  Element config;
  if (impact.config) {
    config = TRY(domain.config());
    const Element device = TRY(read_device(request.text, config));
    TRY(edit(config, device));
    TRY(complete_definition(config, domains.definition_host()));
  }
  if (impact.live) {
    const Element tree = TRY(domain.current());
    Element device = TRY(read_device(request.text, tree));
    TRY(live(domains, domain, std::move(device)));
  }
  return impact.config ? domains.store(domain, config) : Status();
}

Status attach(Call& call) { return change_device(call, TRY(read_device_call(call, false, "virDomainAttachDevice")), add_to_config, attach_live); }
Status detach(Call& call) { return change_device(call, TRY(read_device_call(call, false, "virDomainDetachDevice")), remove_from_config, detach_live); }
Status attach_flags(Call& call) {
  return change_device(call, TRY(read_device_call(call, true, "virDomainAttachDeviceFlags")), add_to_config, attach_live);
}
Status detach_flags(Call& call) {
  return change_device(call, TRY(read_device_call(call, true, "virDomainDetachDeviceFlags")), remove_from_config, detach_live);
}
Status update_flags(Call& call) {
  return change_device(call, TRY(read_device_call(call, true, "virDomainUpdateDeviceFlags")), replace_in_config, update_live);
}

Result<const Element*> device_with_alias(const Element& tree, const std::string& alias) {
  for (const Element* device : devices_of(tree).children())
    if (at(*device, "alias", "name") == alias) return device;
  return internal_error(fmt::format("no device found with alias {}", alias));
}

Status remove_alias(Element& tree, const std::string& alias) {
  const Element* found = TRY(device_with_alias(tree, alias));
  devices_of(tree).content().remove_if([&](const Element& other) { return &other == found; });
  return {};
}

Status detach_alias(Call& call) {
  std::string alias;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, alias, flags));
  TRY(check_flags(flags, kAffect, "virDomainDetachDeviceAlias"));
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  Domains& domains = call.daemon().domains();
  if (impact.config) TRY(edit_config(domains, *domain, [&](Element& config) { return remove_alias(config, alias); }));
  if (!impact.live) return {};
  const Element tree = TRY(domain->current());
  return detach_live(domains, *domain, *TRY(device_with_alias(tree, alias)));
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_ATTACH_DEVICE, Access::Write, attach},
    {Proc::DOMAIN_DETACH_DEVICE, Access::Write, detach},
    {Proc::DOMAIN_ATTACH_DEVICE_FLAGS, Access::Write, attach_flags},
    {Proc::DOMAIN_DETACH_DEVICE_FLAGS, Access::Write, detach_flags},
    {Proc::DOMAIN_UPDATE_DEVICE_FLAGS, Access::Write, update_flags},
    {Proc::DOMAIN_DETACH_DEVICE_ALIAS, Access::Write, detach_alias},
};

}  // namespace

std::span<const Procedure> domain_device_rows() { return kRows; }

}  // namespace atl::manage
