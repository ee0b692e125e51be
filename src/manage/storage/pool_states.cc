// Pools that start and stop, and what they hold.
#include <fmt/format.h>

#include "base/log.h"
#include "manage/storage/backend.h"
#include "manage/storage/pool_parts.h"
#include "manage/xml/write.h"

namespace atl::manage {

using storage::refusal;

Status Pools::scan(Pool& pool) {
  PoolDefinition definition = definition_of(pool);
  pool.record.load();
  FormatRecord before = pool.record;
  std::vector<Volume> volumes = TRY(scan_place(definition, pool.record));
  PlaceSizes sizes = TRY(measure_place(definition));
  if (!(pool.record == before)) TRY(pool.record.save());
  Lock lock(mutex_);
  pool.volumes = std::move(volumes);
  pool.capacity_bytes = sizes.capacity_bytes;
  pool.allocation_bytes = sizes.allocation_bytes;
  pool.available_bytes = sizes.available_bytes;
  pool.target = sizes.status;
  return {};
}

namespace {

Status check_build(const PoolDefinition& pool, Pools::BuildFlags flags) {
  if (flags.overwrite && flags.no_overwrite)
    return Error::received(Code::InvalidArg, Part::Storage,
                           "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE' are "
                           "mutually exclusive");
  if ((flags.overwrite || flags.no_overwrite) && pool.devices.empty())
    return refusal(Code::OperationInvalid,
                   fmt::format("No source device specified when formatting pool '{}'", pool.name));
  return {};
}

}  // namespace

Status Pools::begin(Pool& pool, BuildFlags flags) {
  PoolDefinition definition = definition_of(pool);
  TRY(check_build(definition, flags));
  if (flags.build || flags.overwrite || flags.no_overwrite)
    TRY(build_place(definition, flags.overwrite || flags.no_overwrite, flags.overwrite));
  TRY(open_place(definition));
  Status scanned = scan(pool);
  if (!scanned) {
    close_place(definition);
    return scanned;
  }
  TRY(run_.write(definition.name, xml::write(definition.tree)));
  Lock lock(mutex_);
  pool.active = true;
  events_.pool_lifecycle({definition.name, definition.uuid}, storage::kStarted, 0);
  return {};
}

Status Pools::start(const Uuid& uuid, BuildFlags flags) {
  PoolPtr pool = TRY(require(uuid));
  Lock work(pool->work);
  {
    Lock lock(mutex_);
    if (pool->active)
      return refusal(Code::OperationInvalid, fmt::format("storage pool '{}' is already active", pool->live.name));
  }
  return begin(*pool, flags);
}

Status Pools::build(const Uuid& uuid, BuildFlags flags) {
  PoolPtr pool = TRY(require(uuid));
  Lock work(pool->work);
  PoolRef ref;
  {
    Lock lock(mutex_);
    if (pool->active)
      return refusal(Code::OperationInvalid, fmt::format("storage pool '{}' is already active", pool->live.name));
    ref = {pool->live.name, uuid};
  }
  PoolDefinition definition = definition_of(*pool);
  TRY(check_build(definition, flags));
  TRY(build_place(definition, flags.overwrite || flags.no_overwrite, flags.overwrite));
  events_.pool_lifecycle(ref, storage::kCreated, 0);
  return {};
}

Status Pools::destroy(const Uuid& uuid) {
  PoolPtr pool = TRY(require_active(uuid));
  Lock work(pool->work);
  PoolDefinition definition = definition_of(*pool);
  close_place(definition);
  TRY(run_.remove(definition.name));
  Lock lock(mutex_);
  pool->active = false;
  pool->volumes.clear();
  if (pool->stored)
    pool->live = *pool->stored;
  else
    std::erase(pools_, pool);
  events_.pool_lifecycle({definition.name, uuid}, storage::kStopped, 0);
  return {};
}

Status Pools::erase(const Uuid& uuid) {
  PoolPtr pool = TRY(require(uuid));
  Lock work(pool->work);
  {
    Lock lock(mutex_);
    if (pool->active)
      return refusal(Code::OperationInvalid, fmt::format("storage pool '{}' is still active", pool->live.name));
  }
  PoolDefinition definition = definition_of(*pool);
  TRY(delete_place(definition));
  pool->record.forget();
  events_.pool_lifecycle({definition.name, uuid}, storage::kDeleted, 0);
  return {};
}

Status Pools::refresh(const Uuid& uuid) {
  PoolPtr pool = TRY(require_active(uuid));
  Lock work(pool->work);
  TRY(look_again(definition_of(*pool)));
  TRY(scan(*pool));
  Lock lock(mutex_);
  events_.pool_refresh({pool->live.name, uuid});
  return {};
}

void Pools::start_marked() {
  for (const State& state : list()) {
    if (!state.autostart || state.active) continue;
    if (Status started = start(state.ref.uuid, {}); !started)
      log_warning("storage pool {} does not start: {}", state.ref.name, started.error().message());
  }
}

}  // namespace atl::manage
