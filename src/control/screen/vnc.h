// The remote screen of a VM: -vnc. Control thread.
#pragma once

#include <memory>

#include "control/options.h"
#include "control/screen/user_input.h"
#include "display/vnc/server.h"

namespace atl::control {

class VmControl;

/// Of expire_password: "now", "never", "+seconds" or seconds since the epoch; the result is the latter, 0 for never.
Result<i64> password_end(std::string_view time);

class RemoteScreen {
 public:
  /// The machine exists; without a display adapter, viewers see black.
  static Result<std::unique_ptr<RemoteScreen>> create(Loop& loop, const VncConfig& config, VmControl& control);
  ~RemoteScreen();

  display::vnc::Server& server() { return *server_; }
  const std::string& id() const { return config_.id; }
  /// Reads keys and certificates anew, for viewers to come.
  Status reload_credentials();

 private:
  class Black;
  RemoteScreen(const VncConfig& config, VmControl& control);
  display::vnc::Input hands();
  void point(u32 x, u32 y, u8 buttons);
  void move(i32 dx, i32 dy, u8 buttons);
  void press_buttons(u8 buttons);
  bool power(display::vnc::PowerAction action);

  const VncConfig config_;
  VmControl& control_;
  UserInput& input_;
  display::Screen* screen_ = nullptr;
  std::unique_ptr<Black> black_;
  std::unique_ptr<display::vnc::Server> server_;
  u32 x_ = 0, y_ = 0;   // where the pointer was
  u8 wheel_ = 0;        // wheel buttons that were held
};

}  // namespace atl::control
