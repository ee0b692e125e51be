// Storage pools and volumes as their XML describes them (https://libvirt.org/formatstorage.html).
//
// Pools: dir, fs, netfs, logical, disk, iscsi. The others are refused by name. Volumes: see ImageRequest for what images can have.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "manage/error.h"
#include "manage/uuid.h"
#include "manage/xml/element.h"

namespace atl::manage {

/// In the order of virConnectListAllStoragePoolsFlags.
enum class PoolType : u8 { Dir, Fs, Netfs, Logical, Disk, Iscsi };
std::string_view pool_type_name(PoolType type);

struct Permissions {
  std::optional<mode_t> mode;
  std::optional<uid_t> owner;
  std::optional<gid_t> group;
};

struct PoolDefinition {
  PoolType type = PoolType::Dir;
  std::string name;
  Uuid uuid{};
  std::string path;                  // <target>
  Permissions permissions;           // of the folder that build makes
  std::vector<std::string> devices;  // fs: the one to mount; logical: the physical volumes; disk: the disk; iscsi: the target's name
  std::string host, folder;          // netfs; iscsi: the host alone, with its port
  std::string source_name;           // logical: the volume group
  std::string format;                // of the source
  /// Whether volumes are files, not block devices.
  bool has_files() const { return type <= PoolType::Netfs; }
  /// Without sizes, which change.
  xml::Element tree{"pool"};
};

struct VolumeRequest {
  std::string name;
  u64 capacity_bytes = 0;
  std::optional<u64> allocation_bytes;
  std::string format;  // "raw" unless chosen
  std::string compat;
  u64 cluster_bytes = 0;
  bool lazy_refcounts = false, nocow = false;
  Permissions permissions;
  std::string backing_path, backing_format;
  std::optional<Uuid> secret;  // LUKS encryption with this passphrase
  bool is_encrypted = false;
};

Result<PoolDefinition> read_pool(const xml::Element& element);
Result<PoolDefinition> parse_pool(std::string_view text);
Result<VolumeRequest> parse_volume(std::string_view text, PoolType pool);

/// Whether libvirt has pools of that type, whoever supports them.
bool is_pool_type(std::string_view name);
/// Formats that volumes in folders may have, by libvirt's names, which are ours except for "iso" and "dir".
bool is_volume_format(std::string_view name);
/// The block layer's name.
std::string driver_of_format(const std::string& format);

}  // namespace atl::manage
