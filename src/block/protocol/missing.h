// Protocols that this build does not have: known by name, refused with a hint.
#pragma once

#include <algorithm>
#include <string>

#include "block/driver.h"

namespace atl::block {

template <size_t n>
struct FixedText {
  constexpr FixedText(const char (&source)[n]) { std::copy_n(source, n, text); }
  char text[n];
};

template <FixedText name, FixedText hint>
Task<Result<NodePtr>> refuse_open(Graph&, Json, OpenMode, std::string) {
  co_return Error(ErrorKind::Unsupported, std::string("Protocol '") + name.text + "' is not supported: " + hint.text, ENOTSUP);
}

template <FixedText name>
Result<Json> parse_missing_name(std::string_view filename) {
  return Json{{"driver", name.text}, {"filename", std::string(filename)}};
}

template <FixedText name, FixedText hint>
Driver missing_driver() {
  Driver driver;
  driver.name = name.text;
  driver.protocol = true;
  driver.schemes = {name.text};
  driver.parse_name = parse_missing_name<name>;
  driver.open = refuse_open<name, hint>;
  return driver;
}

}  // namespace atl::block
