// atoll-img: makes, converts, checks and exports disk images, with the command line of qemu-img.
#include <malloc.h>

#include <string>
#include <vector>

#include "base/log.h"
#include "img/command.h"

namespace {

/// A short program that takes and gives back tables and buffers all the time: memory that it had is kept for the next.
void keep_memory() {
  ::mallopt(M_TRIM_THRESHOLD, 32 << 20);
  ::mallopt(M_MMAP_THRESHOLD, 8 << 20);
  ::mallopt(M_TOP_PAD, 1 << 20);
}

}  // namespace

int main(int argc, char** argv) {
  keep_memory();
  const std::string program = argc > 0 ? argv[0] : "atoll-img";
  atl::set_log_program(program.substr(program.rfind('/') + 1));
  std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return atl::img::run_img(program, std::move(words));
}
