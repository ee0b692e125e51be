#include "manage/storage/pools.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "manage/storage/backend.h"
#include "manage/storage/images.h"
#include "manage/tool/run_tool.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

// virStoragePoolEventLifecycleType.
enum PoolEvent : i32 { kDefined = 0, kUndefined = 1, kStarted = 2, kStopped = 3, kCreated = 4, kDeleted = 5 };

Error refusal(Code code, std::string text) { return {code, std::move(text), Part::Storage}; }
Error not_active(const std::string& name) {
  return refusal(Code::OperationInvalid, fmt::format("storage pool '{}' is not active", name));
}
Error no_pool(const Uuid& uuid) {
  return refusal(Code::NoStoragePool, fmt::format("no storage pool with matching uuid '{}'", format_uuid(uuid)));
}
Error no_volume(const std::string& name) { return no_storage_vol(name); }

void set_permissions(const std::string& path, const Permissions& permissions) {
  bool failed = ::chmod(path.c_str(), permissions.mode.value_or(0600)) < 0;
  if (permissions.owner || permissions.group)
    failed |= ::chown(path.c_str(), permissions.owner.value_or(static_cast<uid_t>(-1)),
                      permissions.group.value_or(static_cast<gid_t>(-1))) < 0;
  if (failed) log_warning("permissions of {}: {}", path, std::strerror(errno));
}

std::string preallocation(const VolumeRequest& request, bool metadata) {
  if (request.format == "raw" && request.allocation_bytes && *request.allocation_bytes >= request.capacity_bytes &&
      request.capacity_bytes > 0)
    return "falloc";
  return metadata && request.format != "raw" ? "metadata" : "off";
}

/// Where the bytes of a folder's new volume are made, until they are complete.
class Unfinished {
 public:
  Unfinished(const std::string& folder, const std::string& volume)
      : path_(fmt::format("{}/{}", folder, unfinished_name(volume))), final_(fmt::format("{}/{}", folder, volume)) {}
  ~Unfinished() {
    if (!done_) ::unlink(path_.c_str());
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  const std::string& path() const { return path_; }
  /// Takes the final name, which must be free.
  Status finish() {
    Fd file = TRY(open_file(path_, O_RDONLY));
    if (::fsync(file.get()) < 0) return os_error("flush " + path_);
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, final_.c_str(), RENAME_NOREPLACE) < 0)
      return os_error("rename to " + final_);
    done_ = true;
    return sync_folder(final_.substr(0, final_.rfind('/')));
  }

 private:
  std::string path_, final_;
  bool done_ = false;
};

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
  if (shows_live) {
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
  events_.pool_lifecycle(ref, kDefined, 0);
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
  events_.pool_lifecycle({pool->live.name, uuid}, kUndefined, 0);
  return {};
}

Status Pools::set_autostart(const Uuid& uuid, bool on) {
  Lock lock(mutex_);
  PoolPtr pool = by_uuid(uuid);
  if (!pool) return no_pool(uuid);
  if (!pool->stored) return refusal(Code::OperationInvalid, "pool has no config file");
  TRY(config_.set_autostart(pool->live.name, on));
  pool->autostart = on;
  return {};
}

// --- up and down

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

Status Pools::begin(Pool& pool, BuildFlags flags) {
  PoolDefinition definition = definition_of(pool);
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
  events_.pool_lifecycle({definition.name, definition.uuid}, kStarted, 0);
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
  TRY(build_place(definition_of(*pool), flags.overwrite || flags.no_overwrite, flags.overwrite));
  events_.pool_lifecycle(ref, kCreated, 0);
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
  events_.pool_lifecycle({definition.name, uuid}, kStopped, 0);
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
  events_.pool_lifecycle({definition.name, uuid}, kDeleted, 0);
  return {};
}

Status Pools::refresh(const Uuid& uuid) {
  PoolPtr pool = TRY(require_active(uuid));
  Lock work(pool->work);
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

// --- volumes

Result<std::vector<Volume>> Pools::volumes(const Uuid& uuid) const {
  PoolPtr pool = TRY(require_active(uuid));
  Lock lock(mutex_);
  return pool->volumes;
}

Result<Pools::Found> Pools::volume(const std::string& pool_name, const std::string& name) const {
  PoolPtr pool = TRY(require_active(pool_name));
  Lock lock(mutex_);
  for (const Volume& volume : pool->volumes)
    if (volume.name == name) return Found{{pool->live.name, pool->live.uuid}, volume};
  return no_volume(name);
}

Result<Pools::Found> Pools::volume_by_path(const std::string& path) const {
  Lock lock(mutex_);
  for (const PoolPtr& pool : pools_)
    for (const Volume& volume : pool->volumes)
      if (volume.path == path) return Found{{pool->live.name, pool->live.uuid}, volume};
  return refusal(Code::NoStorageVol, fmt::format("no storage vol with matching path '{}'", path));
}

Result<Pools::Found> Pools::locate(const VolumeRef& ref) const {
  if (!ref.pool.empty()) return volume(ref.pool, ref.name);
  return volume_by_path(ref.key);
}

void Pools::put_volume(Pool& pool, Volume volume) {
  Lock lock(mutex_);
  std::erase_if(pool.volumes, [&](const Volume& old) { return old.name == volume.name; });
  auto place = std::ranges::lower_bound(pool.volumes, volume.name, {}, &Volume::name);
  pool.volumes.insert(place, std::move(volume));
}

Result<Pools::Found> Pools::fresh_volume(const VolumeRef& ref) {
  Found found = TRY(locate(ref));
  PoolPtr pool = TRY(require_active(found.pool.uuid));
  if (found.volume.type != VolumeType::File) return found;
  // Looking needs no turn: a copy of the record is as good as the record.
  FormatRecord record(records_, found.pool.name);
  record.set(found.volume.name, {found.volume.status.st_ino, found.volume.format, found.volume.secret});
  found.volume = TRY(read_volume_file(definition_of(*pool).path, found.volume.name, record));
  put_volume(*pool, found.volume);
  return found;
}

Result<Volume> Pools::make_volume(Pool& pool, const VolumeRequest& request, const Volume* source, CreateFlags flags) {
  PoolDefinition definition = definition_of(pool);
  Unfinished unfinished(definition.path, request.name);
  ImageRequest image{unfinished.path(), driver_of_format(request.format), request.capacity_bytes,
                     preallocation(request, flags.preallocate_metadata)};
  image.compat = request.compat;
  image.cluster_bytes = request.cluster_bytes;
  image.lazy_refcounts = request.lazy_refcounts;
  image.nocow = request.nocow;
  image.backing_path = request.backing_path;
  image.backing_format = request.backing_format.empty() ? "raw" : driver_of_format(request.backing_format);
  if (request.is_encrypted) image.passphrase = TRY(find_secret_(*request.secret));
  if (!image.backing_path.empty() && image.capacity_bytes == 0)
    image.capacity_bytes = TRY(inspect_image(image.backing_path, image.backing_format)).capacity_bytes;
  TRY(create_image(image));
  if (source) TRY(copy_image(source->path, driver_of_format(source->format), image.path, image.format));
  set_permissions(image.path, request.permissions);
  struct stat status;
  if (::stat(image.path.c_str(), &status) < 0) return os_error("stat " + image.path);
  pool.record.set(request.name, {status.st_ino, request.format, request.secret});
  TRY(pool.record.save());  // first: a file without a record would be looked at
  TRY(unfinished.finish());
  return read_volume_file(definition.path, request.name, pool.record);
}

Result<VolumeRef> Pools::add_volume(const Uuid& uuid, std::string_view text, const VolumeRef* source_ref,
                                    CreateFlags flags) {
  PoolPtr pool = TRY(require_active(uuid));
  PoolDefinition definition = definition_of(*pool);
  VolumeRequest request = TRY(parse_volume(text, definition.type));
  std::optional<Found> source;
  if (source_ref) {
    source = TRY(locate(*source_ref));
    request.capacity_bytes = std::max(request.capacity_bytes, source->volume.capacity_bytes);
    if (source->volume.is_encrypted || request.is_encrypted)
      return refusal(Code::OperationUnsupported, "encrypted volumes cannot be cloned");
  }
  Lock work(pool->work);
  if (auto there = volume(definition.name, request.name))
    return refusal(Code::StorageVolExist, fmt::format("'{}'", request.name));
  if (definition.type == PoolType::Logical) {
    if (source_ref || !request.backing_path.empty() || request.is_encrypted)
      return refusal(Code::OperationUnsupported,
                     "logical volumes are made without source, backing store or encryption");
    TRY(run_tool_checked({.words = {"lvcreate", "-y", "-n", request.name, "-L",
                                    fmt::format("{}K", (request.capacity_bytes + 1023) / 1024), definition.source_name},
                          .input = {}}));
    TRY(scan(*pool));
    return TRY(volume(definition.name, request.name)).ref();
  }
  Volume made = TRY(make_volume(*pool, request, source ? &source->volume : nullptr, flags));
  VolumeRef ref{definition.name, made.name, made.path};
  put_volume(*pool, std::move(made));
  auto sizes = measure_place(definition);
  Lock lock(mutex_);
  if (sizes) pool->allocation_bytes = sizes->allocation_bytes, pool->available_bytes = sizes->available_bytes;
  return ref;
}

Result<VolumeRef> Pools::create_volume(const Uuid& pool, std::string_view text, CreateFlags flags) {
  return add_volume(pool, text, nullptr, flags);
}

Result<VolumeRef> Pools::clone_volume(const Uuid& pool, std::string_view text, const VolumeRef& source,
                                      CreateFlags flags) {
  return add_volume(pool, text, &source, flags);
}

Status Pools::delete_volume(const VolumeRef& ref) {
  Found found = TRY(locate(ref));
  PoolPtr pool = TRY(require_active(found.pool.uuid));
  Lock work(pool->work);
  const Volume& volume = found.volume;
  if (volume.type == VolumeType::Block) {
    TRY(run_tool_checked({.words = {"lvremove", "-f", volume.path}, .input = {}}));
  } else {
    int failed = volume.type == VolumeType::Dir ? ::rmdir(volume.path.c_str()) : ::unlink(volume.path.c_str());
    if (failed && errno != ENOENT)
      return refusal(Code::SystemError, fmt::format("cannot unlink file '{}': {}", volume.path, std::strerror(errno)));
    pool->record.erase(volume.name);
    TRY(pool->record.save());
  }
  Lock lock(mutex_);
  std::erase_if(pool->volumes, [&](const Volume& old) { return old.name == volume.name; });
  return {};
}

Status Pools::resize_volume(const VolumeRef& ref, u64 bytes, ResizeFlags flags) {
  Found found = TRY(fresh_volume(ref));
  PoolPtr pool = TRY(require_active(found.pool.uuid));
  Lock work(pool->work);
  const Volume& volume = found.volume;
  if (volume.type != VolumeType::File) return refusal(Code::NoSupport, "only volumes that are files can be resized");
  u64 now = volume.capacity_bytes, wanted = bytes;
  bool overflows = flags.delta && !flags.shrink && __builtin_add_overflow(now, bytes, &wanted);
  if (flags.delta && flags.shrink) wanted = now - std::min(now, bytes);
  if (overflows || wanted > INT64_MAX) return refusal(Code::Overflow, "the new capacity is too large");
  if (wanted < now && !flags.shrink)
    return refusal(Code::InvalidArg,
                   "Can't shrink capacity below current capacity unless shrink flag explicitly specified");
  TRY(resize_image(volume.path, driver_of_format(volume.format), wanted, flags.allocate));
  FormatRecord record(records_, found.pool.name);
  record.set(volume.name, {volume.status.st_ino, volume.format, volume.secret});
  put_volume(*pool, TRY(read_volume_file(definition_of(*pool).path, volume.name, record)));
  return {};
}

Status Pools::wipe_volume(const VolumeRef& ref) {
  Found found = TRY(fresh_volume(ref));
  PoolPtr pool = TRY(require_active(found.pool.uuid));
  Lock work(pool->work);
  const Volume& volume = found.volume;
  if (volume.type == VolumeType::Dir) return refusal(Code::NoSupport, "a folder cannot be wiped");
  Fd file = TRY(open_file(volume.path, O_WRONLY));
  bool sparse = volume.type == VolumeType::File && volume.allocation_bytes < volume.physical_bytes;
  if (sparse) {
    if (::ftruncate(file.get(), 0) < 0 || ::ftruncate(file.get(), static_cast<off_t>(volume.physical_bytes)) < 0)
      return os_error("truncate " + volume.path);
  } else {
    std::vector<u8> zeroes(1 << 20);
    for (u64 left = volume.physical_bytes; left > 0;) {
      size_t count = static_cast<size_t>(std::min<u64>(left, zeroes.size()));
      TRY(write_all(file, std::span<const u8>(zeroes).first(count)));
      left -= count;
    }
  }
  if (::fsync(file.get()) < 0) return os_error("flush " + volume.path);
  return {};
}

}  // namespace atl::manage
