// atoll-img: makes, converts, checks and exports disk images, with the command line of qemu-img.
#include <string>
#include <vector>

#include "base/log.h"
#include "img/command.h"

int main(int argc, char** argv) {
  atl::set_log_program("atoll-img");
  std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return atl::img::run_img(words);
}
