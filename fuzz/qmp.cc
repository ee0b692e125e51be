// What a QMP client sends, and, behind human-monitor-command, what a human types.
#include "control/fake_chars.h"
#include "control/fake_vm.h"
#include "control/qmp/monitor.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.find("memsave") != std::string_view::npos) return 0;  // would write files
  static atl::control::FakeVm& vm = *new atl::control::FakeVm;  // an io_uring an input is too slow
  atl::control::FakeChars chars;
  atl::control::VmControl control(*vm.loop, vm.line, *vm.chars);
  control.set_machine(&vm.machine);
  vm.machine.log.clear();
  {
    atl::control::QmpMonitor monitor(control, chars, nullptr, false);
    chars.type(R"({"execute": "qmp_capabilities"})");
    chars.take_output();
    chars.type(text);
  }
  control.set_machine(nullptr);
  return 0;
}
