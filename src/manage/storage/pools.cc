#include "manage/storage/pools.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "manage/storage/pool_parts.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using storage::refusal;

Error not_active(const std::string& name) {
  return refusal(Code::OperationInvalid, fmt::format("storage pool '{}' is not active", name));
}
Error no_pool(const Uuid& uuid) {
  return refusal(Code::NoStoragePool, fmt::format("no storage pool with matching uuid '{}'", format_uuid(uuid)));
}

}  // namespace

Pools::Pools(Events& events, StateFolder config, StateFolder run, StateFolder records, FindSecret find_secret)
    : events_(events),
      config_(std::move(config)),
      run_(std::move(run)),
      records_(std::move(records)),
      find_secret_(std::move(find_secret)) {}

Result<std::unique_ptr<Pools>> Pools::create(const Config& config, Events& events, FindSecret find_secret) {
  StateFolder stored = TRY(StateFolder::open(config.paths.config + "/storage"));
  StateFolder run = TRY(StateFolder::open(config.paths.run + "/storage", ".xml", 0700, Flush::Never));
  StateFolder records = TRY(StateFolder::open(config.paths.state + "/formats"));
  std::unique_ptr<Pools> pools(
      new Pools(events, std::move(stored), std::move(run), std::move(records), std::move(find_secret)));
  TRY(pools->load());
  return pools;
}

Status Pools::load() {
  for (const std::string& name : TRY(config_.names())) {
    auto text = config_.read(name);
    auto definition = text ? parse_pool(*text) : Result<PoolDefinition>(text.error());
    if (!definition || definition->name != name) {
      log_warning("storage pool {} is left out: {}", name,
                  definition ? "its file has another name" : definition.error().message());
      continue;
    }
    auto pool = std::make_shared<Pool>(*definition, records_);
    pool->stored = *std::move(definition);
    pool->autostart = config_.autostart(name);
    Lock lock(mutex_);
    pools_.push_back(std::move(pool));
  }
  for (const std::string& name : TRY(run_.names())) {
    auto text = run_.read(name);
    auto definition = text ? parse_pool(*text) : Result<PoolDefinition>(text.error());
    if (!definition) continue;
    PoolPtr pool;
    {
      Lock lock(mutex_);
      pool = by_name(name);
      if (!pool) pool = pools_.emplace_back(std::make_shared<Pool>(*definition, records_));
      pool->live = *std::move(definition);
    }
    Lock work(pool->work);
    if (Status begun = begin(*pool, {}); begun) continue;
    (void)run_.remove(name);  // its place went away while no daemon ran
    Lock lock(mutex_);
    if (!pool->stored) std::erase(pools_, pool);
  }
  return {};
}

Pools::PoolPtr Pools::by_uuid(const Uuid& uuid) const {
  for (const PoolPtr& pool : pools_)
    if (pool->live.uuid == uuid) return pool;
  return nullptr;
}

Pools::PoolPtr Pools::by_name(std::string_view name) const {
  for (const PoolPtr& pool : pools_)
    if (pool->live.name == name) return pool;
  return nullptr;
}

Result<Pools::PoolPtr> Pools::require(const Uuid& uuid) const {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  return pool;
}

Result<Pools::PoolPtr> Pools::require_active(const Uuid& uuid) const {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  if (!pool->active) return not_active(pool->live.name);
  return pool;
}

Result<Pools::PoolPtr> Pools::require_active(const std::string& name) const {
  Lock lock(mutex_);
  PoolPtr pool = by_name(name);
  if (!pool) return no_storage_pool(name);
  if (!pool->active) return not_active(name);
  return pool;
}

PoolDefinition Pools::definition_of(const Pool& pool) const {
  Lock lock(mutex_);
  return pool.live;
}

// --- looking

Pools::State Pools::state_of(const Pool& pool) const {
  State state{{pool.live.name, pool.live.uuid}, pool.live.type, pool.active, pool.stored.has_value(), pool.autostart};
  if (!pool.active) return state;
  state.capacity_bytes = pool.capacity_bytes;
  state.allocation_bytes = pool.allocation_bytes;
  state.available_bytes = pool.available_bytes;
  state.volumes = pool.volumes.size();
  return state;
}

std::vector<Pools::State> Pools::list() const {
  Lock lock(mutex_);
  std::vector<State> states;
  for (const PoolPtr& pool : pools_) states.push_back(state_of(*pool));
  return states;
}

Result<Pools::State> Pools::state(const Uuid& uuid) const {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  return state_of(*pool);
}

Result<PoolRef> Pools::find(const std::string& name) const {
  Lock lock(mutex_);
  PoolPtr pool = by_name(name);
  if (!pool) return no_storage_pool(name);
  return PoolRef{pool->live.name, pool->live.uuid};
}

Result<PoolRef> Pools::find_by_path(const std::string& path) const {
  Lock lock(mutex_);
  for (const PoolPtr& pool : pools_)
    if (pool->active && pool->live.path == path) return PoolRef{pool->live.name, pool->live.uuid};
  return refusal(Code::NoStoragePool, fmt::format("no storage pool with matching target path '{}'", path));
}

Result<std::string> Pools::xml(const Uuid& uuid, bool inactive) const {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  bool shows_live = pool->active && !(inactive && pool->stored);
  xml::Element tree("pool");
  const PoolDefinition& definition = shows_live ? pool->live : *pool->stored;
  tree.set_attributes(definition.tree.attributes());
  State state = state_of(*pool);
  for (const xml::Element& child : definition.tree.content()) {
    if (child.name() == "source") {
      tree.add("capacity", state.capacity_bytes).set("unit", "bytes");
      tree.add("allocation", state.allocation_bytes).set("unit", "bytes");
      tree.add("available", state.available_bytes).set("unit", "bytes");
    }
    tree.add(child);
  }
  if (pool->active) {
    xml::Element& target = *tree.child("target");
    target.remove("permissions");
    xml::Element& permissions = target.add("permissions");
    permissions.add("mode", fmt::format("0{:o}", pool->target.st_mode & 07777));
    permissions.add("owner", u64{pool->target.st_uid});
    permissions.add("group", u64{pool->target.st_gid});
  }
  return xml::write(tree);
}

// --- defining

Status Pools::check_new(const PoolDefinition& pool) const {
  PoolPtr same = by_uuid(pool.uuid), named = by_name(pool.name);
  if (same && same->live.name != pool.name)
    return refusal(Code::OperationFailed,
                   fmt::format("pool '{}' is already defined with uuid {}", same->live.name, format_uuid(pool.uuid)));
  if (!same && named)
    return refusal(Code::OperationFailed,
                   fmt::format("pool '{}' already exists with uuid {}", pool.name, format_uuid(named->live.uuid)));
  for (const PoolPtr& other : pools_)
    if (other != same && other->live.path == pool.path)
      return refusal(Code::OperationFailed, fmt::format("Storage source conflict with pool: '{}'", other->live.name));
  return {};
}

Result<PoolRef> Pools::define(std::string_view text) {
  PoolDefinition definition = TRY(parse_pool(text));
  PoolRef ref{definition.name, definition.uuid};
  Lock lock(mutex_);
  TRY(check_new(definition));
  TRY(config_.write(definition.name, xml::write(definition.tree)));
  PoolPtr pool = by_uuid(definition.uuid);
  if (!pool) pool = pools_.emplace_back(std::make_shared<Pool>(definition, records_));
  if (!pool->active) pool->live = definition;
  pool->stored = std::move(definition);
  events_.pool_lifecycle(ref, storage::kDefined, 0);
  return ref;
}

Result<PoolRef> Pools::create_transient(std::string_view text, BuildFlags flags) {
  PoolDefinition definition = TRY(parse_pool(text));
  PoolRef ref{definition.name, definition.uuid};
  PoolPtr pool;
  {
    Lock lock(mutex_);
    TRY(check_new(definition));
    pool = by_uuid(definition.uuid);
    if (pool && pool->active)
      return refusal(Code::OperationInvalid, fmt::format("pool is already active as '{}'", definition.name));
    if (!pool) pool = pools_.emplace_back(std::make_shared<Pool>(definition, records_));
    pool->live = std::move(definition);
  }
  Lock work(pool->work);
  Status begun = begin(*pool, flags);
  if (begun) return ref;
  Lock lock(mutex_);
  if (!pool->stored) std::erase(pools_, pool);
  return begun.error();
}

Status Pools::undefine(const Uuid& uuid) {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  if (pool->active)
    return refusal(Code::OperationInvalid, fmt::format("storage pool '{}' is still active", pool->live.name));
  TRY(config_.remove(pool->live.name));
  std::erase(pools_, pool);
  events_.pool_lifecycle({pool->live.name, uuid}, storage::kUndefined, 0);
  return {};
}

Status Pools::set_autostart(const Uuid& uuid, bool on) {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  if (!pool->stored) return refusal(Code::InternalError, "pool has no config file");
  TRY(config_.set_autostart(pool->live.name, on));
  pool->autostart = on;
  return {};
}

}  // namespace atl::manage
