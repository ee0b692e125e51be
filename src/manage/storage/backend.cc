#include "manage/storage/backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <cstring>

#include "base/fd.h"
#include "base/log.h"
#include "base/strings.h"
#include "manage/storage/disk.h"
#include "manage/storage/iscsi.h"
#include "manage/store/state_folder.h"
#include "manage/tool/run_tool.h"

namespace atl::manage {
namespace {

Error storage_error(Code code, std::string text) { return {code, std::move(text), Part::Storage}; }

bool is_mounted(const std::string& path) {
  auto mounts = read_file("/proc/self/mounts", 16 << 20);
  if (!mounts) return false;
  for (std::string_view line : split(*mounts, '\n')) {
    auto fields = split(line, ' ');
    if (fields.size() > 1 && fields[1] == path) return true;
  }
  return false;
}

Status make_folder(const PoolDefinition& pool) {
  struct stat status;
  bool existed = ::stat(pool.path.c_str(), &status) == 0;
  if (existed && !S_ISDIR(status.st_mode))
    return storage_error(Code::OperationFailed, fmt::format("'{}' exists and is no folder", pool.path));
  TRY(make_folders(pool.path, existed ? 0755 : pool.permissions.mode.value_or(0711)));
  if (pool.permissions.mode && ::chmod(pool.path.c_str(), *pool.permissions.mode) < 0)
    return os_error("chmod " + pool.path);
  bool owned = pool.permissions.owner || pool.permissions.group;
  if (owned && ::chown(pool.path.c_str(), pool.permissions.owner.value_or(static_cast<uid_t>(-1)),
                       pool.permissions.group.value_or(static_cast<gid_t>(-1))) < 0)
    return os_error("chown " + pool.path);
  return {};
}

Status make_filesystem(const PoolDefinition& pool, bool overwrite) {
  if (pool.format.empty() || pool.format == "auto")
    return storage_error(Code::OperationUnsupported,
                         "a file system can only be made if the pool's source names its format");
  if (!overwrite) {
    ToolResult probe = TRY(run_tool({.words = {"blkid", "-p", pool.devices.front()}, .input = {}}));
    if (probe.exit_status == 0)
      return storage_error(Code::StoragePoolBuilt,
                           fmt::format("device '{}' has a file system or partitions already", pool.devices.front()));
  }
  std::vector<std::string> words = {"mkfs", "-t", pool.format};
  if (overwrite && pool.format == "xfs") words.push_back("-f");
  if (overwrite && pool.format.starts_with("ext")) words.push_back("-F");
  words.push_back(pool.devices.front());
  TRY(run_tool_checked({.words = std::move(words), .input = {}, .timeout_s = 600}));
  return {};
}

Status make_volume_group(const PoolDefinition& pool) {
  if (pool.devices.empty())
    return storage_error(Code::XmlError, "a volume group is made of devices, but the source names none");
  std::vector<std::string> words = {"vgcreate", pool.source_name};
  for (const std::string& device : pool.devices) {
    TRY(run_tool_checked({.words = {"pvcreate", "-y", device}, .input = {}}));
    words.push_back(device);
  }
  TRY(run_tool_checked({.words = std::move(words), .input = {}}));
  return {};
}

Status mount_place(const PoolDefinition& pool) {
  if (is_mounted(pool.path)) return {};
  std::vector<std::string> words = {"mount", "-o", "nodev,nosuid,noexec"};
  bool is_remote = pool.type == PoolType::Netfs;
  std::string format = is_remote ? "nfs" : pool.format;
  if (!format.empty() && format != "auto") words.insert(words.end(), {"-t", format});
  words.push_back(is_remote ? fmt::format("{}:{}", pool.host, pool.folder) : pool.devices.front());
  words.push_back(pool.path);
  TRY(run_tool_checked({.words = std::move(words), .input = {}}));
  return {};
}

Status activate_group(const PoolDefinition& pool) {
  ToolResult known = TRY(run_tool({.words = {"vgs", pool.source_name}, .input = {}}));
  if (known.exit_status != 0)
    return storage_error(Code::ConfigUnsupported,
                         fmt::format("cannot find logical volume group name '{}'", pool.source_name));
  TRY(run_tool_checked({.words = {"vgchange", "-aly", pool.source_name}, .input = {}}));
  return {};
}

Result<PlaceSizes> measure_group(const PoolDefinition& pool) {
  std::string text = TRY(run_tool_checked({.words = {"vgs", "--noheadings", "--nosuffix", "--units", "b", "--separator",
                                                     "|", "-o", "vg_size,vg_free", pool.source_name},
                                           .input = {}}));
  auto fields = split(trim(text), '|');
  auto size = parse_u64(fields[0]), free_bytes = parse_u64(fields.back());
  if (fields.size() != 2 || !size || !free_bytes || *free_bytes > *size)
    return storage_error(Code::InternalError, fmt::format("cannot make sense of what vgs says: '{}'", trim(text)));
  PlaceSizes sizes{*size, *size - *free_bytes, *free_bytes, {}};
  (void)::stat(pool.path.c_str(), &sizes.status);
  return sizes;
}

/// A target is as large as its units, and they are all taken.
Result<PlaceSizes> measure_units(const PoolDefinition& pool) {
  PlaceSizes sizes;
  for (const Volume& unit : TRY(scan_units(pool))) sizes.capacity_bytes += unit.capacity_bytes;
  sizes.allocation_bytes = sizes.capacity_bytes;
  (void)::stat(pool.path.c_str(), &sizes.status);
  return sizes;
}

}  // namespace

Status build_place(const PoolDefinition& pool, bool format, bool overwrite) {
  if (pool.type == PoolType::Logical) return make_volume_group(pool);
  if (pool.type == PoolType::Disk) return label_disk(pool, overwrite);
  if (pool.type == PoolType::Iscsi) return {};
  TRY(make_folder(pool));
  if (format && pool.type == PoolType::Fs) return make_filesystem(pool, overwrite);
  return {};
}

Status open_place(const PoolDefinition& pool) {
  switch (pool.type) {
    case PoolType::Dir:
    case PoolType::Disk: return {};
    case PoolType::Iscsi: return log_in(pool);
    case PoolType::Fs:
    case PoolType::Netfs: return mount_place(pool);
    case PoolType::Logical: return activate_group(pool);
  }
  return {};
}

void close_place(const PoolDefinition& pool) {
  Result<std::string> done = std::string();
  if ((pool.type == PoolType::Fs || pool.type == PoolType::Netfs) && is_mounted(pool.path))
    done = run_tool_checked({.words = {"umount", pool.path}, .input = {}});
  if (pool.type == PoolType::Logical)
    done = run_tool_checked({.words = {"vgchange", "-aln", pool.source_name}, .input = {}});
  if (pool.type == PoolType::Iscsi)
    if (Status out = log_out(pool); !out) log_warning("pool {}: {}", pool.name, out.error().message());
  if (!done) log_warning("pool {}: {}", pool.name, done.error().message());
}

Status delete_place(const PoolDefinition& pool) {
  if (pool.type == PoolType::Logical) {
    TRY(run_tool_checked({.words = {"vgremove", "-f", pool.source_name}, .input = {}}));
    return {};
  }
  if (!pool.has_files())
    return storage_error(Code::NoSupport,
                         fmt::format("pools of type '{}' cannot be deleted", pool_type_name(pool.type)));
  if (::rmdir(pool.path.c_str()) < 0)
    return storage_error(Code::SystemError,
                         fmt::format("failed to remove pool '{}': {}", pool.path, std::strerror(errno)));
  return {};
}

Result<PlaceSizes> measure_place(const PoolDefinition& pool) {
  if (pool.type == PoolType::Logical) return measure_group(pool);
  if (pool.type == PoolType::Disk) return measure_disk(pool);
  if (pool.type == PoolType::Iscsi) return measure_units(pool);
  PlaceSizes sizes;
  struct statvfs space;
  if (::statvfs(pool.path.c_str(), &space) < 0 || ::stat(pool.path.c_str(), &sizes.status) < 0)
    return storage_error(Code::SystemError, fmt::format("cannot open path '{}': {}", pool.path, std::strerror(errno)));
  sizes.capacity_bytes = u64{space.f_frsize} * space.f_blocks;
  sizes.available_bytes = u64{space.f_frsize} * space.f_bavail;
  sizes.allocation_bytes = sizes.capacity_bytes - u64{space.f_frsize} * space.f_bfree;
  return sizes;
}

Result<std::vector<Volume>> scan_place(const PoolDefinition& pool, FormatRecord& record) {
  if (pool.type == PoolType::Logical) return scan_volume_group(pool.source_name);
  if (pool.type == PoolType::Disk) return scan_disk(pool);
  if (pool.type == PoolType::Iscsi) return scan_units(pool);
  return scan_folder(pool.path, record);
}

Status look_again(const PoolDefinition& pool) { return pool.type == PoolType::Iscsi ? rescan(pool) : Status(); }

Status add_block(const PoolDefinition& pool, const VolumeRequest& request) {
  if (!request.backing_path.empty() || request.is_encrypted)
    return storage_error(Code::OperationUnsupported,
                         "volumes that are block devices are made without backing store and encryption");
  if (pool.type == PoolType::Disk) return add_partition(pool, request.capacity_bytes);
  if (pool.type != PoolType::Logical)
    return storage_error(Code::NoSupport, "storage pool does not support volume creation");
  TRY(run_tool_checked({.words = {"lvcreate", "-y", "-n", request.name, "-L",
                                  fmt::format("{}K", (request.capacity_bytes + 1023) / 1024), pool.source_name},
                        .input = {}}));
  return {};
}

Status delete_block(const PoolDefinition& pool, const Volume& volume) {
  if (pool.type == PoolType::Disk) return delete_partition(pool, volume.name);
  if (pool.type != PoolType::Logical)
    return storage_error(Code::NoSupport, "storage pool does not support volume deletion");
  TRY(run_tool_checked({.words = {"lvremove", "-f", volume.path}, .input = {}}));
  return {};
}

}  // namespace atl::manage
