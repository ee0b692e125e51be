// Bytes from a debugger's connection to the gdb stub.
#include <cstdint>

#include "control/gdb/server.h"

namespace atl::control {
namespace {

struct Backend final : CharBackend {
  void attach(Frontend new_frontend) override { frontend = std::move(new_frontend); }
  void detach() override {}
  size_t write(std::span<const u8> data) override { return data.size(); }
  void accept_input() override {}
  const std::string& id() const override { return name; }
  std::string describe() const override { return {}; }
  Frontend frontend;
  std::string name;
};

struct Target final : GdbTarget {
  u32 cpu_count() const override { return 2; }
  Result<cpu::VcpuState> state(u32) override { return vcpu; }
  Status set_state(u32, const cpu::VcpuState& new_state) override {
    vcpu = new_state;
    return {};
  }
  Result<std::vector<u8>> read(u32, u64, u64 size) override { return std::vector<u8>(size); }
  Status write(u32, u64, std::span<const u8>) override { return {}; }
  Status set_points(const std::vector<cpu::DebugRequest::Point>&) override { return {}; }
  Status resume(std::optional<u32>) override { return {}; }
  Status interrupt() override { return {}; }
  void quit() override {}
  cpu::VcpuState vcpu;
};

}  // namespace
}  // namespace atl::control

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  atl::control::Backend backend;
  atl::control::Target target;
  atl::control::GdbServer server(backend, target);
  backend.frontend.receive({data, size});
  server.stopped(1, std::nullopt);
  return 0;
}
