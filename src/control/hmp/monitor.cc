#include "control/hmp/monitor.h"

#include <fmt/format.h>

#include "control/hmp/execute.h"
#include "control/version.h"

namespace atl::control {

HmpMonitor::HmpMonitor(VmControl& vm, CharBackend& chars)
    : vm_(vm), chars_(chars), editor_("(qemu) ", [this](std::string_view line) { return hmp_completions(vm_, line); }) {
  chars_.attach({
      .can_receive = [this] { return output_.empty() && vm_.has_machine() ? size_t{256} : 0; },
      .receive = [this](std::span<const u8> data) { receive(data); },
      .event = [this](CharEvent event) { on_event(event); },
      .writable = [this] { push_output(); },
  });
}

HmpMonitor::~HmpMonitor() { chars_.detach(); }

// On a mux, Opened also means that the focus came back: the prompt is shown again then.
void HmpMonitor::on_event(CharEvent event) {
  if (event == CharEvent::Closed) {
    greeted_ = false;
    output_.clear();
    editor_.reset();
  }
  if (event != CharEvent::Opened) return;
  if (!std::exchange(greeted_, true))
    print(fmt::format("QEMU {}.{}.{} monitor - type 'help' for more information\r\n", kQemuMajor, kQemuMinor, kQemuMicro));
  else
    print("\r\n");
  print(editor_.show());
}

void HmpMonitor::receive(std::span<const u8> data) {
  for (u8 byte : data) {
    std::string echo;
    auto line = editor_.feed(byte, echo);
    print(echo);
    if (!line) continue;
    print(hmp_execute(vm_, *line, cpu_, editor_.history()));
    if (vm_.is_quitting()) return;
    print(editor_.show());
  }
}

void HmpMonitor::print(std::string_view text) {
  output_ += text;
  push_output();
}

void HmpMonitor::push_output() {
  if (output_.empty()) return;
  size_t taken = chars_.write(std::span<const u8>(reinterpret_cast<const u8*>(output_.data()), output_.size()));
  output_.erase(0, taken);
  if (output_.empty()) chars_.accept_input();
}

}  // namespace atl::control
