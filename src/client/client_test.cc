#include <gmock/gmock.h>

#include "client/doctor.h"
#include "client/text_table.h"
#include "client/verb.h"

namespace atl::client {
namespace {

using testing::HasSubstr;

TEST(TextTable, ColumnsAreAsWideAsTheirWidestCell) {
  TextTable table({"Id", "Name", "State"});
  EXPECT_EQ(table.text(), " Id   Name   State\n--------------------\n");
  table.add({"1", "h\u00e4user", "running"});
  EXPECT_EQ(table.text(), " Id   Name     State\n------------------------\n 1    h\u00e4user   running\n");
}

Result<Arguments> parse(std::string_view spec, std::vector<std::string> words) { return Arguments::parse(spec, words); }

TEST(Arguments, PositionsSwitchesAndValues) {
  auto a = parse("domain [file] --all --mode=", {"vm", "--all", "--mode", "acpi"});
  ASSERT_TRUE(a);
  EXPECT_EQ((*a)["domain"], "vm");
  EXPECT_FALSE(a->has("file"));
  EXPECT_TRUE(a->has("all"));
  EXPECT_EQ((*a)["mode"], "acpi");
  auto named = parse("domain [file] --mode=", {"--domain", "vm", "x", "--mode=agent"});
  ASSERT_TRUE(named);
  EXPECT_EQ((*named)["file"], "x");
  EXPECT_EQ((*named)["mode"], "agent");
}

TEST(Arguments, MistakesAreNamed) {
  EXPECT_THAT(parse("domain", {}).error().message(), HasSubstr("requires <domain>"));
  EXPECT_THAT(parse("domain", {"a", "b"}).error().message(), HasSubstr("unexpected data 'b'"));
  EXPECT_THAT(parse("domain", {"a", "--x"}).error().message(), HasSubstr("option --x"));
  EXPECT_THAT(parse("--mode=", {"--mode"}).error().message(), HasSubstr("--mode <string>"));
}

TEST(Uri, SocketsAreFound) {
  EXPECT_EQ(socket_of("qemu+unix:///system?socket=/a%20b", false).value_or(""), "/a b");
  EXPECT_EQ(socket_of("/x/sock", true).value_or(""), "/x/sock");
  EXPECT_FALSE(socket_of("xen:///", false));
}

TEST(Sizes, AreRoundedAsVirshDoes) {
  EXPECT_EQ(pretty_size(0), "0.00 B");
  EXPECT_EQ(pretty_size(1536), "1.50 KiB");
  EXPECT_EQ(pretty_size(u64{10} << 30), "10.00 GiB");
}

TEST(Doctor, MissesComeWithAdvice) {
  for (const Finding& finding : examine_host("/nonexistent")) {
    EXPECT_FALSE(finding.subject.empty());
    if (finding.subject == "/dev/kvm") {
      EXPECT_THAT(finding.advice, HasSubstr("modprobe"));
    }
  }
}

}  // namespace
}  // namespace atl::client
