// JSON as text: reading hostile input, and framing a stream. (Writing it: base/json_text.h.)
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/json_text.h"
#include "base/result.h"
#include "base/types.h"

namespace atl::control {

inline constexpr size_t kJsonLimitBytes = 1 * kMiB;
inline constexpr int kJsonLimitDepth = 256;

/// One value with nothing after it; strings may stand between single quotes. Refuses texts past the limits of size and nesting.
Result<nlohmann::json> parse_json(std::string_view text);
/// Cuts a stream of bytes into top-level JSON values.
class JsonFramer {
 public:
  /// What feed() found: the text of one value, or why the stream makes no sense up to here.
  struct Frame {
    std::string text;
    bool error = false;
  };
  /// Takes one byte; gives a frame when it completes one.
  std::optional<Frame> feed(char byte);
  void reset();

 private:
  std::optional<Frame> finish(bool error);
  std::optional<Frame> start_value(char byte);

  std::string text_;
  int depth_ = 0;
  char quote_ = 0;          // of the string that we are in; 0: none
  bool escaped_ = false;
  bool scalar_ = false;     // a bare word or number outside any bracket
  bool skipping_ = false;   // after an error: until the next line
};

}  // namespace atl::control
