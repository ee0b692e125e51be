// The remote screen of a VM: -vnc. Control thread.
#pragma once

#include <memory>

#include "control/screen/user_input.h"
#include "display/vnc/server.h"

namespace atl::control {

class VmControl;

class RemoteScreen {
 public:
  /// The machine exists; without a display adapter, viewers see black.
  static Result<std::unique_ptr<RemoteScreen>> create(Loop& loop, const display::vnc::ServerOptions& options, VmControl& control);
  ~RemoteScreen();

  display::vnc::Server& server() { return *server_; }

 private:
  class Black;
  explicit RemoteScreen(UserInput& input);
  void point(u32 x, u32 y, u8 buttons);

  UserInput& input_;
  std::unique_ptr<Black> black_;
  std::unique_ptr<display::vnc::Server> server_;
  u32 x_ = 0, y_ = 0;   // where the pointer was
  u8 wheel_ = 0;        // wheel buttons that were held
};

}  // namespace atl::control
