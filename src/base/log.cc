#include "base/log.h"

#include <unistd.h>

#include <ctime>
#include <string>

#include "base/clock.h"

namespace atl {
namespace {

// Program name: written once by main before any thread starts.
std::string& program() {
  static std::string name = "atoll";
  return name;
}

// Likewise.
bool& timestamps() {
  static bool on = false;
  return on;
}

/// "2026-11-21T14:03:00.123456Z ", or nothing.
std::string timestamp() {
  if (!timestamps()) return {};
  u64 now_ns = realtime_ns();
  time_t seconds = static_cast<time_t>(now_ns / 1'000'000'000);
  tm fields;
  ::gmtime_r(&seconds, &fields);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z ", fields.tm_year + 1900, fields.tm_mon + 1, fields.tm_mday,
                     fields.tm_hour, fields.tm_min, fields.tm_sec, now_ns / 1000 % 1'000'000);
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
void set_log_timestamps(bool on) { timestamps() = on; }

void log_text(LogLevel level, std::string_view text) {
  std::string line = fmt::format("{}{}: {}{}\n", timestamp(), program(), label(level), text);
  // One write a line, so that lines of several threads do not mix; a closed stderr is nobody's problem.
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace atl
