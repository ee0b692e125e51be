#include "manage/nwfilter/filters.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "manage/network/firewall.h"
#include "manage/nwfilter/stock_filters.h"

namespace atl::manage {
namespace {

Error refusal(Code code, std::string text) { return {code, std::move(text), Part::Nwfilter}; }
NwfilterRef ref_of(const Filter& filter) { return {filter.name, filter.uuid}; }
Error no_binding(const std::string& port) {
  return refusal(Code::NoNwfilterBinding, fmt::format("no nwfilter binding for port dev '{}'", port));
}

}  // namespace

Result<std::unique_ptr<Filters>> Filters::create(const Config& config) {
  StateFolder definitions = TRY(StateFolder::open(config.paths.config + "/nwfilter"));
  StateFolder bindings = TRY(StateFolder::open(config.paths.run + "/nwfilter-binding", ".xml", 0700, Flush::Never));
  std::unique_ptr<Filters> filters(new Filters(std::move(definitions), std::move(bindings)));
  for (Filter& filter : stock_filters()) filters->stock_.emplace(filter.name, std::move(filter));
  TRY(filters->load());
  return filters;
}

Status Filters::load() {
  Lock lock(mutex_);
  for (const std::string& name : TRY(definitions_.names())) {
    auto text = definitions_.read(name);
    auto filter = text ? parse_filter(*text) : Result<Filter>(text.error());
    if (filter && filter->name == name)
      stored_.emplace(name, *std::move(filter));
    else
      log_warning("network filter {} is left out: {}", name,
                  filter ? "its file has another name" : filter.error().message());
  }
  for (const std::string& port : TRY(binding_files_.names())) {
    auto text = binding_files_.read(port);
    auto binding = text ? parse_filter_binding(*text) : Result<FilterBinding>(text.error());
    if (binding && binding->port == port)
      bindings_.emplace(port, *std::move(binding));
    else
      log_warning("the filter of {} is left out", port);
  }
  return {};
}

// --- looking up

const Filter* Filters::by_name(const std::string& name) const {
  if (auto found = stored_.find(name); found != stored_.end()) return &found->second;
  auto found = stock_.find(name);
  return found == stock_.end() ? nullptr : &found->second;
}

Result<const Filter*> Filters::by_uuid(const Uuid& uuid) const {
  for (const auto* filters : {&stored_, &stock_})
    for (const auto& [name, filter] : *filters)
      if (filter.uuid == uuid && by_name(name) == &filter) return &filter;
  return refusal(Code::NoNwfilter, fmt::format("no nwfilter with matching uuid '{}'", format_uuid(uuid)));
}

FilterLookup Filters::lookup() const {
  return [this](const std::string& name) REQUIRES(mutex_) { return by_name(name); };
}

std::vector<NwfilterRef> Filters::list() const {
  Lock lock(mutex_);
  std::map<std::string, NwfilterRef> found;
  for (const auto* filters : {&stored_, &stock_})
    for (const auto& [name, filter] : *filters) found.emplace(name, ref_of(filter));
  std::vector<NwfilterRef> list;
  for (auto& [name, ref] : found) list.push_back(std::move(ref));
  return list;
}

Result<NwfilterRef> Filters::find(const std::string& name) const {
  Lock lock(mutex_);
  const Filter* filter = by_name(name);
  if (!filter) return no_nwfilter(name);
  return ref_of(*filter);
}

Result<NwfilterRef> Filters::find(const Uuid& uuid) const {
  Lock lock(mutex_);
  const Filter* filter = TRY(by_uuid(uuid));
  return ref_of(*filter);
}

Result<std::string> Filters::xml(const Uuid& uuid) const {
  Lock lock(mutex_);
  const Filter* filter = TRY(by_uuid(uuid));
  return filter_xml(*filter);
}

// --- defining

bool Filters::is_used(const std::string& name) const {
  return std::ranges::any_of(
      bindings_, [&](const auto& entry) REQUIRES(mutex_) { return filter_uses(entry.second.filter, name, lookup()); });
}

Status Filters::check_new(const Filter& filter) const {
  auto same = by_uuid(filter.uuid);
  if (same && (*same)->name != filter.name)
    return refusal(Code::OperationFailed,
                   fmt::format("filter with same UUID but different name ('{}') already exists", (*same)->name));
  const Filter* other = by_name(filter.name);
  if (other && other->uuid != filter.uuid)
    return refusal(Code::OperationFailed,
                   fmt::format("filter '{}' already exists with uuid {}", filter.name, format_uuid(other->uuid)));
  for (const auto& entry : filter.entries)
    if (const auto* reference = std::get_if<FilterReference>(&entry))
      if (filter_uses(reference->filter, filter.name, lookup()))
        return refusal(Code::OperationFailed, "filter would introduce a loop");
  return {};
}

Result<std::string> Filters::rules_with(const Filter& filter) const {
  FilterLookup known = lookup();
  FilterLookup changed = [&](const std::string& name) { return name == filter.name ? &filter : known(name); };
  std::string rules;
  for (const auto& [port, binding] : bindings_)
    if (filter_uses(binding.filter, filter.name, changed)) rules += TRY(binding_rules(binding, changed));
  return rules;
}

Result<NwfilterRef> Filters::define(std::string_view text) {
  Filter filter = TRY(parse_filter(text));
  Lock working(working_);
  std::string rules;
  {
    Lock lock(mutex_);
    TRY(check_new(filter));
    rules = TRY(rules_with(filter));
  }
  TRY(run_nft(rules));
  Lock lock(mutex_);
  TRY(definitions_.write(filter.name, filter_xml(filter)));
  NwfilterRef ref = ref_of(filter);
  stored_.insert_or_assign(ref.name, std::move(filter));
  return ref;
}

Status Filters::undefine(const Uuid& uuid) {
  Lock working(working_);
  Lock lock(mutex_);
  const std::string name = TRY(by_uuid(uuid))->name;
  if (!stored_.contains(name))
    return refusal(Code::OperationUnsupported, fmt::format("the stock filter '{}' cannot be undefined", name));
  if (is_used(name)) return refusal(Code::OperationInvalid, "nwfilter is in use");
  TRY(definitions_.remove(name));
  stored_.erase(name);
  return {};
}

// --- bindings

std::vector<FilterBinding> Filters::bindings() const {
  Lock lock(mutex_);
  std::vector<FilterBinding> list;
  for (const auto& [port, binding] : bindings_) list.push_back(binding);
  return list;
}

Result<FilterBinding> Filters::binding(const std::string& port) const {
  Lock lock(mutex_);
  auto found = bindings_.find(port);
  if (found == bindings_.end()) return no_binding(port);
  return found->second;
}

Status Filters::bind(const FilterBinding& binding) {
  TRY(check_port_name(binding.port));
  Lock working(working_);
  std::string rules;
  {
    Lock lock(mutex_);
    if (bindings_.contains(binding.port))
      return refusal(Code::OperationFailed, fmt::format("binding '{}' already exists", binding.port));
    rules = TRY(binding_rules(binding, lookup()));
  }
  TRY(run_nft(rules));
  Lock lock(mutex_);
  bindings_.emplace(binding.port, binding);
  return binding_files_.write(binding.port, filter_binding_xml(binding));
}

Status Filters::unbind(const std::string& port) {
  Lock working(working_);
  {
    Lock lock(mutex_);
    if (!bindings_.contains(port)) return no_binding(port);
  }
  TRY(run_nft(binding_removal(port)));
  Lock lock(mutex_);
  bindings_.erase(port);
  return binding_files_.remove(port);
}

void Filters::keep_bindings(const std::function<bool(const std::string&)>& alive) {
  for (const FilterBinding& binding : bindings())
    if (!alive(binding.port))
      if (Status gone = unbind(binding.port); !gone)
        log_warning("filter of {}: {}", binding.port, gone.error().message());
}

}  // namespace atl::manage
