#include "manage/domain/definition.h"

#include <fmt/format.h>

#include "manage/domain/addresses.h"
#include "manage/domain/firmware.h"
#include "manage/xml/parse.h"

namespace atl::manage {

Result<Element> read_definition(std::string_view text, const DefinitionHost& host) {
  Element domain = TRY(xml::parse(text, "(domain_definition)", "domain"));
  drop_runtime(domain);
  TRY(check_firmware(domain));
  TRY(complete_definition(domain, host));
  name_variables(domain, host.state);
  put_in_order(domain);
  return domain;
}

Status complete_definition(Element& domain, const DefinitionHost& host) {
  TRY(check_support(domain));
  TRY(fill_defaults(domain));
  for (Element& device : devices_of(domain).content())
    if (!device.is_text()) TRY(fill_device_defaults(device, domain));
  add_implied_devices(domain, host);
  TRY(assign_addresses(domain));
  put_in_order(domain);
  return {};
}

Result<Element> read_device(std::string_view text, const Element& domain) {
  Element device = TRY(xml::parse(text, "(device_definition)"));
  if (device.name() == "domain") return config_unsupported("unknown device type 'domain'");
  Element probe("domain");
  probe.add("devices").add(device);
  drop_runtime(probe);
  TRY(check_support(probe));
  Element& inner = devices_of(probe).content().front();
  TRY(fill_device_defaults(inner, domain));
  return std::move(inner);
}

}  // namespace atl::manage
