#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {

HostFeatures HostFeatures::detect() {
  CpuidTable host = cpu::host_cpuid();
  return {.bmi2 = host.has("bmi2"), .avx = host.has("avx")};
}

Translator::Translator(const CpuidTable& cpuid, HostFeatures host) : decoder_(cpuid), features_(cpuid), host_(host) {}

Result<Draft> Translator::translate(const Request& request) const {
  auto code = static_cast<CodeSize>(request.mode & 3);
  InsnDecoder insns(features_, request.mode);
  CodeKind kind{insns, decoder_, {.code = code, .flat_data = true, .flat_stack = true}};
  SourceRegion region = TRY(explore(request, kind));
  find_live_flags(region);
  Draft draft = Emitter(request, region, host_).run();
  draft.ops = std::move(region.ops);
  return draft;
}

}  // namespace atl::soft::translate
