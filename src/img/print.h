// Output of any length to a reader who may go away before its end ("| head").
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>

namespace atl::img {

/// As fmt::print, which would throw: what cannot be written is lost.
template <class... A>
void print_out(fmt::format_string<A...> format, A&&... args) {
  std::string text = fmt::format(format, std::forward<A>(args)...);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace atl::img
