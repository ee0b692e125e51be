#include "control/qmp/statistics.h"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace atl::control {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kProviders[] = {"kvm", "soft"};

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Status check_provider(const std::string& name) {
  if (std::ranges::find(kProviders, name) != std::end(kProviders)) return {};
  return invalid(fmt::format("Parameter 'provider' does not accept value '{}'", name));
}

/// What a filter asks for: nothing said is everything.
struct Wanted {
  std::optional<std::set<std::string>> names, cpus;
  bool provider = true;

  bool takes(const std::string& name) const { return !names || names->contains(name); }
  bool takes_cpu(const std::string& path) const { return !cpus || cpus->contains(path); }
};

Result<std::set<std::string>> strings_of(const Json& list, const char* name) {
  std::set<std::string> out;
  for (const Json& entry : list) {
    if (!entry.is_string()) return invalid(fmt::format("Invalid parameter type for '{}', expected: string", name));
    out.insert(entry.get<std::string>());
  }
  return out;
}

Status read_provider(const Json& entry, std::string_view accelerator, Wanted& wanted) {
  if (!entry.is_object() || !entry.contains("provider") || !entry["provider"].is_string()) return invalid("Parameter 'providers[].provider' is missing");
  TRY(check_provider(entry["provider"].get<std::string>()));
  if (entry["provider"] != accelerator) return {};
  wanted.provider = true;
  if (entry.contains("names") && entry["names"].is_array()) wanted.names = TRY(strings_of(entry["names"], "names"));
  return {};
}

Result<Wanted> read_filter(const Json& filter, std::string_view accelerator) {
  Wanted wanted;
  if (filter.contains("vcpus")) wanted.cpus = TRY(strings_of(filter["vcpus"], "vcpus"));
  if (!filter.contains("providers")) return wanted;
  wanted.provider = false;
  for (const Json& entry : filter["providers"]) TRY(read_provider(entry, accelerator, wanted));
  return wanted;
}

bool is_histogram(const Statistic& s) { return s.kind == Statistic::Kind::LinearHistogram || s.kind == Statistic::Kind::LogHistogram; }

Json value_json(const Statistic& s) {
  if (is_histogram(s)) return s.values;
  const u64 value = s.values.empty() ? 0 : s.values.front();
  return s.unit == Statistic::Unit::Boolean ? Json(value != 0) : Json(value);
}

/// One entry of query-stats; nothing if the filter takes nothing of it.
std::optional<Json> entry_json(std::string_view provider, const std::vector<Statistic>& list, const Wanted& wanted) {
  Json values = Json::array();
  for (const Statistic& s : list)
    if (wanted.takes(s.name)) values.push_back({{"name", s.name}, {"value", value_json(s)}});
  if (values.empty()) return std::nullopt;
  return Json{{"provider", provider}, {"stats", std::move(values)}};
}

Json form_json(const Statistic& s) {
  static constexpr std::string_view kKinds[] = {"cumulative", "instant", "peak", "linear-histogram", "log2-histogram"};
  static constexpr std::string_view kUnits[] = {"", "bytes", "seconds", "cycles", "boolean"};
  Json out = {{"name", s.name}, {"type", kKinds[static_cast<size_t>(s.kind)]}, {"exponent", s.exponent}};
  if (s.unit != Statistic::Unit::None) out["unit"] = kUnits[static_cast<size_t>(s.unit)];
  if (s.exponent) out["base"] = s.base;
  if (s.kind == Statistic::Kind::LinearHistogram) out["bucket-size"] = s.bucket_size;
  return out;
}

std::optional<Json> schema_json(std::string_view provider, std::string_view target, const std::vector<Statistic>& list) {
  if (list.empty()) return std::nullopt;
  Json forms = Json::array();
  for (const Statistic& s : list) forms.push_back(form_json(s));
  return Json{{"provider", provider}, {"target", target}, {"stats", std::move(forms)}};
}

void put(std::optional<Json> entry, Json& list) {
  if (entry) list.push_back(*std::move(entry));
}

}  // namespace

Result<Json> statistics_json(const machine::Machine& machine, const Json& filter) {
  const auto& target = filter["target"].get_ref<const std::string&>();
  if (target != "vm" && target != "vcpu") return invalid(fmt::format("Parameter 'target' does not accept value '{}'", target));
  if (target == "vm" && filter.contains("vcpus")) return invalid("Parameter 'vcpus' is unexpected");
  const Wanted wanted = TRY(read_filter(filter, machine.accelerator()));
  Json list = Json::array();
  if (!wanted.provider) return list;
  if (target == "vm") {
    put(entry_json(machine.accelerator(), machine.statistics({}), wanted), list);
    return list;
  }
  for (const auto& cpu : machine.cpus()) {
    const std::string path = fmt::format("/machine/unattached/device[{}]", cpu.index);
    auto entry = wanted.takes_cpu(path) ? entry_json(machine.accelerator(), machine.statistics(cpu.index), wanted) : std::nullopt;
    if (entry) (*entry)["qom-path"] = path;
    put(std::move(entry), list);
  }
  return list;
}

Result<Json> statistics_schemas_json(const machine::Machine& machine, const std::string& provider) {
  Json list = Json::array();
  if (!provider.empty()) TRY(check_provider(provider));
  if (!provider.empty() && provider != machine.accelerator()) return list;
  put(schema_json(machine.accelerator(), "vm", machine.statistics({})), list);
  if (!machine.cpus().empty()) put(schema_json(machine.accelerator(), "vcpu", machine.statistics(0u)), list);
  return list;
}

}  // namespace atl::control
