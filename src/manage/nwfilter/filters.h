// All network filters of the host, and the cards that they guard.
//
// The stock filters are always there; one may be replaced by a definition of its name and uuid, and comes back when
// that is undefined. Definitions lie in the config folder, bindings in the run folder: like the rules in the kernel
// they outlive the daemon.
//
// Any thread. One lock over the tables; another, `working_`, over changes of rules in the kernel.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/config.h"
#include "manage/nwfilter/binding.h"
#include "manage/nwfilter/ruleset.h"
#include "manage/rpc/objects.h"
#include "manage/store/state_folder.h"

namespace atl::manage {

class Filters {
 public:
  static Result<std::unique_ptr<Filters>> create(const Config& config);

  /// By name.
  std::vector<NwfilterRef> list() const;
  Result<NwfilterRef> find(const std::string& name) const;
  Result<NwfilterRef> find(const Uuid& uuid) const;
  Result<std::string> xml(const Uuid& uuid) const;
  /// Cards that use the filter get their new rules before it returns; if those cannot be made, nothing changes.
  Result<NwfilterRef> define(std::string_view xml);
  Status undefine(const Uuid& uuid);

  std::vector<FilterBinding> bindings() const;
  Result<FilterBinding> binding(const std::string& port) const;
  /// The rules are in place when it returns.
  Status bind(const FilterBinding& binding);
  Status unbind(const std::string& port);
  /// Says after a restart of the daemon which ports exist still: the other bindings go.
  void keep_bindings(const std::function<bool(const std::string& port)>& alive);

 private:
  Filters(StateFolder definitions, StateFolder bindings)
      : definitions_(std::move(definitions)), binding_files_(std::move(bindings)) {}
  Status load() EXCLUDES(mutex_);
  const Filter* by_name(const std::string& name) const REQUIRES(mutex_);
  Result<const Filter*> by_uuid(const Uuid& uuid) const REQUIRES(mutex_);
  bool is_used(const std::string& name) const REQUIRES(mutex_);
  Status check_new(const Filter& filter) const REQUIRES(mutex_);
  FilterLookup lookup() const REQUIRES(mutex_);
  /// The rules of all cards that `filter` guards, were it as it is.
  Result<std::string> rules_with(const Filter& filter) const REQUIRES(mutex_);

  const StateFolder definitions_, binding_files_;
  std::map<std::string, Filter> stock_;  // never changes
  Mutex working_;
  mutable Mutex mutex_;
  std::map<std::string, Filter> stored_ GUARDED_BY(mutex_);
  std::map<std::string, FilterBinding> bindings_ GUARDED_BY(mutex_);
};

}  // namespace atl::manage
