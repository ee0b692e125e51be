#include <gtest/gtest.h>

#include "manage/domain/backup.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

const char* const kDomain = R"(<domain><devices>
<disk type='file' device='disk'><driver type='qcow2'/><source file='/images/a.qcow2'/><target dev='vda'/></disk>
<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/x'/><target dev='vdb'/></disk>
<disk type='file' device='cdrom'><source file='/cd.iso'/><target dev='hdc'/><readonly/></disk>
<disk type='network' device='disk'><source protocol='nbd'/><target dev='vdc'/></disk></devices></domain>)";

Result<Element> plan(const std::string& text) { return plan_backup(text, *xml::parse(kDomain, "test"), "now"); }
std::string refusal(const std::string& text) {
  auto planned = plan(text);
  return planned ? "accepted" : planned.error().message();
}

TEST(BackupPlan, ByDefaultAllDisksThatCanBeWrittenGoBesideTheirImages) {
  auto planned = plan("<domainbackup/>");
  ASSERT_TRUE(planned);
  EXPECT_EQ(planned->attribute("mode"), "push");
  const Element* a = backed_up_disk(*planned, "vda");
  ASSERT_TRUE(a);
  EXPECT_EQ(at(*a, "target", "file"), "/images/a.qcow2.now");
  EXPECT_EQ(at(*a, "driver", "type"), "qcow2");
  EXPECT_EQ(a->attribute("backupmode"), "full");
  EXPECT_TRUE(backed_up_disk(*planned, "vdb"));
  EXPECT_FALSE(backed_up_disk(*planned, "hdc"));
  EXPECT_FALSE(backed_up_disk(*planned, "vdc"));
}

TEST(BackupPlan, DisksThatAreNotNamedInAListStayOut) {
  auto planned = plan("<domainbackup><disks><disk name='/dev/x' type='block'><driver type='raw'/><target dev='/dev/y'/></disk></disks></domainbackup>");
  ASSERT_TRUE(planned);
  EXPECT_FALSE(backed_up_disk(*planned, "vda"));
  const Element* b = backed_up_disk(*planned, "vdb");
  ASSERT_TRUE(b);
  EXPECT_EQ(at(*b, "target", "dev"), "/dev/y");
}

TEST(BackupPlan, PullModeHasItsServerAndExports) {
  auto planned = plan("<domainbackup mode='pull'><incremental>cp</incremental><server name='::1'/><disks><disk name='vda' exportname='e'/></disks></domainbackup>");
  ASSERT_TRUE(planned);
  EXPECT_EQ(at(*planned, "server", "transport"), "tcp");
  EXPECT_EQ(at(*planned, "server", "port"), "10809");
  const Element* a = backed_up_disk(*planned, "vda");
  ASSERT_TRUE(a);
  EXPECT_EQ(a->attribute("exportname"), "e");
  EXPECT_EQ(a->attribute("incremental"), "cp");
  EXPECT_EQ(at(*a, "scratch", "file"), "/images/a.qcow2.now");
}

TEST(BackupPlan, OwnAttributesAreNotShown) {
  auto planned = plan("<domainbackup/>");
  ASSERT_TRUE(planned);
  Element kept = *planned;
  each(*kept.child("disks"), "disk")[0]->set("state", "running").set("made", "yes").set("source-node", "n").set("bytes", u64{1});
  EXPECT_EQ(xml::write(shown_backup(kept)), xml::write(*planned));
}

TEST(BackupPlan, ContradictionsAreRefusedByName) {
  auto disk = [](const char* inner, const char* mode = "push") {
    return std::string("<domainbackup mode='") + mode + "'>" + (std::string(mode) == "pull" ? "<server name='x'/>" : "") + "<disks><disk name='vda' " + inner + "</disks></domainbackup>";
  };
  const std::pair<std::string, const char*> cases[] = {
      {"<domainbackup mode='foo'/>", "mode='foo'"},
      {"<domainbackup mode='pull'/>", "needs its <server>"},
      {"<domainbackup mode='pull'><server transport='unix' socket='relative'/></domainbackup>", "absolute path"},
      {"<domainbackup mode='pull'><server transport='rdma' name='x'/></domainbackup>", "transport='rdma'"},
      {"<domainbackup mode='pull'><server name='x' tls='yes'/></domainbackup>", "TLS"},
      {"<domainbackup><server name='x'/></domainbackup>", "pull mode only"},
      {"<domainbackup><disks><disk name='vdz'/></disks></domainbackup>", "no disk named 'vdz'"},
      {"<domainbackup><disks><disk name='vdc'/></disks></domainbackup>", "no medium"},
      {"<domainbackup><disks><disk backup='no'/></disks></domainbackup>", "needs its 'name'"},
      {"<domainbackup><disks><disk name='vda' backup='no'/></disks></domainbackup>", "no disks selected"},
      {disk("type='network'/>"), "type='network'"},
      {disk("exportname='x'/>"), "'exportname' is of pull mode"},
      {disk("><scratch file='/x'/></disk>"), "<scratch> is of the other mode"},
      {disk("><driver type='raw'/></disk>", "pull"), "requires qcow2"},
      {disk("><driver type='vdi'/></disk>"), "'vdi'"},
      {disk("><target file='relative'/></disk>"), "is not absolute"},
      {disk("backupmode='incremental'/>"), "needs its checkpoint"},
      {disk("backupmode='full' incremental='x'/>"), "not since 'x'"},
      {"<foo/>", "domainbackup"},
  };
  for (const auto& [text, why] : cases) EXPECT_NE(refusal(text).find(why), std::string::npos) << text << " / " << refusal(text);
}

}  // namespace
}  // namespace atl::manage
