// Commands on storage pools and volumes.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "client/text_table.h"
#include "client/verb.h"
#include "manage/uuid.h"
#include "manage/xml/write.h"

namespace atl::client {

namespace {

using manage::PoolRef;
using manage::VolumeRef;

constexpr u32 kListInactive = 1, kListActive = 2;
constexpr std::string_view kPoolStates[] = {"inactive", "building", "running", "degraded", "inaccessible"};
constexpr std::string_view kVolumeTypes[] = {"file", "block", "dir", "network", "net-dir", "ploop"};

Result<std::string> pool_list(Context& context, const Arguments& a) {
  u32 filter = a.has("all") ? kListActive | kListInactive : a.has("inactive") ? kListInactive : kListActive;
  auto pools = TRY(context.get<std::vector<PoolRef>>(Proc::CONNECT_LIST_ALL_STORAGE_POOLS, i32{1}, filter));
  std::ranges::sort(pools, {}, &PoolRef::name);
  TextTable table({"Name", "State", "Autostart"});
  std::string names;
  for (const PoolRef& pool : pools) {
    names += pool.name + "\n";
    bool active = TRY(context.get<i32>(Proc::STORAGE_POOL_IS_ACTIVE, pool));
    auto autostart = context.get<i32>(Proc::STORAGE_POOL_GET_AUTOSTART, pool);
    table.add({pool.name, active ? "active" : "inactive", !autostart ? "no autostart" : yes_no(*autostart)});
  }
  return a.has("name") ? names : table.text(!context.is_quiet());
}

Result<std::string> pool_info(Context& context, const Arguments& a) {
  PoolRef pool = TRY(context.pool(a["pool"]));
  std::vector<u8> payload = TRY(context.call(Proc::STORAGE_POOL_GET_INFO, pool));
  u32 state = 0;
  u64 capacity = 0, allocation = 0, available = 0;
  TRY(manage::XdrReader(payload).read(state, capacity, allocation, available));
  std::string out;
  auto row = [&](std::string_view name, std::string_view value) { out += fmt::format("{:<15} {}\n", name, value); };
  auto size = [&](u64 bytes) { return a.has("bytes") ? fmt::format("{}", bytes) : pretty_size(bytes); };
  row("Name:", pool.name);
  row("UUID:", manage::format_uuid(pool.uuid));
  row("State:", kPoolStates[state < 5 ? state : 0]);
  row("Persistent:", yes_no(TRY(context.get<i32>(Proc::STORAGE_POOL_IS_PERSISTENT, pool))));
  row("Autostart:", yes_no(TRY(context.get<i32>(Proc::STORAGE_POOL_GET_AUTOSTART, pool))));
  if (state != 2 && state != 3) return out;
  row("Capacity:", size(capacity));
  row("Allocation:", size(allocation));
  row("Available:", size(available));
  return out;
}

Result<std::string> pool_dumpxml(Context& context, const Arguments& a) {
  PoolRef pool = TRY(context.pool(a["pool"]));
  return context.get<std::string>(Proc::STORAGE_POOL_GET_XML_DESC, pool, u32{a.has("inactive")});
}

template <Proc procedure, class... T>
Result<std::string> on_pool(Context& context, const Arguments& a, std::string_view sentence, const T&... more) {
  PoolRef pool = TRY(context.pool(a["pool"]));
  TRY(context.call(procedure, pool, more...));
  return fmt::format(fmt::runtime(sentence), a["pool"]);
}
Result<std::string> pool_start(Context& c, const Arguments& a) {
  return on_pool<Proc::STORAGE_POOL_CREATE>(c, a, "Pool {} started\n", u32{a.has("build")});
}
Result<std::string> pool_destroy(Context& c, const Arguments& a) {
  return on_pool<Proc::STORAGE_POOL_DESTROY>(c, a, "Pool {} destroyed\n");
}
Result<std::string> pool_undefine(Context& c, const Arguments& a) {
  return on_pool<Proc::STORAGE_POOL_UNDEFINE>(c, a, "Pool {} has been undefined\n");
}
Result<std::string> pool_refresh(Context& c, const Arguments& a) {
  return on_pool<Proc::STORAGE_POOL_REFRESH>(c, a, "Pool {} refreshed\n", u32{0});
}
Result<std::string> pool_build(Context& c, const Arguments& a) {
  u32 flags = (a.has("no-overwrite") ? 4 : 0) | (a.has("overwrite") ? 8 : 0);
  return on_pool<Proc::STORAGE_POOL_BUILD>(c, a, "Pool {} built\n", flags);
}
Result<std::string> pool_delete(Context& c, const Arguments& a) {
  return on_pool<Proc::STORAGE_POOL_DELETE>(c, a, "Pool {} deleted\n", u32{0});
}
Result<std::string> pool_autostart(Context& c, const Arguments& a) {
  return on_pool<Proc::STORAGE_POOL_SET_AUTOSTART>(
      c, a, a.has("disable") ? "Pool {} unmarked as autostarted\n" : "Pool {} marked as autostarted\n",
      i32{!a.has("disable")});
}

template <Proc procedure>
Result<std::string> pool_from_file(Context& context, const Arguments& a, std::string_view done) {
  std::string text = TRY(read_document(a["file"]));
  auto pool = TRY(context.get<PoolRef>(procedure, text, u32{0}));
  return fmt::format("Pool {} {} from {}\n", pool.name, done, a["file"]);
}
Result<std::string> pool_define(Context& c, const Arguments& a) {
  return pool_from_file<Proc::STORAGE_POOL_DEFINE_XML>(c, a, "defined");
}
Result<std::string> pool_create(Context& c, const Arguments& a) {
  return pool_from_file<Proc::STORAGE_POOL_CREATE_XML>(c, a, "created");
}

/// pool-define-as and pool-create-as, for pools that are a folder.
manage::xml::Element pool_document(const Arguments& a) {
  manage::xml::Element root("pool");
  root.set("type", a["type"]);
  root.add("name", a["name"]);
  if (a.has("source-host") || a.has("source-path") || a.has("source-dev") || a.has("source-name")) {
    manage::xml::Element& source = root.add("source");
    if (a.has("source-host")) source.add("host").set("name", a["source-host"]);
    if (a.has("source-path")) source.add("dir").set("path", a["source-path"]);
    if (a.has("source-dev")) source.add("device").set("path", a["source-dev"]);
    if (a.has("source-name")) source.add("name", a["source-name"]);
  }
  if (a.has("target")) root.add("target").add("path", a["target"]);
  return root;
}

Result<std::string> pool_define_as(Context& context, const Arguments& a) {
  TRY(context.call(Proc::STORAGE_POOL_DEFINE_XML, manage::xml::write(pool_document(a)), u32{0}));
  return fmt::format("Pool {} defined\n", a["name"]);
}

struct VolumeInfo {
  i32 type = 0;
  u64 capacity = 0, allocation = 0;
  std::string_view type_text() const { return kVolumeTypes[type >= 0 && type < 6 ? type : 0]; }
};

Result<VolumeInfo> info_of(Context& context, const VolumeRef& volume) {
  std::vector<u8> payload = TRY(context.call(Proc::STORAGE_VOL_GET_INFO, volume));
  VolumeInfo info;
  TRY(manage::XdrReader(payload).read(info.type, info.capacity, info.allocation));
  return info;
}

Result<std::string> vol_list(Context& context, const Arguments& a) {
  PoolRef pool = TRY(context.pool(a["pool"]));
  auto volumes = TRY(context.get<std::vector<VolumeRef>>(Proc::STORAGE_POOL_LIST_ALL_VOLUMES, pool, i32{1}, u32{0}));
  std::ranges::sort(volumes, {}, &VolumeRef::name);
  bool details = a.has("details");
  TextTable table(details ? std::vector<std::string>{"Name", "Path", "Type", "Capacity", "Allocation"}
                          : std::vector<std::string>{"Name", "Path"});
  for (const VolumeRef& volume : volumes) {
    std::vector<std::string> cells = {volume.name, TRY(context.get<std::string>(Proc::STORAGE_VOL_GET_PATH, volume))};
    if (details) {
      VolumeInfo info = TRY(info_of(context, volume));
      cells.insert(cells.end(),
                   {std::string(info.type_text()), pretty_size(info.capacity), pretty_size(info.allocation)});
    }
    table.add(std::move(cells));
  }
  return table.text(!context.is_quiet());
}

Result<std::string> vol_info(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  VolumeInfo info = TRY(info_of(context, volume));
  auto size = [&](u64 bytes) { return a.has("bytes") ? fmt::format("{} bytes", bytes) : pretty_size(bytes); };
  return fmt::format("{:<15} {}\n{:<15} {}\n{:<15} {}\n{:<15} {}\n", "Name:", volume.name, "Type:", info.type_text(),
                     "Capacity:", size(info.capacity), "Allocation:", size(info.allocation));
}

Result<std::string> vol_path(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  return TRY(context.get<std::string>(Proc::STORAGE_VOL_GET_PATH, volume)) + "\n";
}

Result<std::string> vol_dumpxml(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  return context.get<std::string>(Proc::STORAGE_VOL_GET_XML_DESC, volume, u32{0});
}

Result<std::string> vol_delete(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  TRY(context.call(Proc::STORAGE_VOL_DELETE, volume, u32{0}));
  return fmt::format("Vol {} deleted\n", a["vol"]);
}

Result<std::string> vol_create(Context& context, const Arguments& a) {
  PoolRef pool = TRY(context.pool(a["pool"]));
  std::string text = TRY(read_document(a["file"]));
  auto volume = TRY(context.get<VolumeRef>(Proc::STORAGE_VOL_CREATE_XML, pool, text, u32{a.has("prealloc-metadata")}));
  return fmt::format("Vol {} created from {}\n", volume.name, a["file"]);
}

Result<std::string> vol_create_as(Context& context, const Arguments& a) {
  PoolRef pool = TRY(context.pool(a["pool"]));
  auto capacity = parse_size(a["capacity"]);
  auto allocation = a.has("allocation") ? parse_size(a["allocation"]) : u64{0};
  if (!capacity || !allocation) return manage::invalid_arg("Malformed size " + a["capacity"]);
  manage::xml::Element root("volume");
  root.add("name", a["name"]);
  root.add("capacity", *capacity);
  if (a.has("allocation")) root.add("allocation", *allocation);
  if (a.has("format")) root.add("target").add("format").set("type", a["format"]);
  if (a.has("backing-vol")) {
    manage::xml::Element& backing = root.add("backingStore");
    backing.add("path", a["backing-vol"]);
    if (a.has("backing-vol-format")) backing.add("format").set("type", a["backing-vol-format"]);
  }
  TRY(context.call(Proc::STORAGE_VOL_CREATE_XML, pool, manage::xml::write(root), u32{a.has("prealloc-metadata")}));
  return fmt::format("Vol {} created\n", a["name"]);
}

Result<std::string> vol_resize(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  auto capacity = parse_size(a["capacity"]);
  if (!capacity) return manage::invalid_arg("Malformed size " + a["capacity"]);
  u32 flags = (a.has("allocate") ? 1 : 0) | (a.has("delta") ? 2 : 0) | (a.has("shrink") ? 4 : 0);
  TRY(context.call(Proc::STORAGE_VOL_RESIZE, volume, *capacity, flags));
  return fmt::format("Size of volume '{}' successfully changed to {}\n", a["vol"], a["capacity"]);
}

Result<std::string> vol_upload(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  Fd file = TRY(open_file(a["file"], O_RDONLY));
  u64 offset = parse_size(a["offset"]).value_or(0), length = parse_size(a["length"]).value_or(0);
  Connection* daemon = TRY(context.connection());
  TRY(daemon->call(Proc::STORAGE_VOL_UPLOAD, volume, offset, length, u32{0}));
  std::vector<u8> buffer(kMiB);
  for (u64 left = length ? length : UINT64_MAX; left > 0;) {
    ssize_t n = ::read(file.get(), buffer.data(), std::min<u64>(buffer.size(), left));
    if (n < 0) return atl::Error(os_error("read " + a["file"]));
    if (n == 0) break;
    TRY(daemon->send_stream(std::span(buffer).first(static_cast<size_t>(n))));
    left -= static_cast<u64>(n);
  }
  TRY(daemon->finish_stream());
  return std::string();
}

Result<std::string> vol_download(Context& context, const Arguments& a) {
  VolumeRef volume = TRY(context.volume(a["vol"], a["pool"]));
  Fd file = TRY(open_file(a["file"], O_WRONLY | O_CREAT | O_TRUNC));
  u64 offset = parse_size(a["offset"]).value_or(0), length = parse_size(a["length"]).value_or(0);
  Connection* daemon = TRY(context.connection());
  TRY(daemon->call(Proc::STORAGE_VOL_DOWNLOAD, volume, offset, length, u32{0}));
  TRY(daemon->receive_stream([&](std::span<const u8> data) -> Status { return write_all(file, data); }));
  return std::string();
}

constexpr Verb kVerbs[] = {
    {"pool-autostart", "pool --disable", "autostart a pool", pool_autostart},
    {"pool-build", "pool --overwrite --no-overwrite", "build a pool", pool_build},
    {"pool-create", "file", "create a pool from an XML file", pool_create},
    {"pool-define", "file", "define an inactive persistent storage pool from an XML file", pool_define},
    {"pool-define-as", "name type --source-host= --source-path= --source-dev= --source-name= --target=",
     "define a pool from a set of args", pool_define_as},
    {"pool-delete", "pool", "delete a pool", pool_delete},
    {"pool-destroy", "pool", "destroy (stop) a pool", pool_destroy},
    {"pool-dumpxml", "pool --inactive", "pool information in XML", pool_dumpxml},
    {"pool-info", "pool --bytes", "storage pool information", pool_info},
    {"pool-list", "--all --inactive --name", "list pools", pool_list},
    {"pool-refresh", "pool", "refresh a pool", pool_refresh},
    {"pool-start", "pool --build", "start a (previously defined) inactive pool", pool_start},
    {"pool-undefine", "pool", "undefine an inactive pool", pool_undefine},
    {"vol-create", "pool file --prealloc-metadata", "create a vol from an XML file", vol_create},
    {"vol-create-as",
     "pool name capacity --allocation= --format= --backing-vol= --backing-vol-format= --prealloc-metadata",
     "create a volume from a set of args", vol_create_as},
    {"vol-delete", "vol --pool=", "delete a vol", vol_delete},
    {"vol-download", "vol file --pool= --offset= --length=", "download volume contents to a file", vol_download},
    {"vol-dumpxml", "vol --pool=", "vol information in XML", vol_dumpxml},
    {"vol-info", "vol --pool= --bytes", "storage vol information", vol_info},
    {"vol-list", "pool --details", "list vols", vol_list},
    {"vol-path", "vol --pool=", "returns the volume path for a given volume name or key", vol_path},
    {"vol-resize", "vol capacity --pool= --allocate --delta --shrink", "resize a vol", vol_resize},
    {"vol-upload", "vol file --pool= --offset= --length=", "upload file contents to a volume", vol_upload},
};

}  // namespace

std::span<const Verb> storage_verbs() { return kVerbs; }

}  // namespace atl::client
