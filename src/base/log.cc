#include "base/log.h"

#include <unistd.h>

#include <string>

namespace atl {
namespace {

// Program name: written once by main before any thread starts.
std::string& program() {
  static std::string name = "atoll";
  return name;
}

constexpr std::string_view label(LogLevel level) {
  switch (level) {
    case LogLevel::Warning: return "warning: ";
    case LogLevel::Error: return "error: ";
    default: return "";
  }
}

}  // namespace

void set_log_program(std::string_view name) { program() = name; }

void log_text(LogLevel level, std::string_view text) {
  std::string line = fmt::format("{}: {}{}\n", program(), label(level), text);
  // One write a line, so that lines of several threads do not mix; a closed stderr is nobody's problem.
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace atl
