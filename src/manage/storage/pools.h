// All storage pools of the host and their volumes.
//
// A volume's file gets its name when it is complete: a daemon that is killed while it creates or clones leaves nothing
// (what is left under the temporary name goes at the next refresh). Formats are recorded (volumes.h), never guessed
// twice.
//
// Any thread. `mutex_` guards the tables. Each pool has a lock of its own for work on its content, taken before
// `mutex_`, so that lists and lookups never wait for a long copy.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/config.h"
#include "manage/events.h"
#include "manage/rpc/objects.h"
#include "manage/rpc/stream.h"
#include "manage/storage/definition.h"
#include "manage/storage/volumes.h"
#include "manage/store/state_folder.h"

namespace atl::manage {

class Pools {
 public:
  /// A secret's value, for encrypted volumes.
  using FindSecret = std::function<Result<std::string>(const Uuid&)>;
  static Result<std::unique_ptr<Pools>> create(const Config& config, Events& events, FindSecret find_secret);

  struct State {
    PoolRef ref;
    PoolType type = PoolType::Dir;
    bool active = false, persistent = false, autostart = false;
    u64 capacity_bytes = 0, allocation_bytes = 0, available_bytes = 0;
    size_t volumes = 0;
  };
  std::vector<State> list() const;
  Result<State> state(const Uuid& uuid) const;
  Result<PoolRef> find(const std::string& name) const;
  Result<PoolRef> find_by_path(const std::string& path) const;
  Result<PoolRef> define(std::string_view xml);
  struct BuildFlags {
    bool build = false, overwrite = false, no_overwrite = false;
  };
  Result<PoolRef> create_transient(std::string_view xml, BuildFlags flags);
  Status undefine(const Uuid& uuid);
  Status start(const Uuid& uuid, BuildFlags flags);
  Status build(const Uuid& uuid, BuildFlags flags);
  Status destroy(const Uuid& uuid);
  /// Removes what build made.
  Status erase(const Uuid& uuid);
  Status refresh(const Uuid& uuid);
  Status set_autostart(const Uuid& uuid, bool on);
  Result<std::string> xml(const Uuid& uuid, bool inactive) const;
  void start_marked();

  // Volumes. A key is a path.
  Result<std::vector<Volume>> volumes(const Uuid& uuid) const;
  struct Found {
    PoolRef pool;
    Volume volume;
    VolumeRef ref() const { return {pool.name, volume.name, volume.path}; }
  };
  Result<Found> volume(const std::string& pool, const std::string& name) const;
  Result<Found> volume_by_path(const std::string& path) const;
  /// As it is now on the disk.
  Result<Found> fresh_volume(const VolumeRef& ref);
  struct CreateFlags {
    bool preallocate_metadata = false;
    bool reflink = false;  // of clones: share blocks with the source, or fail
  };
  Result<VolumeRef> create_volume(const Uuid& pool, std::string_view xml, CreateFlags flags);
  /// With the content of another volume.
  Result<VolumeRef> clone_volume(const Uuid& pool, std::string_view xml, const VolumeRef& source, CreateFlags flags);
  Status delete_volume(const VolumeRef& ref);
  struct ResizeFlags {
    bool allocate = false, delta = false, shrink = false;
  };
  Status resize_volume(const VolumeRef& ref, u64 bytes, ResizeFlags flags);
  /// Overwrites everything, so that what was there cannot be read; see wipe.h for the algorithms.
  Status wipe_volume(const VolumeRef& ref, u32 algorithm);
  Result<std::unique_ptr<StreamJob>> upload(const VolumeRef& ref, u64 offset, u64 length);
  Result<std::unique_ptr<StreamJob>> download(const VolumeRef& ref, u64 offset, u64 length, bool sparse);

 private:
  struct Pool {
    Pool(PoolDefinition d, const StateFolder& records) : live(d), record(records, d.name) {}
    Mutex work;                            // before mutex_ of Pools
    std::optional<PoolDefinition> stored;  // guarded by mutex_, like what follows
    PoolDefinition live;                   // while active; else as stored
    bool active = false, autostart = false;
    u64 capacity_bytes = 0, allocation_bytes = 0, available_bytes = 0;
    struct stat target{};
    std::vector<Volume> volumes;
    FormatRecord record;  // guarded by work
  };
  using PoolPtr = std::shared_ptr<Pool>;

  Pools(Events& events, StateFolder config, StateFolder run, StateFolder records, FindSecret find_secret);
  Status load();
  PoolPtr by_uuid(const Uuid& uuid) const REQUIRES(mutex_);
  PoolPtr by_name(std::string_view name) const REQUIRES(mutex_);
  Result<PoolPtr> require(const Uuid& uuid) const EXCLUDES(mutex_);
  Result<PoolPtr> require_active(const Uuid& uuid) const EXCLUDES(mutex_);
  Result<PoolPtr> require_active(const std::string& name) const EXCLUDES(mutex_);
  Status check_new(const PoolDefinition& pool) const REQUIRES(mutex_);
  State state_of(const Pool& pool) const REQUIRES(mutex_);
  Status begin(Pool& pool, BuildFlags flags) REQUIRES(pool.work) EXCLUDES(mutex_);
  Status scan(Pool& pool) REQUIRES(pool.work) EXCLUDES(mutex_);
  Result<Found> locate(const VolumeRef& ref) const EXCLUDES(mutex_);
  Result<Volume> make_folder_volume(Pool& pool, const VolumeRequest& request) REQUIRES(pool.work) EXCLUDES(mutex_);
  Result<Volume> make_volume(Pool& pool, const VolumeRequest& request, const Volume* source, CreateFlags flags)
      REQUIRES(pool.work) EXCLUDES(mutex_);
  Result<VolumeRef> add_block_volume(Pool& pool, const VolumeRequest& request) REQUIRES(pool.work) EXCLUDES(mutex_);
  Result<VolumeRef> add_volume(const Uuid& pool, std::string_view xml, const VolumeRef* source, CreateFlags flags);
  void put_volume(Pool& pool, Volume volume) EXCLUDES(mutex_);
  PoolDefinition definition_of(const Pool& pool) const EXCLUDES(mutex_);

  Events& events_;
  const StateFolder config_, run_, records_;
  const FindSecret find_secret_;
  mutable Mutex mutex_;
  std::vector<PoolPtr> pools_ GUARDED_BY(mutex_);
};

/// What kinds of pools we have, as virConnectGetStoragePoolCapabilities tells.
std::string pool_capabilities();

}  // namespace atl::manage
