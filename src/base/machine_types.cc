#include "base/machine_types.h"

#include <algorithm>
#include <vector>

namespace atl {
namespace {

constexpr std::string_view kPc = "Standard PC (i440FX + PIIX, 1996)", kQ35 = "Standard PC (Q35 + ICH9, 2009)";
/// Versions that people have in their files, after the newest.
constexpr std::string_view kOlder[] = {"7.1", "7.0", "6.2", "6.1", "6.0", "5.2", "5.1", "5.0", "4.2", "4.1", "4.0",
                                       "3.1", "3.0", "2.12", "2.11", "2.10", "2.9", "2.8", "2.7", "2.6", "2.5", "2.4"};
constexpr std::string_view kOldestPc[] = {"2.3", "2.2", "2.1", "2.0"};  // before there was a versioned q35

std::vector<MachineType> make_types() {
  using enum MachineType::Board;
  std::vector<MachineType> types;
  auto add_older = [&](const std::string& prefix, std::string_view description, MachineType::Board board, std::span<const std::string_view> versions) {
    for (auto version : versions) types.push_back({prefix + std::string(version), "", description, board});
  };
  types.push_back({"pc-i440fx-7.2", "pc", kPc, Pc, true});
  add_older("pc-i440fx-", kPc, Pc, kOlder);
  add_older("pc-i440fx-", kPc, Pc, kOldestPc);
  types.push_back({"pc-q35-7.2", "q35", kQ35, Q35});
  add_older("pc-q35-", kQ35, Q35, kOlder);
  types.push_back({"microvm", "", "microvm (i386)", Microvm});
  types.push_back({"none", "", "empty machine", None});
  return types;
}

}  // namespace

std::span<const MachineType> machine_types() {
  static const std::vector<MachineType> types = make_types();
  return types;
}

const MachineType* find_machine_type(std::string_view name) {
  const auto types = machine_types();
  auto at = std::ranges::find_if(types, [&](const MachineType& t) { return t.name == name || (!t.alias.empty() && t.alias == name); });
  return at == types.end() ? nullptr : &*at;
}

}  // namespace atl
