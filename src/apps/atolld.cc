// atolld: manages virtual machines, networks and storage for libvirt's clients.
#include <string>
#include <vector>

#include "base/log.h"
#include "manage/run_daemon.h"

int main(int argc, char** argv) {
  atl::set_log_program("atolld");
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return atl::manage::run_daemon(arguments);
}
