// Board "none": memory and nothing else, no processor either. Management programs start it to ask what this program can do.
#include <fmt/core.h>

#include "machine/boards/board.h"

namespace atl::machine {
namespace {

using namespace devices;

class EmptyBoard final : public Board {
 public:
  Result<Device*> plug(std::unique_ptr<VirtioDevice>, const PlugRequest& request) override {
    return Error(ErrorKind::Unsupported, fmt::format("No 'virtio-bus' bus found for device '{}'", request.type));
  }
  Status request_unplug(Device&) override { return Error(ErrorKind::Unsupported, "this machine has no bus"); }
  std::unique_ptr<Device> unplug(Device&) override { return nullptr; }
  std::vector<Device*> devices() override { return {}; }
  void reset() override {}
  Result<BootEntry> load() override { return BootEntry{.mode = BootEntry::Mode::Reset}; }
  void press_power_button() override {}
  std::string describe() override { return ""; }
  std::string place_of(const Device&) override { return ""; }
  Status add_boot_device(u32, std::string) override { return {}; }
};

}  // namespace

Result<std::unique_ptr<Board>> create_empty_board(const BoardContext& context) {
  const BootConfig& boot = context.config.boot;
  if (!boot.kernel.empty() || !boot.firmware.empty() || !context.flash.empty())
    return Error(ErrorKind::Unsupported, "machine type 'none' has no processor to run a kernel or firmware");
  return std::unique_ptr<Board>(std::make_unique<EmptyBoard>());
}

}  // namespace atl::machine
