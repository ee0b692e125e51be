// Network cards: what they may carry (domiftune).
#include <algorithm>

#include <fmt/format.h>

#include "manage/domain/hotplug.h"
#include "manage/network/bandwidth.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

struct BandwidthParam {
  std::string_view name, element, attribute;  // KiB a second, KiB
};
constexpr BandwidthParam kBandwidthParams[] = {
    {"inbound.average", "inbound", "average"},   {"inbound.peak", "inbound", "peak"},   {"inbound.burst", "inbound", "burst"},
    {"inbound.floor", "inbound", "floor"},       {"outbound.average", "outbound", "average"}, {"outbound.peak", "outbound", "peak"},
    {"outbound.burst", "outbound", "burst"}};

/// By MAC address or by the name of its tap.
Result<Element*> find_card(Element& tree, const std::string& name) {
  for (Element* card : each(devices_of(tree), "interface"))
    if (iequals(at(*card, "mac", "address"), name) || (!name.empty() && at(*card, "target", "dev") == name)) return card;
  return invalid_arg(fmt::format("'{}' is not a known interface", name));
}

/// What the host can shape is a device of the host.
Status check_shapeable(const Element& card) {
  constexpr std::string_view kTypes[] = {"network", "bridge", "ethernet", "direct"};
  const std::string type = card.attribute("type");
  if (std::ranges::find(kTypes, type) != std::end(kTypes)) return {};
  return config_unsupported(fmt::format("setting bandwidth on interfaces of type '{}' is not implemented yet", type));
}

/// A direction without an average has no limit at all.
Status put_bandwidth(Element& card, const TypedParams& params) {
  TRY(check_shapeable(card));
  Element& bandwidth = ensure(card, "bandwidth");
  for (const auto& param : params) {
    auto known = std::ranges::find(kBandwidthParams, param.name, &BandwidthParam::name);
    if (known == std::end(kBandwidthParams)) return invalid_arg(fmt::format("parameter '{}' not supported", param.name));
    const auto value = integer_of(param);
    if (!value || *value < 0) return invalid_arg(fmt::format("invalid type for parameter '{}'", param.name));
    if (known->attribute == "floor" && *value) return config_unsupported("<inbound floor=''> is not supported");
    Element& direction = ensure(bandwidth, known->element);
    if (*value) direction.set(known->attribute, static_cast<u64>(*value));
    else direction.remove_attribute(known->attribute);
  }
  for (const char* direction : {"inbound", "outbound"})
    if (at(bandwidth, direction, "average").empty()) bandwidth.remove(direction);
  if (bandwidth.children().empty()) card.remove("bandwidth");
  return {};
}

/// Inbound is what the guest gets: what the host sends into the tap.
Status shape(const Element& card) {
  const Bandwidth wanted = TRY(read_bandwidth(card.child("bandwidth")));
  return apply_bandwidth(at(card, "target", "dev"), wanted.inbound, wanted.outbound);
}

Status set_bandwidth(Call& call) {
  std::string name;
  TypedParams params;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, params, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetInterfaceParameters"));
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  auto edit = [&](Element& tree) -> Status {
    Element* card = TRY(find_card(tree, name));
    TRY(put_bandwidth(*card, params));
    put_in_order(tree);
    return {};
  };
  if (impact.live) {
    Element tree = TRY(domain->current());
    TRY(edit(tree));
    const Element* card = TRY(find_card(tree, name));
    TRY(shape(*card));
    TRY(edit_live(call.daemon().domains(), *domain, edit));
  }
  return impact.config ? edit_config(call.daemon().domains(), *domain, edit) : Status();
}

Status get_bandwidth(Call& call) {
  std::string name;
  i32 asked = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, asked, flags));
  TRY(check_flags(flags, kAffect | kStringOkay, "virDomainGetInterfaceParameters"));
  Element tree = TRY(tree_for(*domain, flags & kAffect));
  TypedParams params;
  const Element* card = nullptr;
  if (asked) card = TRY(find_card(tree, name));
  for (const auto& param : kBandwidthParams) {
    const Element* bandwidth = card ? card->child("bandwidth") : nullptr;
    const u64 value = bandwidth ? number_at(*bandwidth, param.element, param.attribute).value_or(0) : 0;
    params.emplace_back(std::string(param.name), static_cast<u32>(value));
  }
  call.write_params(params, asked);
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_SET_INTERFACE_PARAMETERS, Access::Write, set_bandwidth},
    {Proc::DOMAIN_GET_INTERFACE_PARAMETERS, Access::Read, get_bandwidth},
};

}  // namespace

std::span<const Procedure> domain_card_rows() { return kRows; }

}  // namespace atl::manage
