// A screen in the guest's own memory: firmware writes its place and shape into fw_cfg's file "etc/ramfb" (QEMU
// docs/specs/fw_cfg.rst), and what lies there is shown. No registers, no modes; an operating system takes over what firmware set up.
// Supported: pictures of 16 to 16000 by 16 to 12000 pixels of 16, 24 or 32 bits. Missing: formats that QEMU knows besides.
//
// Threads: the file is written on vCPU threads; all else on the control thread.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "devices/device.h"
#include "devices/legacy/fw_cfg.h"
#include "display/screen.h"
#include "memory/address_space.h"

namespace atl::devices {

class RamFb final : public Device, public display::Screen {
 public:
  static constexpr const char* kFileName = "etc/ramfb";
  static constexpr size_t kFileBytes = 28;

  /// Both outlive this.
  RamFb(memory::AddressSpace& memory, display::ScreenList& screens, std::string id);
  ~RamFb() override { screens_.remove(*this); }

  /// What the guest writes; to be added to fw_cfg.
  FwCfg::LiveFile file();

  std::string_view type() const override { return "ramfb"; }
  void reset() override { set_picture(std::nullopt); }
  void visit(Archive& archive) override;
  std::string describe() const override;

  void draw(display::Surface& surface) override;
  std::string text() override { return {}; }

 private:
  struct Format;
  struct Picture {
    std::array<u8, kFileBytes> file{};  // as the guest wrote it
    GuestAddr base = 0;
    u32 width = 0, height = 0, row_bytes = 0;
    const Format* format = nullptr;
  };
  static const Format kFormats[];

  static std::optional<Picture> parse(std::span<const u8> file);
  void set_picture(std::optional<Picture> picture);

  memory::AddressSpace& memory_;
  display::ScreenList& screens_;
  std::atomic<std::shared_ptr<const Picture>> picture_;  // none until firmware has set one up
};

}  // namespace atl::devices
