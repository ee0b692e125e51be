// What kinds of pools and volumes there are (https://libvirt.org/formatstoragecaps.html).
#include <initializer_list>

#include "manage/storage/pools.h"
#include "manage/tool/run_tool.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

void add_enum(Element& parent, std::string_view name, std::initializer_list<std::string_view> values) {
  Element& list = parent.add("enum").set("name", name);
  for (std::string_view value : values) list.add("value", value);
}

void add_pool(Element& tree, PoolType type, bool supported, std::initializer_list<std::string_view> sources) {
  Element& pool = tree.add("pool").set("type", pool_type_name(type)).set("supported", supported ? "yes" : "no");
  if (sources.size()) {
    Element& options = pool.add("poolOptions");
    options.add("defaultFormat").set("type", *sources.begin());
    add_enum(options, "sourceFormatType", sources);
  }
  if (type >= PoolType::Logical) return;
  Element& options = pool.add("volOptions");
  options.add("defaultFormat").set("type", "raw");
  add_enum(options, "targetFormatType", {"raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "iso"});
}

}  // namespace

std::string pool_capabilities() {
  Element tree("storagepoolCapabilities");
  add_pool(tree, PoolType::Dir, true, {});
  add_pool(tree, PoolType::Fs, !find_tool("mount").empty(),
           {"auto", "ext2", "ext3", "ext4", "xfs", "iso9660", "udf", "vfat"});
  add_pool(tree, PoolType::Netfs, !find_tool("mount.nfs").empty(), {"auto", "nfs"});
  add_pool(tree, PoolType::Logical, !find_tool("lvs").empty(), {"lvm2"});
  add_pool(tree, PoolType::Disk, !find_tool("parted").empty(), {"dos", "gpt"});
  add_pool(tree, PoolType::Iscsi, !find_tool("iscsiadm").empty(), {});
  return xml::write(tree);
}

}  // namespace atl::manage
