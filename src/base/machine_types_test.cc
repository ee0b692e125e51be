#include "base/machine_types.h"

#include <gtest/gtest.h>

#include <set>

namespace atl {
namespace {

TEST(MachineTypes, FoundByNameByAliasAndByOldVersion) {
  EXPECT_EQ(find_machine_type("pc"), find_machine_type("pc-i440fx-7.2"));
  EXPECT_EQ(find_machine_type("pc-q35-5.2")->board, MachineType::Board::Q35);
  EXPECT_EQ(find_machine_type("pc-i440fx-2.0")->board, MachineType::Board::Pc);
}

TEST(MachineTypes, OthersAreUnknown) {
  for (const char* name : {"", "isapc", "pc-q35-2.3", "pc-i440fx-8.0", "pc-i440fx-"}) EXPECT_EQ(find_machine_type(name), nullptr) << name;
}

TEST(MachineTypes, NamesAreUniqueAndOneIsTheDefault) {
  std::set<std::string_view> names;
  int defaults = 0;
  for (const MachineType& type : machine_types()) {
    EXPECT_TRUE(names.insert(type.name).second) << type.name;
    defaults += type.is_default;
  }
  EXPECT_EQ(defaults, 1);
}

}  // namespace
}  // namespace atl
