#include "control/qmp/object_tree.h"

#include <gmock/gmock.h>

#include "control/fake_vm.h"

namespace atl::control {
namespace {

class ObjectTreeTest : public testing::Test {
 protected:
  ObjectTreeTest() {
    fake.machine.present = {
        {{.type = "virtio-net-pci", .id = "net0", .properties = {{"mac", "52:54:00:00:00:01"}, {"addr", "4.1"}}}, "/machine/peripheral/net0"},
        {{.type = "virtio-balloon-pci", .id = "bal"}, "/machine/peripheral/bal"},
        {{.type = "virtio-rng-pci"}, "/machine/peripheral-anon/device[0]"}};
  }
  const ObjectNode* find(std::string_view path) {
    root = object_tree(fake.control);
    return find_object(root, path);
  }
  FakeVm fake;
  ObjectNode root;
};

TEST_F(ObjectTreeTest, FindsByWholePathAndByItsEnd) {
  ASSERT_NE(find("/machine/peripheral/net0"), nullptr);
  EXPECT_EQ(find("net0")->type, "virtio-net-pci");
  EXPECT_EQ(find("peripheral/net0")->type, "virtio-net-pci");
  EXPECT_EQ(find("/machine/peripheral-anon/device[0]")->type, "virtio-rng-pci");
}

TEST_F(ObjectTreeTest, NoObjectForPathsThatLeadNowhereOrToSeveral) {
  EXPECT_EQ(find("/machine/net0"), nullptr);
  EXPECT_EQ(find("device[0]"), nullptr);  // a device without a name, and the first vCPU
  EXPECT_EQ(find(""), nullptr);
}

TEST_F(ObjectTreeTest, PropertiesHaveTheirTypesAndDefaults) {
  const ObjectNode* card = find("net0");
  EXPECT_EQ(card->find_property("mac")->value, "52:54:00:00:00:01");
  EXPECT_EQ(card->find_property("addr")->value, 4 * 8 + 1);
  EXPECT_EQ(card->find_property("multifunction")->value, false);
  EXPECT_EQ(card->find_property("multifunction")->type, "bool");
  EXPECT_EQ(card->find_property("nothing"), nullptr);
}

TEST_F(ObjectTreeTest, BalloonShowsWhatTheGuestTold) {
  fake.machine.balloon = kMiB;
  const auto statistics = find("bal")->find_property("guest-stats")->value;
  EXPECT_EQ(statistics["stats"]["stat-free-memory"], 4096);
  EXPECT_EQ(statistics["stats"]["stat-swap-in"], ~u64{0});
  EXPECT_EQ(statistics["last-update"], 1000);
}

}  // namespace
}  // namespace atl::control
