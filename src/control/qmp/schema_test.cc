#include "control/qmp/schema.h"

#include <gmock/gmock.h>

#include <set>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "block/driver.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"
#include "control/qmp/command.h"
#include "control/qmp/events.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::UnorderedElementsAreArray;

std::vector<std::string> values_of(std::string_view type) {
  std::vector<std::string> list;
  for (auto value : split(find_schema_type(type)->members, ' ')) list.emplace_back(value);
  return list;
}

TEST(QmpSchema, EnumerationsAreWhatIsServed) {
  EXPECT_THAT(values_of("ChardevBackendKind"), UnorderedElementsAreArray(chardev_backends()));
  EXPECT_THAT(values_of("ObjectType"), UnorderedElementsAreArray(user_creatable_objects()));
  std::vector<std::string_view> drivers;
  const std::set<std::string_view> missing = {"gluster", "rbd", "sheepdog"};  // refused with advice
  for (const block::Driver* driver : block::drivers())
    if (!missing.contains(driver->name)) drivers.push_back(driver->name);
  EXPECT_THAT(values_of("BlockdevDriver"), UnorderedElementsAreArray(drivers));
}

TEST(QmpSchema, SignaturesBelongToCommandsAndEvents) {
  for (const auto& signature : command_signatures())
    EXPECT_TRUE(find_qmp_command(signature.name) || signature.name == "qmp_capabilities") << signature.name;
  for (const auto& signature : event_signatures()) EXPECT_THAT(event_names(), Contains(signature.name));
}

TEST(QmpSchema, EveryNamedTypeIsThereOnce) {
  const Json schema = qmp_schema();
  std::multiset<std::string> names;
  for (const Json& entry : schema) names.insert(entry["name"].get<std::string>());
  auto expect_type = [&](const Json& owner, const Json& type) { EXPECT_EQ(names.count(type.get<std::string>()), 1u) << owner["name"]; };
  for (const Json& entry : schema) {
    for (const char* key : {"arg-type", "ret-type", "element-type"})
      if (entry.contains(key)) expect_type(entry, entry[key]);
    for (const char* list : {"members", "variants"})
      for (const Json& part : entry.value(list, Json::array()))
        if (part.contains("type")) expect_type(entry, part["type"]);
  }
}

TEST(QmpSchema, VariantsCoverTheirTag) {
  const Json schema = qmp_schema();
  for (const Json& entry : schema) {
    if (entry["name"] != "BlockdevOptions") continue;
    EXPECT_EQ(entry["tag"], "driver");
    EXPECT_EQ(entry["variants"].size(), values_of("BlockdevDriver").size());
    return;
  }
  FAIL() << "blockdev-add has no type";
}

}  // namespace
}  // namespace atl::control
