#include "manage/domain/status_file.h"

#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {

std::string write_status(const VmStatus& status) {
  Element root("domstatus");
  root.set("id", static_cast<u64>(status.id)).set("state", static_cast<u64>(status.state.state)).set("reason", static_cast<u64>(status.state.reason));
  root.add("process").set("pid", static_cast<u64>(status.process.pid)).set("start", status.process.start_ticks).set("user", status.user);
  root.set("next-node", status.next_node);
  root.add("folder", std::string_view(status.folder));
  for (const auto& file : status.files) root.add("file").set("path", file.path).set("user", file.user).set("group", file.group);
  root.add(status.tree);
  if (status.backup) root.add(*status.backup);
  return xml::write(root);
}

Result<VmStatus> read_status(std::string_view text) {
  Element root = TRY(xml::parse(text, "(domain_status)", "domstatus"));
  VmStatus status;
  const Element* process = root.child("process");
  const Element* tree = root.child("domain");
  if (!process || !tree) return xml_error("<domstatus> lacks its process or its domain");
  constexpr u64 kMaxInt = 0x7fffffff;
  status.id = static_cast<i32>(TRY(xml::number(root, "id", 0, kMaxInt)));
  status.state = {static_cast<RunState>(TRY(xml::number(root, "state", 0, 7))), static_cast<i32>(TRY(xml::number(root, "reason", 0, kMaxInt)))};
  status.process.pid = static_cast<pid_t>(TRY(xml::number(*process, "pid", 0, kMaxInt)));
  status.process.start_ticks = TRY(xml::number(*process, "start", 0));
  status.user = static_cast<uid_t>(TRY(xml::number(*process, "user", 0, UINT32_MAX)));
  status.next_node = TRY(xml::number(root, "next-node", 1));
  status.folder = text_at(root, "folder");
  for (const Element* file : root.children("file"))
    status.files.push_back({file->attribute("path"), static_cast<uid_t>(TRY(xml::number(*file, "user", 0, UINT32_MAX))),
                            static_cast<gid_t>(TRY(xml::number(*file, "group", 0, UINT32_MAX)))});
  status.tree = *tree;
  if (const Element* backup = root.child("domainbackup")) status.backup = *backup;
  return status;
}

}  // namespace atl::manage
