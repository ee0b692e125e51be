// The registers of both TPM interfaces, before a TPM that answers with what the input says. The first byte chooses the
// interface, and between accesses of 4 bytes each and restoring the rest as saved state.
#include <memory>

#include "devices/legacy/tpm_crb.h"
#include "devices/legacy/tpm_tis.h"
#include "fuzz_input.h"

namespace {

using namespace atl;
using namespace atl::devices;

/// Keeps the command under way until the script answers it.
struct SlowTpm final : TpmBackend {
  void execute(std::vector<u8> command, std::function<void(std::vector<u8>)> done) override {
    if (answer || command.empty() || command.size() > 4096) __builtin_trap();  // one at a time, and what fits into a buffer
    answer = std::move(done);
  }
  Status restart() override {
    finish({});  // which the interface must survive, and not mistake for an answer to what it asks next
    return {};
  }
  void finish(std::vector<u8> response) {
    if (answer) std::exchange(answer, {})(std::move(response));
  }
  std::function<void(std::vector<u8>)> answer;
};

template <class Interface>
void run(fuzz::Input in, bool from_state) {
  auto owned = std::make_unique<SlowTpm>();
  SlowTpm& tpm = *owned;
  Interface device(std::move(owned));
  if (from_state) {
    Archive archive(in.rest());
    device.visit(archive);
    return;
  }
  for (int step = 0; step < 2000 && !in.empty(); ++step) {
    const u8 what = in.byte();
    const u64 offset = in.word() % (Interface::kBytes - 3);
    const unsigned width = 1u << (what & 1) * 2;
    if (what < 0x60) (void)device.bus_read(offset, width);
    else if (what < 0xf0) device.bus_write(offset, in.byte() * u64{0x01010101}, width);
    else if (what < 0xfe) tpm.finish(std::vector<u8>(offset, what));
    else device.reset();
  }
  tpm.finish({});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input in(data, size);
  const u8 choice = in.byte();
  if (choice & 2) run<TpmCrb>(in, choice & 1);
  else run<TpmTis>(in, choice & 1);
  return 0;
}
