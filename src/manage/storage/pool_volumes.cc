// Volumes of pools: lookups, creation, deletion, sizes.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/fd.h"
#include "base/log.h"
#include "manage/storage/backend.h"
#include "manage/storage/images.h"
#include "manage/storage/pool_parts.h"
#include "manage/storage/wipe.h"

namespace atl::manage {

using storage::refusal;

namespace {

void set_permissions(const std::string& path, const Permissions& permissions) {
  bool failed = ::chmod(path.c_str(), permissions.mode.value_or(0600)) < 0;
  if (permissions.owner || permissions.group)
    failed |= ::chown(path.c_str(), permissions.owner.value_or(static_cast<uid_t>(-1)),
                      permissions.group.value_or(static_cast<gid_t>(-1))) < 0;
  if (failed) log_warning("permissions of {}: {}", path, std::strerror(errno));
}

/// Plain bytes, for which no image is made.
bool is_plain(const VolumeRequest& request) {
  return driver_of_format(request.format) == "raw" && !request.nocow && !request.is_encrypted;
}

Status make_file(const ImageRequest& image, const VolumeRequest& request) {
  if (!is_plain(request)) return create_image(image);
  return create_raw_file(image.path, image.capacity_bytes, request.allocation_bytes.value_or(0));
}

Status fill_from(const Volume& source, const ImageRequest& image, Pools::CreateFlags flags) {
  if (!flags.reflink) return copy_image(source.path, driver_of_format(source.format), image.path, image.format);
  if (driver_of_format(source.format) != "raw" || image.format != "raw")
    return refusal(Code::OperationUnsupported, "only raw volumes can share their blocks");
  return share_blocks(source.path, image.path);
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
  return no_storage_vol(name);
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
                     flags.preallocate_metadata ? "metadata" : "off"};
  image.compat = request.compat;
  image.cluster_bytes = request.cluster_bytes;
  image.lazy_refcounts = request.lazy_refcounts;
  image.nocow = request.nocow;
  image.backing_path = request.backing_path;
  image.backing_format = request.backing_format.empty() ? "raw" : driver_of_format(request.backing_format);
  if (request.is_encrypted) image.passphrase = TRY(find_secret_(*request.secret));
  if (!image.backing_path.empty() && image.capacity_bytes == 0)
    image.capacity_bytes = TRY(inspect_image(image.backing_path, image.backing_format)).capacity_bytes;
  TRY(make_file(image, request));
  if (source) TRY(fill_from(*source, image, flags));
  set_permissions(image.path, request.permissions);
  struct stat status;
  if (::stat(image.path.c_str(), &status) < 0) return os_error("stat " + image.path);
  pool.record.set(request.name, {status.st_ino, request.format, request.secret});
  TRY(pool.record.save());  // first: a file without a record would be looked at
  TRY(unfinished.finish());
  return read_volume_file(definition.path, request.name, pool.record);
}

Result<Volume> Pools::make_folder_volume(Pool& pool, const VolumeRequest& request) {
  PoolDefinition definition = definition_of(pool);
  const std::string path = fmt::format("{}/{}", definition.path, request.name);
  if (::mkdir(path.c_str(), 0755) < 0) return os_error("create folder " + path);
  if (request.permissions.mode || request.permissions.owner || request.permissions.group)
    set_permissions(path, request.permissions);
  return read_volume_file(definition.path, request.name, pool.record);
}

/// The tool may choose another name: partitions are numbered.
Result<VolumeRef> Pools::add_block_volume(Pool& pool, const VolumeRequest& request) {
  PoolDefinition definition = definition_of(pool);
  std::vector<Volume> before = TRY(scan_place(definition, pool.record));
  TRY(add_block(definition, request));
  TRY(scan(pool));
  Lock lock(mutex_);
  for (const Volume& volume : pool.volumes)
    if (std::ranges::find(before, volume.path, &Volume::path) == before.end())
      return VolumeRef{definition.name, volume.name, volume.path};
  return refusal(Code::InternalError, fmt::format("volume '{}' is not there", request.name));
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
  if (auto there = volume(definition.name, request.name)) {
    if (source)
      return refusal(Code::InternalError, fmt::format("storage volume name '{}' already in use.", request.name));
    return refusal(Code::StorageVolExist, fmt::format("'{}'", request.name));
  }
  if (!definition.has_files()) {
    if (source_ref)
      return refusal(Code::NoSupport, "storage pool does not support volume creation from an existing volume");
    return add_block_volume(*pool, request);
  }
  if (flags.preallocate_metadata && is_plain(request))
    return refusal(Code::ConfigUnsupported, "metadata preallocation is not supported for raw volumes");
  Volume made = request.format == "dir" ? TRY(make_folder_volume(*pool, request))
                                        : TRY(make_volume(*pool, request, source ? &source->volume : nullptr, flags));
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
    TRY(delete_block(definition_of(*pool), volume));
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
  if (wanted < volume.allocation_bytes && wanted < now && volume.format == "raw")
    return refusal(Code::InvalidArg, "can't shrink capacity below existing allocation");
  if (wanted < now && !flags.shrink)
    return refusal(Code::InvalidArg,
                   "Can't shrink capacity below current capacity unless shrink flag explicitly specified");
  TRY(resize_image(volume.path, driver_of_format(volume.format), wanted, flags.allocate));
  FormatRecord record(records_, found.pool.name);
  record.set(volume.name, {volume.status.st_ino, volume.format, volume.secret});
  put_volume(*pool, TRY(read_volume_file(definition_of(*pool).path, volume.name, record)));
  return {};
}

Status Pools::wipe_volume(const VolumeRef& ref, u32 algorithm) {
  std::span<const WipePass> passes = TRY(wipe_passes(algorithm));
  Found found = TRY(fresh_volume(ref));
  PoolPtr pool = TRY(require_active(found.pool.uuid));
  Lock work(pool->work);
  const Volume& volume = found.volume;
  if (volume.type == VolumeType::Dir) return refusal(Code::NoSupport, "a folder cannot be wiped");
  bool sparse = volume.type == VolumeType::File && volume.allocation_bytes < volume.physical_bytes;
  constexpr u32 kZero = 0;
  if (!sparse || algorithm != kZero) return wipe(volume.path, volume.physical_bytes, passes);
  // Blocks that were never written have nothing to hide, and are to cost nothing afterwards.
  Fd file = TRY(open_file(volume.path, O_WRONLY));
  if (::ftruncate(file.get(), 0) < 0 || ::ftruncate(file.get(), static_cast<off_t>(volume.physical_bytes)) < 0 ||
      ::fsync(file.get()) < 0)
    return os_error("truncate " + volume.path);
  return {};
}

}  // namespace atl::manage
