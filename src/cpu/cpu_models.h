// The named CPU models: QEMU's, so that command lines and saved domains keep their meaning, and the psABI levels.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"
#include "cpu/cpu_features.h"

namespace atl::cpu {

struct CpuModel {
  enum class Kind : u8 {
    Listed,  // exactly the features listed
    Max,     // everything the accelerator can offer
    Host,    // the same, and this host's vendor, family, model and name
  };
  std::string_view name;
  Kind kind = Kind::Listed;
  std::string_view parent;    // features change this model's; "" if none
  std::string_view features;  // names, separated by blanks; "-name" is taken away
  std::string_view vendor;    // 12 characters
  u32 family = 6, model = 6, stepping = 3;
  u32 level = 0xd, xlevel = 0x80000008;
  std::string_view model_id;
};

std::span<const CpuModel> all_models();
/// Versions too: "Haswell-v4" is "Haswell-noTSX-IBRS".
const CpuModel* find_model(std::string_view name);
/// Every name that find_model() knows, ordered.
std::vector<std::string> model_names();

/// The features that the model lists, its parents' included.
FeatureSet listed_features(const CpuModel& model);

}  // namespace atl::cpu
