#include "control/qmp/json_text.h"

#include <nlohmann/json.hpp>

#include "base/json_quotes.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

constexpr bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// Deep nesting is refused before the parser sees it.
bool nests_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kJsonLimitDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

Result<Json> parse_json(std::string_view as_typed) {
  if (as_typed.size() > kJsonLimitBytes) return Error(ErrorKind::Invalid, "JSON token size limit exceeded");
  const std::string text = with_double_quotes(as_typed);
  if (nests_too_deep(text)) return Error(ErrorKind::Invalid, "JSON nesting depth limit exceeded");
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return Error(ErrorKind::Invalid, "JSON parse error, invalid syntax");
  return value;
}

void JsonFramer::reset() { *this = JsonFramer(); }

std::optional<JsonFramer::Frame> JsonFramer::finish(bool error) {
  Frame frame{std::move(text_), error};
  reset();
  skipping_ = error;
  return frame;
}

std::optional<JsonFramer::Frame> JsonFramer::start_value(char byte) {
  if (is_space(byte)) return std::nullopt;
  text_ += byte;
  if (byte == '{' || byte == '[') depth_ = 1;
  else if (byte == '"' || byte == '\'') quote_ = byte;
  else if (byte == '}' || byte == ']' || byte == ',' || byte == ':' || static_cast<u8>(byte) < 0x20) return finish(true);
  else scalar_ = true;
  return std::nullopt;
}

std::optional<JsonFramer::Frame> JsonFramer::feed(char byte) {
  if (skipping_) {
    if (byte == '\n') skipping_ = false;
    return std::nullopt;
  }
  if (text_.empty()) return start_value(byte);
  if (scalar_ && is_space(byte)) return finish(false);
  text_ += byte;
  if (text_.size() > kJsonLimitBytes) return finish(true);
  if (scalar_) return std::nullopt;
  if (quote_) {
    if (escaped_) escaped_ = false;
    else if (byte == '\\') escaped_ = true;
    else if (byte == quote_) quote_ = 0;
    if (!quote_ && depth_ == 0) return finish(false);
  } else if (byte == '"' || byte == '\'') {
    quote_ = byte;
  } else if (byte == '{' || byte == '[') {
    if (++depth_ > kJsonLimitDepth) return finish(true);
  } else if (byte == '}' || byte == ']') {
    if (--depth_ == 0) return finish(false);
  }
  return std::nullopt;
}

}  // namespace atl::control
