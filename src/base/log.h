// What a program says about itself on standard error: "atoll-vmm: warning: text". Any thread.
#pragma once

#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace atl {

enum class LogLevel : unsigned char { Info, Warning, Error };

/// The name put before each line; set once in main.
void set_log_program(std::string_view name);
/// Whether each line begins with the time of day, UTC; set before other threads exist.
void set_log_timestamps(bool on);
void log_text(LogLevel level, std::string_view text);

template <class... A>
void log_info(fmt::format_string<A...> format, A&&... args) {
  log_text(LogLevel::Info, fmt::format(format, std::forward<A>(args)...));
}
template <class... A>
void log_warning(fmt::format_string<A...> format, A&&... args) {
  log_text(LogLevel::Warning, fmt::format(format, std::forward<A>(args)...));
}
template <class... A>
void log_error(fmt::format_string<A...> format, A&&... args) {
  log_text(LogLevel::Error, fmt::format(format, std::forward<A>(args)...));
}

}  // namespace atl
