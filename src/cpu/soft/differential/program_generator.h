// Random programs: straight-line code, forward branches, bounded loops, calls and returns, indirect jumps, stores into code.
#pragma once

#include "cpu/soft/differential/program.h"
#include "cpu/soft/differential/vocabulary.h"

namespace atl::soft::differential {

class ProgramGenerator {
 public:
  explicit ProgramGenerator(u64 seed);
  /// Program `index` of this seed, whatever was made before it; `memory` is filled with what the window holds.
  Program make(u64 index, std::array<u8, kWindowBytes>& memory);
  const Instructions& instructions() const { return instructions_; }

 private:
  static constexpr u64 kProgramsPerVocabulary = 256;

  u64 seed_;
  Instructions instructions_;
  Vocabulary vocabulary_;
  u64 vocabulary_index_ = ~u64{0};
  std::array<u8, kWindowBytes> pattern_;
};

}  // namespace atl::soft::differential
