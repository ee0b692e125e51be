// For tests: a virtual machine without CPUs whose interrupts are counted.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "cpu/vm.h"

namespace atl::devices {

class FakeVm final : public cpu::Vm {
 public:
  struct Line final : cpu::IrqLine {
    void set(bool new_level) override { level = new_level; }
    bool level = false;
  };
  /// What a message did, by route in order of creation.
  struct Route {
    cpu::MsiMessage message;
    int fired = 0;
  };

  std::string_view accelerator() const override { return "fake"; }
  cpu::CpuidLimits cpuid_limits() const override { return {}; }
  Result<std::unique_ptr<cpu::Vcpu>> create_vcpu(u32, const cpu::CpuidTable&) override {
    return Error(ErrorKind::Unsupported, "no CPUs here");
  }
  cpu::IrqLine& gsi(u32 number) override { return lines.at(number); }
  void send_msi(const cpu::MsiMessage&) override {}
  Result<std::unique_ptr<cpu::MsiRoute>> create_msi_route() override {
    routes.push_back(std::make_shared<Route>());
    return std::make_unique<RouteHandle>(routes.back());
  }
  void pause_clock() override {}
  void resume_clock() override {}
  Status reset_irqchip() override { return {}; }
  Result<std::vector<u8>> save_irqchip() override { return std::vector<u8>{}; }
  Status restore_irqchip(std::span<const u8>) override { return {}; }
  std::string describe_irqchip(std::string_view) override { return {}; }
  cpu::Counters counters() const override { return {}; }

  std::array<Line, 24> lines;
  std::vector<std::shared_ptr<Route>> routes;

 private:
  struct RouteHandle final : cpu::MsiRoute {
    explicit RouteHandle(std::shared_ptr<Route> new_route) : route(std::move(new_route)) {}
    void set_message(const cpu::MsiMessage& message) override { route->message = message; }
    void fire() override { ++route->fired; }
    std::shared_ptr<Route> route;
  };
};

}  // namespace atl::devices
