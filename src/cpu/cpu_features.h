// CPUID's feature bits by name, in QEMU's spelling (SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).
#pragma once

#include <span>
#include <string_view>

#include "base/types.h"
#include "cpu/cpuid.h"

namespace atl::cpu {

/// The registers that hold feature bits.
enum class FeatureWord : u8 {
  k1Edx, k1Ecx, k6Eax, k7Ebx, k7Ecx, k7Edx, k7_1Eax, kDEax, kKvmEax, kExt1Edx, kExt1Ecx, kExt7Edx, kExt8Ebx, kExtAEdx,
};
inline constexpr unsigned kFeatureWords = 14;

struct WordPlace {
  u32 leaf;
  u32 subleaf;
  bool has_subleaf;
  u32 CpuidEntry::* reg;
  std::string_view text;  // as messages have it: "01H:EDX"
};
const WordPlace& place_of(FeatureWord word);

struct Feature {
  std::string_view name;
  FeatureWord word;
  u8 bit;
};
std::span<const Feature> all_features();

/// Accepts QEMU's other spellings too (underscores, "sse4-1", "xd"); nullptr if there is no such feature.
const Feature* find_feature(std::string_view name);

/// One value for each FeatureWord.
class FeatureSet {
 public:
  FeatureSet() = default;
  /// The bits that a table has set.
  explicit FeatureSet(const CpuidTable& table);
  u32& word(FeatureWord w) { return words_[static_cast<unsigned>(w)]; }
  u32 word(FeatureWord w) const { return words_[static_cast<unsigned>(w)]; }
  bool has(const Feature& feature) const { return word(feature.word) >> feature.bit & 1; }
  bool has(std::string_view name) const;
  void set(const Feature& feature, bool on);

 private:
  std::array<u32, kFeatureWords> words_{};
};

}  // namespace atl::cpu
