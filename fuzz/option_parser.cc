// Command lines, one argument a line: parsing opens nothing for writing and starts nothing, and every error is one line.
#include <string>
#include <vector>

#include "control/cmdline/parse.h"

namespace {

std::vector<std::string> lines_of(const uint8_t* data, size_t size) {
  std::vector<std::string> lines(1);
  for (size_t i = 0; i < size; ++i) {
    if (data[i] == '\n') lines.emplace_back();
    else if (data[i] != 0) lines.back() += static_cast<char>(data[i]);
  }
  return lines;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  auto line = atl::control::parse_command_line(lines_of(data, size));
  if (!line || line->text) return 0;
  // Whoever uses a back end finds it.
  for (const auto& monitor : line->program.monitors) CHECK(!monitor.chardev.empty());
  CHECK(line->machine.topology.cpus >= 1 && line->machine.topology.cpus <= 255);
  return 0;
}
