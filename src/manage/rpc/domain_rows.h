// What the files procedures_domain_*.cc share: their tables, and the ways to name a domain and what of it a call is about.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "manage/daemon.h"
#include "manage/domain/domains.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {

std::span<const Procedure> domain_lookup_rows();
std::span<const Procedure> domain_define_rows();
std::span<const Procedure> domain_life_rows();
std::span<const Procedure> domain_query_rows();
std::span<const Procedure> domain_stats_rows();
std::span<const Procedure> domain_device_rows();
std::span<const Procedure> domain_block_rows();
std::span<const Procedure> domain_tuning_rows();
std::span<const Procedure> domain_limit_rows();
std::span<const Procedure> domain_card_rows();
std::span<const Procedure> domain_dump_rows();
std::span<const Procedure> domain_absent_rows();
std::span<const Procedure> domain_console_rows();
std::span<const Procedure> domain_agent_rows();
std::span<const Procedure> domain_iothread_rows();

/// Decodes the domain that a call begins with, and what follows.
template <class... T>
Result<DomainPtr> read_domain(Call& call, T&... rest) {
  DomainRef ref;
  TRY(call.read(ref, rest...));
  return call.daemon().domains().find(ref.uuid);
}

/// VIR_DOMAIN_AFFECT_*.
inline constexpr u32 kAffectLive = 1, kAffectConfig = 2, kAffect = 3;
/// Strings in typed parameters, which clients announce in nearly every call.
inline constexpr u32 kStringOkay = 4;

/// VIR_DOMAIN_MEMORY_PARAM_UNLIMITED.
inline constexpr u64 kUnlimitedKib = 9'007'199'254'740'991;

/// Of a typed parameter that holds any kind of integer.
std::optional<i64> integer_of(const TypedParam& param);

struct Impact {
  bool live = false, config = false;
};
/// What of a domain a call changes; an error if there is no such part.
Result<Impact> impact_of(const Domain& domain, u32 flags);
/// The tree that a query is about.
Result<Element> tree_for(const Domain& domain, u32 flags);
/// Whether a domain is among those that the bits of virConnectListAllDomains ask for.
bool passes_filter(const DomainFacts& facts, u32 flags);

/// Changes the stored definition: completes and checks it again.
Status edit_config(Domains& domains, Domain& domain, const std::function<Status(Element&)>& edit);
/// Changes the tree of what runs.
Status edit_live(Domains& domains, Domain& domain, const std::function<Status(Element&)>& edit);

/// The answer of a monitor command; 30 seconds.
Result<nlohmann::json> ask(const Domain& domain, std::string_view command, nlohmann::json arguments);

}  // namespace atl::manage
