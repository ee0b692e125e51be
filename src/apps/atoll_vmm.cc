// atoll-vmm: runs one virtual machine, with the command line of qemu-system-x86_64.
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "control/run_vmm.h"

int main(int argc, char** argv) {
  // Under QEMU's name it speaks under that name.
  const std::string_view path = argc > 0 ? argv[0] : "";
  atl::set_log_program(path.empty() ? "atoll-vmm" : path.substr(path.find_last_of('/') + 1));
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return atl::control::run_vmm(arguments);
}
