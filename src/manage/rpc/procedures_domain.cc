// Procedures on domains: the tables of the files procedures_domain_*.cc in one, and what they share.
#include "manage/rpc/procedure.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "manage/rpc/domain_rows.h"

namespace atl::manage {

std::span<const Procedure> domain_procedures() {
  static const std::vector<Procedure> kAll = [] {
    std::vector<Procedure> rows;
    for (auto part : {domain_lookup_rows(), domain_define_rows(), domain_life_rows(), domain_query_rows(), domain_stats_rows(), domain_device_rows(),
                      domain_block_rows(), domain_tuning_rows(), domain_limit_rows(), domain_card_rows(), domain_dump_rows(),
                      domain_absent_rows(), domain_console_rows(), domain_agent_rows(), domain_iothread_rows()})
      rows.insert(rows.end(), part.begin(), part.end());
    return rows;
  }();
  return kAll;
}

std::optional<i64> integer_of(const TypedParam& param) {
  return std::visit(
      [](const auto& value) -> std::optional<i64> {
        if constexpr (std::is_integral_v<std::decay_t<decltype(value)>>) return static_cast<i64>(value);
        else return std::nullopt;
      },
      param.value);
}

Result<Impact> impact_of(const Domain& domain, u32 flags) {
  const DomainFacts facts = domain.facts();
  Impact impact{.live = (flags & kAffectLive) != 0, .config = (flags & kAffectConfig) != 0};
  if (!impact.live && !impact.config) (facts.active() ? impact.live : impact.config) = true;
  if (impact.live && !facts.active()) return operation_invalid("domain is not running");
  if (impact.config && !facts.persistent) return operation_invalid("transient domains do not have any persistent config");
  return impact;
}

Result<Element> tree_for(const Domain& domain, u32 flags) {
  const Impact impact = TRY(impact_of(domain, flags));
  return impact.config ? domain.config() : domain.current();
}

Status edit_config(Domains& domains, Domain& domain, const std::function<Status(Element&)>& edit) {
  Element tree = TRY(domain.config());
  TRY(edit(tree));
  TRY(complete_definition(tree, domains.definition_host()));
  return domains.store(domain, tree);
}

Status edit_live(Domains& domains, Domain& domain, const std::function<Status(Element&)>& edit) {
  auto live = domain.live();
  if (!live) return operation_invalid("domain is not running");
  Element tree = *live;
  TRY(edit(tree));
  domain.set_live(std::move(tree));
  domains.save_status(domain);
  return {};
}

Result<nlohmann::json> ask(const Domain& domain, std::string_view command, nlohmann::json arguments) {
  constexpr u64 kPatience_ns = 30'000'000'000;
  auto monitor = TRY(domain.monitor());
  return monitor->execute(command, std::move(arguments), kPatience_ns);
}

}  // namespace atl::manage
