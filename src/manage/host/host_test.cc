#include <gmock/gmock.h>

#include "manage/host/cpu_text.h"
#include "manage/host/node.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage::host {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Node, ProcessorListsAreRead) {
  EXPECT_THAT(parse_cpu_list("0-2,5\n"), ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(parse_cpu_list(""), ElementsAre());
  EXPECT_THAT(parse_cpu_list("0-99999999999", 3), ElementsAre(0, 1, 2));
}

TEST(Node, ThisHostHasProcessorsAndMemory) {
  auto node = read_node("");
  ASSERT_TRUE(node);
  EXPECT_GT(node->cpus(), 0u);
  EXPECT_GT(node->memory_kib, 0u);
  EXPECT_EQ(node->cells.size() * node->sockets * node->cores * node->threads, node->present_cpus);
}

xml::Element cpu(const char* text) { return *xml::parse(text, "test"); }

TEST(CpuText, ModelIsDescribedByItself) {
  CpuText text = describe_cpu(cpu::listed_features(*cpu::find_model("Penryn")), "GenuineIntel");
  EXPECT_EQ(text.model, "Penryn");
  EXPECT_EQ(text.vendor, "Intel");
  EXPECT_THAT(text.required, ElementsAre());
  EXPECT_THAT(text.disabled, ElementsAre());
}

TEST(CpuText, FeaturesBeyondAndBelowTheModelAreNamed) {
  cpu::FeatureSet set = cpu::listed_features(*cpu::find_model("Nehalem"));
  set.set(*cpu::find_feature("pclmulqdq"), true);
  set.set(*cpu::find_feature("popcnt"), false);
  CpuText text = describe_cpu(set, "GenuineIntel");
  EXPECT_EQ(text.model, "Penryn");  // what the model has and the set lacks counts most
  EXPECT_THAT(text.required, Contains("pclmuldq"));
}

TEST(CpuText, ComparesAsLibvirtDoes) {
  auto penryn = read_cpu(cpu("<cpu><model>Penryn</model></cpu>"));
  auto nehalem = read_cpu(cpu("<cpu><model>Nehalem</model></cpu>"));
  ASSERT_TRUE(penryn && nehalem);
  EXPECT_EQ(compare_cpu(*nehalem, *penryn), Comparison::Superset);
  EXPECT_EQ(compare_cpu(*penryn, *nehalem), Comparison::Incompatible);
  EXPECT_EQ(compare_cpu(*penryn, *penryn), Comparison::Identical);
}

TEST(CpuText, BaselineIsWhatAllHave) {
  auto result = baseline_cpu({"<cpu><model>Nehalem</model></cpu>", "<cpu><model>Penryn</model></cpu>"}, false, false);
  ASSERT_TRUE(result);
  EXPECT_THAT(xml::write(*result), HasSubstr("<model fallback='forbid'>"));
}

TEST(CpuText, UnknownNamesAreRefused) {
  EXPECT_FALSE(read_cpu(cpu("<cpu><model>Nonesuch</model></cpu>")));
  EXPECT_FALSE(read_cpu(cpu("<cpu><model>Penryn</model><feature name='nonesuch'/></cpu>")));
  EXPECT_FALSE(read_cpu(cpu("<cpu/>")));
}

TEST(CpuText, AMigratableBaselineHasNoInvariantClock) {
  const std::vector<std::string> documents = {"<cpu><model>Westmere</model><vendor>Intel</vendor><feature name='invtsc'/></cpu>"};
  EXPECT_THAT(xml::write(*baseline_cpu(documents, false, false)), HasSubstr("invtsc"));
  EXPECT_THAT(xml::write(*baseline_cpu(documents, false, true)), Not(HasSubstr("invtsc")));
}

TEST(CpuText, ADefinitionWithoutAModelAsksForNothing) {
  const cpu::FeatureSet host = cpu::listed_features(*cpu::find_model("Penryn"));
  auto compared = [&](const char* text) { return *compare_definition(host, cpu(text)); };
  EXPECT_EQ(compared("<cpu/>"), Comparison::Superset);
  EXPECT_EQ(compared("<cpu><mode name='custom' supported='yes'/></cpu>"), Comparison::Superset);  // of domain capabilities
  EXPECT_EQ(compared("<cpu mode='host-passthrough'/>"), Comparison::Superset);
  EXPECT_EQ(compared("<cpu><model>Nehalem</model></cpu>"), Comparison::Incompatible);
  EXPECT_EQ(compared("<cpu><arch>aarch64</arch><model>cortex-a57</model></cpu>"), Comparison::Incompatible);
  EXPECT_EQ(compared("<cpu><model>Penryn</model><feature name='sse2' policy='forbid'/></cpu>"), Comparison::Incompatible);
  EXPECT_FALSE(compare_definition(host, cpu("<cpu><feature name='vme'/></cpu>")));
  EXPECT_FALSE(compare_definition(host, cpu("<cpu><model>nosuch</model></cpu>")));
}

}  // namespace
}  // namespace atl::manage::host
