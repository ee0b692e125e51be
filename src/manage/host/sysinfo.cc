// The <sysinfo type='smbios'> document: what the firmware says about the machine, from /sys/class/dmi.
#include <fmt/format.h>

#include "base/fd.h"
#include "base/strings.h"
#include "manage/host/host.h"
#include "manage/xml/write.h"

namespace atl::manage::host {

namespace {

struct Entry {
  std::string_view group, name, file;
};
constexpr Entry kEntries[] = {
    {"bios", "vendor", "bios_vendor"},
    {"bios", "version", "bios_version"},
    {"bios", "date", "bios_date"},
    {"bios", "release", "bios_release"},
    {"system", "manufacturer", "sys_vendor"},
    {"system", "product", "product_name"},
    {"system", "version", "product_version"},
    {"system", "serial", "product_serial"},
    {"system", "uuid", "product_uuid"},
    {"system", "sku", "product_sku"},
    {"system", "family", "product_family"},
    {"baseBoard", "manufacturer", "board_vendor"},
    {"baseBoard", "product", "board_name"},
    {"baseBoard", "version", "board_version"},
    {"baseBoard", "serial", "board_serial"},
    {"chassis", "manufacturer", "chassis_vendor"},
    {"chassis", "version", "chassis_version"},
    {"chassis", "serial", "chassis_serial"},
};

}  // namespace

std::string sysinfo_text() {
  xml::Element root("sysinfo");
  root.set("type", "smbios");
  for (const Entry& entry : kEntries) {
    auto value = read_file(fmt::format("/sys/class/dmi/id/{}", entry.file), kPageSize);
    if (!value || trim(*value).empty()) continue;
    xml::Element* group = root.child(entry.group);
    if (!group) group = &root.add(entry.group);
    group->add("entry", trim(*value)).set("name", entry.name);
  }
  return xml::write(root);
}

}  // namespace atl::manage::host
