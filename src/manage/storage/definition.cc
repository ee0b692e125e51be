#include "manage/storage/definition.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "manage/xml/errors.h"
#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

constexpr std::string_view kTypes[] = {"dir", "fs", "netfs", "logical", "disk", "iscsi"};
constexpr std::string_view kOtherTypes[] = {"scsi", "mpath"};
// libvirt's numbers of types that it, too, is built without on many hosts.
struct MissingType {
  std::string_view name;
  int number;
};
constexpr MissingType kMissingTypes[] = {{"iscsi-direct", 6}, {"rbd", 9}, {"sheepdog", 10}, {"gluster", 11}, {"zfs", 12}, {"vstorage", 13}};
constexpr std::string_view kFormats[] = {"raw",  "qcow2", "qcow", "qed",       "vmdk",  "vdi",   "vpc",
                                         "vhdx", "luks",  "iso",  "parallels", "bochs", "cloop", "dmg"};

Error bad(std::string text) { return {Code::XmlError, std::move(text), Part::Storage}; }
Error unsupported(std::string text) { return {Code::ConfigUnsupported, std::move(text), Part::Storage}; }

Result<PoolType> read_type(const Element& element) {
  std::string type = TRY(xml::required_attribute(element, "type"));
  auto found = std::ranges::find(kTypes, type);
  if (found != std::end(kTypes)) return static_cast<PoolType>(found - std::begin(kTypes));
  if (std::ranges::find(kOtherTypes, type) != std::end(kOtherTypes))
    return unsupported(fmt::format("storage pools of type '{}' are not supported", type));
  if (auto missing = std::ranges::find(kMissingTypes, type, &MissingType::name); missing != std::end(kMissingTypes))
    return Error(Code::InternalError, fmt::format("missing backend for pool type {} ({})", missing->number, type), Part::Storage);
  return bad(fmt::format("Invalid value for attribute 'type' in element 'pool': '{}'.", type));
}

Result<Permissions> read_permissions(const Element* element) {
  Permissions permissions;
  if (!element) return permissions;
  if (auto mode = element->child_text("mode")) {
    u32 value = 0;
    for (char c : trim(*mode)) {
      if (c < '0' || c > '7' || value > 0777) return bad("malformed octal mode");
      value = value * 8 + static_cast<u32>(c - '0');
    }
    if (value > 0777) return bad("malformed octal mode");
    permissions.mode = value;
  }
  auto id = [&](const char* name, auto& to) -> Status {
    auto text = element->child_text(name);
    if (!text || trim(*text) == "-1") return {};
    auto number = parse_u64(trim(*text));
    if (!number || *number > UINT32_MAX) return bad(fmt::format("malformed {} element", name));
    to = static_cast<u32>(*number);
    return {};
  };
  TRY(id("owner", permissions.owner));
  TRY(id("group", permissions.group));
  return permissions;
}

Status check_path(std::string_view path, std::string_view what) {
  if (!path.starts_with('/')) return bad(fmt::format("{} '{}' is not an absolute path", what, path));
  if (path.find('\n') != std::string_view::npos) return bad(fmt::format("{} has a line break", what));
  return {};
}

/// Names are handed to mount and lvm tools: never as an option.
Status check_word(std::string_view text, std::string_view what) {
  if (text.empty()) return bad(fmt::format("missing {}", what));
  if (text.front() == '-') return bad(fmt::format("malformed {} '{}'", what, text));
  for (char c : text)
    if (static_cast<unsigned char>(c) <= ' ') return bad(fmt::format("{} has a character that is not allowed", what));
  return {};
}

Status read_source(const Element* source, PoolDefinition& pool) {
  if (!source) source = &pool.tree;  // nothing in it yet
  for (const Element* device : source->children("device")) {
    pool.devices.push_back(TRY(xml::required_attribute(*device, "path")));
    TRY(pool.type == PoolType::Iscsi ? check_word(pool.devices.back(), "source device")
                                     : check_path(pool.devices.back(), "source device"));
  }
  if (const Element* host = source->child("host")) {
    pool.host = host->attribute("name");
    if (pool.type == PoolType::Iscsi && host->has_attribute("port"))
      pool.host += fmt::format(":{}", TRY(xml::number(*host, "port", 3260, 65535)));
  }
  if (const Element* folder = source->child("dir")) pool.folder = folder->attribute("path");
  if (const Element* format = source->child("format")) pool.format = format->attribute("type");
  pool.source_name = source->child_text("name").value_or("");
  if (source->child("auth") || source->child("initiator"))
    return unsupported("<auth> and <initiator> of a pool's source are not supported");
  switch (pool.type) {
    case PoolType::Dir: return {};
    case PoolType::Fs:
      if (pool.devices.empty()) return bad("missing storage pool source device name");
      return pool.format.empty() ? Status() : check_word(pool.format, "source format");
    case PoolType::Netfs:
      TRY(check_word(pool.host, "storage pool source host name"));
      if (!pool.format.empty() && pool.format != "auto" && pool.format != "nfs")
        return unsupported(fmt::format("netfs pools of format '{}' are not supported", pool.format));
      return check_path(pool.folder, "source folder");
    case PoolType::Logical:
      if (pool.source_name.empty()) pool.source_name = pool.name;
      return check_word(pool.source_name, "volume group");
    case PoolType::Disk:
      if (pool.devices.size() != 1) return bad("missing storage pool source device name");
      if (!pool.format.empty() && pool.format != "dos" && pool.format != "gpt" && pool.format != "unknown")
        return unsupported(fmt::format("disk pools of format '{}' are not supported", pool.format));
      return {};
    case PoolType::Iscsi:
      TRY(check_word(pool.host, "storage pool source host name"));
      return pool.devices.size() == 1 ? Status() : bad("missing storage pool source device name");
  }
  return {};
}

Element normalised(const Element& element, const PoolDefinition& pool) {
  Element tree("pool");
  tree.set("type", pool_type_name(pool.type));
  tree.add("name", pool.name);
  tree.add("uuid", format_uuid(pool.uuid));
  Element source("source");
  if (const Element* given = element.child("source"); given && pool.type != PoolType::Dir) source = *given;
  for (const char* name : {"adapter", "auth", "initiator", "vendor", "product"}) source.remove(name);
  const char* fallback = pool.type == PoolType::Logical ? "lvm2" : pool.type == PoolType::Disk ? "dos" : "auto";
  const bool has_format = pool.type != PoolType::Dir && pool.type != PoolType::Iscsi;
  if (has_format && !source.child("format")) source.add("format").set("type", fallback);
  if (pool.type == PoolType::Logical && !source.child("name")) source.add("name", pool.source_name);
  xml::print_as_pair(source, 1);
  tree.add(std::move(source));
  Element& target = tree.add("target");
  target.add("path", pool.path);
  const Element* permissions = element.find("target/permissions");
  if (permissions) target.add(*permissions);
  return tree;
}

Status read_encryption(const Element* encryption, VolumeRequest& volume) {
  if (!encryption) return {};
  volume.is_encrypted = true;
  std::string format = encryption->attribute("format");
  if (format != "luks") return unsupported(fmt::format("volume encryption of format '{}' is not supported", format));
  const Element* secret = encryption->child("secret");
  if (!secret) return bad("<encryption> of a new volume needs a <secret>");
  auto uuid = parse_uuid(secret->attribute("uuid"));
  if (!uuid) return bad(fmt::format("malformed volume encryption uuid '{}'", secret->attribute("uuid")));
  volume.secret = *uuid;
  return {};
}

Status read_target(const Element* target, VolumeRequest& volume) {
  if (!target) return {};
  if (const Element* format = target->child("format")) volume.format = TRY(xml::required_attribute(*format, "type"));
  if (volume.format != "dir" && !is_volume_format(volume.format))
    return unsupported(fmt::format("unknown volume format type {}", volume.format));
  volume.compat = target->child_text("compat").value_or("");
  if (auto bytes = TRY(xml::size_child(*target, "clusterSize"))) volume.cluster_bytes = *bytes;
  volume.nocow = target->child("nocow") != nullptr;
  if (const Element* features = target->child("features")) {
    volume.lazy_refcounts = features->child("lazy_refcounts") != nullptr;
    if (features->child("extended_l2")) return unsupported("volume feature 'extended_l2' is not supported");
  }
  volume.permissions = TRY(read_permissions(target->child("permissions")));
  return read_encryption(target->child("encryption"), volume);
}

}  // namespace

std::string_view pool_type_name(PoolType type) { return kTypes[static_cast<size_t>(type)]; }
bool is_pool_type(std::string_view name) {
  return std::ranges::find(kTypes, name) != std::end(kTypes) ||
         std::ranges::find(kOtherTypes, name) != std::end(kOtherTypes);
}
bool is_volume_format(std::string_view name) { return std::ranges::find(kFormats, name) != std::end(kFormats); }
std::string driver_of_format(const std::string& format) { return format == "iso" ? "raw" : format; }

Result<PoolDefinition> read_pool(const Element& element) {
  PoolDefinition pool;
  pool.type = TRY(read_type(element));
  if (element.child("name") || pool.type != PoolType::Logical) {
    pool.name = TRY(xml::name_child(element));
  } else {
    const Element* name = element.find("source/name");
    pool.name = name ? name->text() : "";
    TRY(xml::check_name(pool.name));
  }
  pool.uuid = TRY(xml::uuid_child(element));
  TRY(read_source(element.child("source"), pool));
  const Element* path = element.find("target/path");
  pool.path = path ? path->text() : "";
  if (pool.type == PoolType::Logical) pool.path = "/dev/" + pool.source_name;
  if (pool.path.empty()) return bad("missing storage pool target path");
  while (pool.path.size() > 1 && pool.path.ends_with('/')) pool.path.pop_back();
  TRY(check_path(pool.path, "target path"));
  pool.permissions = TRY(read_permissions(element.find("target/permissions")));
  pool.tree = normalised(element, pool);
  return pool;
}

Result<PoolDefinition> parse_pool(std::string_view text) {
  return read_pool(TRY(xml::parse(text, "(storage_pool_definition)", "pool")));
}

Result<VolumeRequest> parse_volume(std::string_view text, PoolType) {
  Element element = TRY(xml::parse(text, "(storage_volume_definition)", "volume"));
  VolumeRequest volume;
  volume.name = TRY(xml::required_text(element, "name"));
  if (volume.name.find('/') != std::string::npos)
    return Error(Code::OperationInvalid, fmt::format("volume name '{}' cannot contain '/'", volume.name),
                 Part::Storage);
  TRY(xml::check_name(volume.name));
  volume.format = "raw";
  auto capacity = TRY(xml::size_child(element, "capacity"));
  const Element* backing = element.child("backingStore");
  if (!capacity && !backing) return bad("missing capacity element");
  volume.capacity_bytes = capacity.value_or(0);
  if (volume.capacity_bytes > INT64_MAX) return bad("capacity is too large");
  volume.allocation_bytes = TRY(xml::size_child(element, "allocation"));
  if (!volume.allocation_bytes) volume.allocation_bytes = volume.capacity_bytes;  // a raw file has its blocks at once
  TRY(read_target(element.child("target"), volume));
  if (backing && backing->child("path")) {
    volume.backing_path = backing->child_text("path").value_or("");
    TRY(check_path(volume.backing_path, "backing store"));
    if (const Element* format = backing->child("format")) volume.backing_format = format->attribute("type");
    if (!volume.backing_format.empty() && !is_volume_format(volume.backing_format))
      return bad(fmt::format("unknown storage volume backing store type {}", volume.backing_format));
  }
  return volume;
}

}  // namespace atl::manage
