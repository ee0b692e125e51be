#include "control/screen/vnc.h"

#include <fmt/format.h>

#include "base/clock.h"
#include "base/strings.h"
#include "base/tls.h"
#include "control/vm_control.h"

namespace atl::control {

using namespace display;

Result<i64> password_end(std::string_view time) {
  constexpr u64 kSecond_ns = 1'000'000'000;
  const u64 now = realtime_ns() / kSecond_ns;
  if (time == "never") return i64{0};
  if (time == "now") return static_cast<i64>(now);
  const bool relative = time.starts_with('+');
  const auto seconds = parse_u64(time.substr(relative));
  if (!seconds || *seconds > u64{1} << 40) return Error(ErrorKind::Invalid, fmt::format("Parameter 'time' does not accept value '{}'", time));
  return static_cast<i64>(relative ? now + *seconds : std::max<u64>(*seconds, 1));
}

class RemoteScreen::Black final : public Screen {
 public:
  void draw(Surface& surface) override {
    if (surface.empty()) surface.resize(640, 480);
  }
  std::string text() override { return {}; }
};

Result<std::unique_ptr<RemoteScreen>> RemoteScreen::create(Loop& loop, const VncConfig& config, VmControl& control) {
  std::unique_ptr<RemoteScreen> remote(new RemoteScreen(config, control));
  const ScreenList& screens = control.machine().screens();
  Screen* screen = config.device.empty() ? screens.first() : screens.find(config.device);
  if (!screen && !config.device.empty()) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", config.device));
  if (!screen) {
    remote->black_ = std::make_unique<Black>();
    screen = remote->black_.get();
  }
  remote->screen_ = screen;
  remote->server_ = TRY(vnc::Server::create(loop, config.server, *screen, remote->hands()));
  remote->server_->set_event_handler([&control](const vnc::ViewerChange& change) {
    control.report({.kind = machine::Event::Kind::RemoteViewer, .viewer = std::make_shared<vnc::ViewerChange>(change)});
  });
  return remote;
}

RemoteScreen::RemoteScreen(const VncConfig& config, VmControl& control) : config_(config), control_(control), input_(control.input()) {}
RemoteScreen::~RemoteScreen() = default;

vnc::Input RemoteScreen::hands() {
  vnc::Input hands;
  hands.key = [this](u8 number, bool down) { (void)input_.key(number, down); };
  hands.pointer = [this](u32 x, u32 y, u8 buttons) { point(x, y, buttons); };
  hands.move = [this](i32 dx, i32 dy, u8 buttons) { move(dx, dy, buttons); };
  hands.absolute = [this] { return input_.absolute(); };
  hands.leds = [this] { return control_.machine().input().leds(); };
  hands.resize = [this](u32 width, u32 height) { return screen_->wish_size(width, height); };
  if (config_.power_control) hands.power = [this](vnc::PowerAction action) { return power(action); };
  return hands;
}

/// The guest's pointer is told the place, or the way there from the last one.
void RemoteScreen::point(u32 x, u32 y, u8 buttons) {
  const Surface& picture = server_->picture();
  auto scale = [](u32 at, u32 size) { return static_cast<i32>(u64{std::min(at, size - 1)} * PointerEvent::kMax / std::max(size - 1, 1u)); };
  const i32 dx = static_cast<i32>(x) - static_cast<i32>(std::exchange(x_, x));
  const i32 dy = static_cast<i32>(y) - static_cast<i32>(std::exchange(y_, y));
  if (input_.absolute()) {
    if (!picture.empty()) (void)input_.point(scale(x, picture.width()), scale(y, picture.height()));
    return press_buttons(buttons);
  }
  move(dx, dy, buttons);
}

void RemoteScreen::move(i32 dx, i32 dy, u8 buttons) {
  if (dx || dy) (void)input_.move(dx, dy, 0);
  press_buttons(buttons);
}

/// Left, middle, right, wheel up, wheel down.
void RemoteScreen::press_buttons(u8 buttons) {
  const u8 turned = static_cast<u8>(buttons & ~wheel_ & 0x18);
  wheel_ = buttons & 0x18;
  const u8 held = static_cast<u8>((buttons & 1) | (buttons & 2) << 1 | (buttons & 4) >> 1);
  if (turned) (void)input_.move(0, 0, (turned & 0x10 ? 1 : 0) - (turned & 8 ? 1 : 0));
  if (held != input_.buttons()) (void)input_.set_buttons(held);
}

bool RemoteScreen::power(vnc::PowerAction action) {
  if (action == vnc::PowerAction::Shutdown) return control_.machine().powerdown().has_value();
  return action == vnc::PowerAction::Reset && control_.machine().reset().has_value();
}

Status RemoteScreen::reload_credentials() {
  const auto& old = config_.server.settings.tls;
  if (!old) return Error(ErrorKind::Invalid, "vnc tls is not enabled");
  server_->set_credentials(TRY(TlsCredentials::load(old->options())));
  return {};
}

}  // namespace atl::control
