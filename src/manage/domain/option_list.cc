#include "manage/domain/option_list.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace atl::manage {
namespace {

bool is_implied(std::string_view key) {
  constexpr std::string_view kImplied[] = {"driver", "type", "qom-type", "backend", "model", "cpus", "vnc"};
  return std::find(std::begin(kImplied), std::end(kImplied), key) != std::end(kImplied);
}

}  // namespace

std::string OptionList::text() const {
  std::string all;
  for (const auto& [key, value] : pairs_) {
    if (!all.empty()) all += ',';
    if (&key != &pairs_[0].first || !is_implied(key)) all += key + "=";
    for (char c : value) all.append(c == ',' ? 2 : 1, c);
  }
  return all;
}

nlohmann::json OptionList::json() const {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [key, value] : pairs_) object[key] = value;
  return object;
}

}  // namespace atl::manage
