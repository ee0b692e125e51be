#include "control/screen/vnc.h"

#include "control/vm_control.h"

namespace atl::control {

using namespace display;

class RemoteScreen::Black final : public Screen {
 public:
  void draw(Surface& surface) override {
    if (surface.empty()) surface.resize(640, 480);
  }
  std::string text() override { return {}; }
};

Result<std::unique_ptr<RemoteScreen>> RemoteScreen::create(Loop& loop, const vnc::ServerOptions& options, VmControl& control) {
  std::unique_ptr<RemoteScreen> remote(new RemoteScreen(control.input()));
  Screen* screen = control.machine().screen();
  if (!screen) {
    remote->black_ = std::make_unique<Black>();
    screen = remote->black_.get();
  }
  vnc::Input hands{.key = [&input = remote->input_](u8 number, bool down) { (void)input.key(number, down); },
                   .pointer = [r = remote.get()](u32 x, u32 y, u8 buttons) { r->point(x, y, buttons); }};
  remote->server_ = TRY(vnc::Server::create(loop, options, *screen, std::move(hands)));
  return remote;
}

RemoteScreen::RemoteScreen(UserInput& input) : input_(input) {}
RemoteScreen::~RemoteScreen() = default;

/// The mouse tells movements, not places. Buttons: left, middle, right, wheel up, wheel down.
void RemoteScreen::point(u32 x, u32 y, u8 buttons) {
  const u8 turned = static_cast<u8>(buttons & ~wheel_ & 0x18);
  wheel_ = buttons & 0x18;
  const i32 dx = static_cast<i32>(x) - static_cast<i32>(std::exchange(x_, x));
  const i32 dy = static_cast<i32>(y) - static_cast<i32>(std::exchange(y_, y));
  const u8 held = static_cast<u8>((buttons & 1) | (buttons & 2) << 1 | (buttons & 4) >> 1);
  if (dx || dy || turned) (void)input_.move(dx, dy, (turned & 0x10 ? 1 : 0) - (turned & 8 ? 1 : 0));
  if (held != input_.buttons()) (void)input_.set_buttons(held);
}

}  // namespace atl::control
