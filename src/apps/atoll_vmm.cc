// atoll-vmm: runs one virtual machine, with the command line of qemu-system-x86_64.
#include <string>
#include <vector>

#include "base/log.h"
#include "control/run_vmm.h"

int main(int argc, char** argv) {
  atl::set_log_program("atoll-vmm");
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return atl::control::run_vmm(arguments);
}
