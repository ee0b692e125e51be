// atoll: virsh's commands, and a look at the host, on one command line.
#include <string>
#include <vector>

#include "client/run_atoll.h"

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return atl::client::run_atoll(arguments);
}
