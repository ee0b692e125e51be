// Procedures on storage pools and volumes.
#include "manage/daemon.h"
#include "manage/rpc/call.h"
#include "manage/rpc/managed_objects.h"
#include "manage/rpc/procedure.h"
#include "manage/storage/pools.h"
#include "manage/storage/sources.h"

namespace atl::manage {
namespace {

enum PoolCreateFlags : u32 { kWithBuild = 1, kWithOverwrite = 2, kWithNoOverwrite = 4 };
enum BuildFlags : u32 { kBuildNew = 0, kBuildNoOverwrite = 4, kBuildOverwrite = 8 };
enum VolumeCreateFlags : u32 { kPreallocate = 1, kReflink = 2, kValidate = 4 };
enum ResizeFlags : u32 { kResizeAllocate = 1, kResizeDelta = 2, kResizeShrink = 4 };
enum PoolState : u32 { kPoolInactive = 0, kPoolRunning = 2 };
constexpr u32 kStreamSparse = 1, kInfoPhysical = 1, kWipeZero = 0;
constexpr i32 kMostVolumes = 16384;

Pools& pools(Call& call) { return call.daemon().pools(); }

// --- pools

struct PoolKind {
  using Manager = Pools;
  using Ref = PoolRef;
  // From bit 6 on the types, in the order of PoolType as far as we have them.
  static constexpr u32 kFirstType = 6, kTypeFlags = 0xfffc0;
  static constexpr i32 kMostNames = 4096;
  static constexpr std::string_view kListLimit = "STORAGE_POOL", kListAllFunction = "virConnectListAllStoragePools",
                                    kXmlFunction = "virStoragePoolGetXMLDesc", kActFunction = "virStoragePool";
  static Pools& manager(Call& call) { return pools(call); }
  static u32 type_flag(const Pools::State& state) { return 1u << (kFirstType + static_cast<u32>(state.type)); }
};
using Objects = Managed<PoolKind>;

Status lookup_by_volume(Call& call) {
  VolumeRef volume;
  TRY(call.read(volume));
  call.write(TRY(pools(call).find(volume.pool)));
  return {};
}

Status lookup_by_target_path(Call& call) {
  std::string path;
  TRY(call.read(path));
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  call.write(TRY(pools(call).find_by_path(path)));
  return {};
}

Status define(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, 1, "virStoragePoolDefineXML"));
  call.write(TRY(pools(call).define(xml)));
  return {};
}

Pools::BuildFlags create_flags(u32 flags) {
  return {(flags & kWithBuild) != 0, (flags & kWithOverwrite) != 0, (flags & kWithNoOverwrite) != 0};
}

Status create_xml(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, kWithBuild | kWithOverwrite | kWithNoOverwrite, "virStoragePoolCreateXML"));
  call.write(TRY(pools(call).create_transient(xml, create_flags(flags))));
  return {};
}

Status start(Call& call) {
  PoolRef pool;
  u32 flags = 0;
  TRY(call.read(pool, flags));
  TRY(check_flags(flags, kWithBuild | kWithOverwrite | kWithNoOverwrite, "virStoragePoolCreate"));
  return pools(call).start(pool.uuid, create_flags(flags));
}

Status build(Call& call) {
  PoolRef pool;
  u32 flags = 0;
  TRY(call.read(pool, flags));
  TRY(check_flags(flags, kBuildNoOverwrite | kBuildOverwrite, "virStoragePoolBuild"));
  return pools(call).build(pool.uuid, {true, (flags & kBuildOverwrite) != 0, (flags & kBuildNoOverwrite) != 0});
}

Status get_info(Call& call) {
  PoolRef pool;
  TRY(call.read(pool));
  Pools::State state = TRY(pools(call).state(pool.uuid));
  call.write(state.active ? kPoolRunning : kPoolInactive, state.capacity_bytes, state.allocation_bytes,
             state.available_bytes);
  return {};
}

Status get_capabilities(Call& call) {
  u32 flags = 0;
  TRY(call.read(flags));
  TRY(check_flags(flags, 0, "virConnectGetStoragePoolCapabilities"));
  call.write(pool_capabilities());
  return {};
}

Status find_sources(Call& call) {
  std::string type;
  std::optional<std::string> spec;
  u32 flags = 0;
  TRY(call.read(type, spec, flags));
  TRY(check_flags(flags, 0, "virConnectFindStoragePoolSources"));
  call.write(TRY(find_pool_sources(type, spec)));
  return {};
}

// --- volumes

Status number_of_volumes(Call& call) {
  PoolRef pool;
  TRY(call.read(pool));
  std::vector<Volume> volumes = TRY(pools(call).volumes(pool.uuid));
  call.write(static_cast<i32>(volumes.size()));
  return {};
}

Status list_volumes(Call& call) {
  PoolRef pool;
  i32 most = 0;
  TRY(call.read(pool, most));
  std::vector<std::string> found;
  for (const Volume& volume : TRY(pools(call).volumes(pool.uuid))) found.push_back(volume.name);
  return write_names(call, std::move(found), most, kMostVolumes, "STORAGE_VOL");
}

Status list_all_volumes(Call& call) {
  PoolRef pool;
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(pool, wanted, flags));
  TRY(check_flags(flags, 0, "virStoragePoolListAllVolumes"));
  Pools::State state = TRY(pools(call).state(pool.uuid));
  std::vector<VolumeRef> list;
  for (const Volume& volume : TRY(pools(call).volumes(pool.uuid)))
    list.push_back({state.ref.name, volume.name, volume.path});
  call.write_list(list, wanted);
  return {};
}

Status lookup_volume(Call& call) {
  PoolRef pool;
  std::string name;
  TRY(call.read(pool, name));
  PoolRef full = TRY(pools(call).state(pool.uuid)).ref;
  call.write(TRY(pools(call).volume(full.name, name)).ref());
  return {};
}

Status lookup_volume_by_path(Call& call) {
  std::string path;
  TRY(call.read(path));
  call.write(TRY(pools(call).volume_by_path(path)).ref());
  return {};
}

Status create_volume(Call& call) {
  PoolRef pool;
  std::string xml;
  u32 flags = 0;
  TRY(call.read(pool, xml, flags));
  TRY(check_flags(flags, kPreallocate | kValidate, "virStorageVolCreateXML"));
  call.write(TRY(pools(call).create_volume(pool.uuid, xml, {(flags & kPreallocate) != 0, false})));
  return {};
}

Status clone_volume(Call& call) {
  PoolRef pool;
  std::string xml;
  VolumeRef source;
  u32 flags = 0;
  TRY(call.read(pool, xml, source, flags));
  TRY(check_flags(flags, kPreallocate | kReflink | kValidate, "virStorageVolCreateXMLFrom"));
  const Pools::CreateFlags how{(flags & kPreallocate) != 0, (flags & kReflink) != 0};
  call.write(TRY(pools(call).clone_volume(pool.uuid, xml, source, how)));
  return {};
}

Status delete_volume(Call& call) {
  VolumeRef volume;
  u32 flags = 0;
  TRY(call.read(volume, flags));
  TRY(check_flags(flags, 0, "virStorageBackendVolDeleteLocal"));
  return pools(call).delete_volume(volume);
}

Status get_volume_info(Call& call) {
  VolumeRef ref;
  TRY(call.read(ref));
  Volume volume = TRY(pools(call).fresh_volume(ref)).volume;
  call.write(static_cast<i32>(volume.type), volume.capacity_bytes, volume.allocation_bytes);
  return {};
}

Status get_volume_info_flags(Call& call) {
  VolumeRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, kInfoPhysical, "virStorageVolGetInfoFlags"));
  Volume volume = TRY(pools(call).fresh_volume(ref)).volume;
  u64 second = flags & kInfoPhysical ? volume.physical_bytes : volume.allocation_bytes;
  call.write(static_cast<i32>(volume.type), volume.capacity_bytes, second, flags);
  return {};
}

Status get_volume_xml(Call& call) {
  VolumeRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virStorageVolGetXMLDesc"));
  Volume volume = TRY(pools(call).fresh_volume(ref)).volume;
  call.write(volume_xml(volume));
  return {};
}

Status get_volume_path(Call& call) {
  VolumeRef ref;
  TRY(call.read(ref));
  call.write(TRY(pools(call).volume(ref.pool, ref.name)).volume.path);
  return {};
}

Status wipe_volume(Call& call) {
  VolumeRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virStorageVolWipe"));
  return pools(call).wipe_volume(ref, kWipeZero);
}

Status wipe_volume_pattern(Call& call) {
  VolumeRef ref;
  u32 algorithm = 0, flags = 0;
  TRY(call.read(ref, algorithm, flags));
  TRY(check_flags(flags, 0, "virStorageVolWipePattern"));
  return pools(call).wipe_volume(ref, algorithm);
}

Status resize_volume(Call& call) {
  VolumeRef ref;
  u64 bytes = 0;
  u32 flags = 0;
  TRY(call.read(ref, bytes, flags));
  TRY(check_flags(flags, kResizeAllocate | kResizeDelta | kResizeShrink, "virStorageVolResize"));
  return pools(call).resize_volume(
      ref, bytes, {(flags & kResizeAllocate) != 0, (flags & kResizeDelta) != 0, (flags & kResizeShrink) != 0});
}

Status upload_volume(Call& call) {
  VolumeRef ref;
  u64 offset = 0, length = 0;
  u32 flags = 0;
  TRY(call.read(ref, offset, length, flags));
  TRY(check_flags(flags, kStreamSparse, "virStorageVolUpload"));
  call.start_stream(TRY(pools(call).upload(ref, offset, length)));
  return {};
}

Status download_volume(Call& call) {
  VolumeRef ref;
  u64 offset = 0, length = 0;
  u32 flags = 0;
  TRY(call.read(ref, offset, length, flags));
  TRY(check_flags(flags, kStreamSparse, "virStorageVolDownload"));
  call.start_stream(TRY(pools(call).download(ref, offset, length, flags & kStreamSparse)));
  return {};
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_STORAGE_POOLS, Access::Read, Objects::list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_STORAGE_POOLS, Access::Read, Objects::number_of<kListActive>, Where::Quick},
    {Proc::CONNECT_LIST_STORAGE_POOLS, Access::Read, Objects::list_names<kListActive>, Where::Quick},
    {Proc::CONNECT_NUM_OF_DEFINED_STORAGE_POOLS, Access::Read, Objects::number_of<kListInactive>, Where::Quick},
    {Proc::CONNECT_LIST_DEFINED_STORAGE_POOLS, Access::Read, Objects::list_names<kListInactive>, Where::Quick},
    {Proc::CONNECT_GET_STORAGE_POOL_CAPABILITIES, Access::Read, get_capabilities, Where::Quick},
    {Proc::CONNECT_FIND_STORAGE_POOL_SOURCES, Access::Write, find_sources},
    {Proc::STORAGE_POOL_LOOKUP_BY_NAME, Access::Read, Objects::lookup_by_name, Where::Quick},
    {Proc::STORAGE_POOL_LOOKUP_BY_UUID, Access::Read, Objects::lookup_by_uuid, Where::Quick},
    {Proc::STORAGE_POOL_LOOKUP_BY_VOLUME, Access::Read, lookup_by_volume, Where::Quick},
    {Proc::STORAGE_POOL_LOOKUP_BY_TARGET_PATH, Access::Read, lookup_by_target_path, Where::Quick},
    {Proc::STORAGE_POOL_DEFINE_XML, Access::Write, define},
    {Proc::STORAGE_POOL_CREATE_XML, Access::Write, create_xml},
    {Proc::STORAGE_POOL_CREATE, Access::Write, start},
    {Proc::STORAGE_POOL_BUILD, Access::Write, build},
    {Proc::STORAGE_POOL_DESTROY, Access::Write, Objects::act<&Pools::destroy, false>},
    {Proc::STORAGE_POOL_DELETE, Access::Write, Objects::act<&Pools::erase, true>},
    {Proc::STORAGE_POOL_UNDEFINE, Access::Write, Objects::act<&Pools::undefine, false>},
    {Proc::STORAGE_POOL_REFRESH, Access::Write, Objects::act<&Pools::refresh, true>},
    {Proc::STORAGE_POOL_GET_INFO, Access::Read, get_info, Where::Quick},
    {Proc::STORAGE_POOL_GET_XML_DESC, Access::Read, Objects::get_xml, Where::Quick},
    {Proc::STORAGE_POOL_GET_AUTOSTART, Access::Read, Objects::get_state<&Pools::State::autostart>, Where::Quick},
    {Proc::STORAGE_POOL_SET_AUTOSTART, Access::Write, Objects::set_autostart},
    {Proc::STORAGE_POOL_IS_ACTIVE, Access::Read, Objects::get_state<&Pools::State::active>, Where::Quick},
    {Proc::STORAGE_POOL_IS_PERSISTENT, Access::Read, Objects::get_state<&Pools::State::persistent>, Where::Quick},
    {Proc::STORAGE_POOL_NUM_OF_VOLUMES, Access::Read, number_of_volumes, Where::Quick},
    {Proc::STORAGE_POOL_LIST_VOLUMES, Access::Read, list_volumes, Where::Quick},
    {Proc::STORAGE_POOL_LIST_ALL_VOLUMES, Access::Read, list_all_volumes, Where::Quick},
    {Proc::STORAGE_VOL_LOOKUP_BY_NAME, Access::Read, lookup_volume, Where::Quick},
    {Proc::STORAGE_VOL_LOOKUP_BY_KEY, Access::Read, lookup_volume_by_path, Where::Quick},
    {Proc::STORAGE_VOL_LOOKUP_BY_PATH, Access::Read, lookup_volume_by_path, Where::Quick},
    {Proc::STORAGE_VOL_CREATE_XML, Access::Write, create_volume},
    {Proc::STORAGE_VOL_CREATE_XML_FROM, Access::Write, clone_volume},
    {Proc::STORAGE_VOL_DELETE, Access::Write, delete_volume},
    {Proc::STORAGE_VOL_GET_INFO, Access::Read, get_volume_info},
    {Proc::STORAGE_VOL_GET_INFO_FLAGS, Access::Read, get_volume_info_flags},
    {Proc::STORAGE_VOL_GET_XML_DESC, Access::Read, get_volume_xml},
    {Proc::STORAGE_VOL_GET_PATH, Access::Read, get_volume_path, Where::Quick},
    {Proc::STORAGE_VOL_WIPE, Access::Write, wipe_volume},
    {Proc::STORAGE_VOL_WIPE_PATTERN, Access::Write, wipe_volume_pattern},
    {Proc::STORAGE_VOL_RESIZE, Access::Write, resize_volume},
    {Proc::STORAGE_VOL_UPLOAD, Access::Write, upload_volume},
    {Proc::STORAGE_VOL_DOWNLOAD, Access::Write, download_volume},
};

}  // namespace

std::span<const Procedure> storage_procedures() { return kProcedures; }

}  // namespace atl::manage
