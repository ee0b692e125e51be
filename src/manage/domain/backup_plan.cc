// <domainbackup>: what a client may ask for.
#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "manage/domain/backup.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

Error schema(std::string text) { return {Code::XmlInvalidSchema, std::move(text)}; }

bool is_one_of(const std::string& value, std::initializer_list<std::string_view> list) {
  return value.empty() || std::ranges::find(list, value) != list.end();
}

std::string image_of(const Element& disk) {
  const std::string file = at(disk, "source", "file");
  return file.empty() ? at(disk, "source", "dev") : file;
}

Status check_server(const Element& asked, bool pull) {
  const Element* server = asked.child("server");
  if (!pull) return server ? Status(schema("<server> is of pull mode only")) : Status();
  if (!server) return schema("a backup in pull mode needs its <server>");
  const std::string transport = server->attribute("transport");
  if (!is_one_of(transport, {"tcp", "unix"})) return schema(fmt::format("<server transport='{}'> is unknown", transport));
  if (transport == "unix" && !server->attribute("socket").starts_with('/')) return schema("<server transport='unix'> needs the absolute path of its 'socket'");
  if (transport != "unix" && server->attribute("name").empty()) return schema("<server> needs its 'name'");
  if (server->attribute("tls") == "yes") return config_unsupported("TLS for the NBD server of a backup is not supported by atoll-vmm");
  return {};
}

Status check_entry(const Element& entry, bool pull) {
  const std::string name = entry.attribute("name");
  if (name.empty()) return schema("<disk> of a backup needs its 'name'");
  struct Attribute {
    const char* name;
    std::initializer_list<std::string_view> values;
  };
  for (const auto& [attribute, values] : {Attribute{"backup", {"yes", "no"}}, {"type", {"file", "block"}}, {"backupmode", {"full", "incremental"}}})
    if (!is_one_of(entry.attribute(attribute), values))
      return schema(fmt::format("disk '{}': {}='{}' is not supported", name, attribute, entry.attribute(attribute)));
  for (const char* attribute : {"exportname", "exportbitmap"})
    if (!pull && entry.has_attribute(attribute)) return schema(fmt::format("disk '{}': '{}' is of pull mode only", name, attribute));
  const char* other = pull ? "target" : "scratch";
  if (entry.child(other)) return schema(fmt::format("disk '{}': <{}> is of the other mode", name, other));
  const std::string format = at(entry, "driver", "type");
  if (pull && !is_one_of(format, {"qcow2"})) return config_unsupported(fmt::format("pull mode backup for disk '{}' requires qcow2 driver", name));
  if (!is_one_of(format, {"qcow2", "raw"})) return config_unsupported(fmt::format("backup for disk '{}' into format '{}' is not supported", name, format));
  return {};
}

const Element* asked_for(const Element& asked, const Element& disk) {
  const Element* disks = asked.child("disks");
  for (const Element* entry : disks ? disks->children("disk") : std::vector<const Element*>())
    if (entry->attribute("name") == at(disk, "target", "dev") || entry->attribute("name") == image_of(disk)) return entry;
  return nullptr;
}

/// Every entry is of one of the domain's disks.
Status check_entries(const Element& asked, const Element& domain, bool pull) {
  const Element* disks = asked.child("disks");
  for (const Element* entry : disks ? disks->children("disk") : std::vector<const Element*>()) {
    TRY(check_entry(*entry, pull));
    const auto all = devices_of(domain).children("disk");
    const std::string name = entry->attribute("name");
    auto found = std::ranges::find_if(all, [&](const Element* disk) { return at(*disk, "target", "dev") == name || image_of(*disk) == name; });
    if (found == all.end()) return config_unsupported(fmt::format("no disk named '{}'", name));
    if (entry->attribute("backup") != "no" && image_of(**found).empty())
      return config_unsupported(fmt::format("disk '{}' has no medium to back up", name));
  }
  return {};
}

/// Where the copy goes, or in pull mode what the guest overwrites meanwhile.
Status complete_store(Element& entry, const Element& disk, const Element* asked, bool pull, const std::string& suffix) {
  const char* name = pull ? "scratch" : "target";
  const Element* given = asked ? asked->child(name) : nullptr;
  std::string path = given ? given->attribute("file") : "";
  if (path.empty() && given) path = given->attribute("dev");
  std::string type = asked ? asked->attribute("type") : "";
  if (type.empty()) type = given && given->has_attribute("dev") ? "block" : "file";
  const std::string image = image_of(disk);
  if (path.empty() && !image.starts_with('/')) return config_unsupported(fmt::format("refusing to generate file name for disk '{}'", at(disk, "target", "dev")));
  if (path.empty()) path = fmt::format("{}.{}", image, suffix);
  if (!path.starts_with('/')) return schema(fmt::format("disk '{}': the path '{}' is not absolute", at(disk, "target", "dev"), path));
  entry.set("type", type);
  const std::string format = asked ? at(*asked, "driver", "type") : "";
  entry.add("driver").set("type", format.empty() ? "qcow2" : format);
  entry.add(name).set(type == "block" ? "dev" : "file", path);
  return {};
}

/// Since which checkpoint, and under which names the NBD server offers it.
Status complete_mode(Element& entry, const Element* asked, const std::string& since, bool pull) {
  const std::string name = entry.attribute("name"), mode = asked ? asked->attribute("backupmode") : "";
  std::string from = asked ? asked->attribute("incremental") : "";
  if (from.empty() && mode != "full") from = since;
  if (mode == "full" && !from.empty()) return schema(fmt::format("disk '{}': a full backup is not since '{}'", name, from));
  if (mode == "incremental" && from.empty()) return config_unsupported(fmt::format("disk '{}': an incremental backup needs its checkpoint", name));
  entry.set("backupmode", from.empty() ? "full" : "incremental");
  if (!from.empty()) entry.set("incremental", from);
  if (!pull) return {};
  const std::string exported = asked ? asked->attribute("exportname") : "", bitmap = asked ? asked->attribute("exportbitmap") : "";
  entry.set("exportname", exported.empty() ? name : exported);
  if (!bitmap.empty()) entry.set("exportbitmap", bitmap);
  return {};
}

}  // namespace

Result<Element> plan_backup(std::string_view text, const Element& domain, const std::string& suffix) {
  const Element asked = TRY(xml::parse(text, "(domain_backup)", "domainbackup"));
  const std::string mode = asked.attribute("mode"), since = text_at(asked, "incremental");
  if (!is_one_of(mode, {"push", "pull"})) return schema(fmt::format("<domainbackup mode='{}'> is unknown", mode));
  const bool pull = mode == "pull";
  TRY(check_server(asked, pull));
  TRY(check_entries(asked, domain, pull));
  Element plan("domainbackup");
  plan.set("mode", pull ? "pull" : "push");
  if (!since.empty()) plan.add("incremental", std::string_view(since));
  if (pull) {
    Element& server = plan.add(*asked.child("server"));
    set_default(server, "transport", "tcp");
    if (server.attribute("transport") == "tcp") set_default(server, "port", "10809");
  }
  Element& disks = plan.add("disks");
  bool any = false;
  for (const Element* disk : devices_of(domain).children("disk")) {
    const Element* entry = asked_for(asked, *disk);
    const bool wanted = entry ? entry->attribute("backup") != "no" : !asked.child("disks") && !disk->child("readonly") && !image_of(*disk).empty();
    Element& planned = disks.add("disk");
    planned.set("name", at(*disk, "target", "dev")).set("backup", wanted ? "yes" : "no");
    if (!wanted) continue;
    any = true;
    Element parts("parts");
    TRY(complete_store(parts, *disk, entry, pull, suffix));
    planned.set("type", parts.attribute("type"));
    TRY(complete_mode(planned, entry, since, pull));
    for (const Element* part : parts.children()) planned.add(*part);
  }
  if (!any) return config_unsupported("no disks selected for backup");
  return plan;
}

Element shown_backup(const Element& backup) {
  Element shown = backup;
  shown.remove_attribute("cancelled");
  for (Element* disk : each(ensure(shown, "disks"), "disk"))
    for (const char* own : {"state", "made", "source-node", "bytes"}) disk->remove_attribute(own);
  return shown;
}

const Element* backed_up_disk(const Element& backup, const std::string& target) {
  const Element* disks = backup.child("disks");
  for (const Element* disk : disks ? disks->children("disk") : std::vector<const Element*>())
    if (disk->attribute("name") == target && disk->attribute("backup") == "yes") return disk;
  return nullptr;
}

}  // namespace atl::manage
