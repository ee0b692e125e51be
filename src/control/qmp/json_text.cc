#include "control/qmp/json_text.h"

#include <fmt/format.h>
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

/// Decodes one UTF-8 sequence and cuts it off; U+FFFD for a malformed byte.
u32 take_code_point(std::string_view& text) {
  u8 first = static_cast<u8>(text.front());
  size_t length = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
  if (length == 0 || length > text.size()) {
    text.remove_prefix(1);
    return 0xfffd;
  }
  u32 point = length == 1 ? first : first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    u8 next = static_cast<u8>(text[i]);
    if (next >> 6 != 2) {
      text.remove_prefix(i);
      return 0xfffd;
    }
    point = point << 6 | (next & 0x3f);
  }
  text.remove_prefix(length);
  return point;
}

void append_code_point(std::string& out, u32 point) {
  switch (point) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default: break;
  }
  if (point >= 0x20 && point < 0x7f) {
    out += static_cast<char>(point);
  } else if (point < 0x10000) {
    fmt::format_to(std::back_inserter(out), "\\u{:04X}", point);
  } else {
    point -= 0x10000;
    fmt::format_to(std::back_inserter(out), "\\u{:04X}\\u{:04X}", 0xd800 + (point >> 10), 0xdc00 + (point & 0x3ff));
  }
}

void append_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) append_code_point(out, take_code_point(text));
  out += '"';
}

/// Where a nested value stands: how deep, and whether lines are broken.
struct Layout {
  bool pretty;
  int depth = 0;
  void line(std::string& out) const {
    if (pretty) out.append("\n").append(static_cast<size_t>(depth) * 4, ' ');
  }
  std::string_view separator() const { return pretty ? "," : ", "; }
  Layout inner() const { return {pretty, depth + 1}; }
};

void append_value(std::string& out, const Json& value, Layout layout);

template <class Each>
void append_list(std::string& out, char open, char close, size_t size, Layout layout, Each each) {
  out += open;
  size_t done = 0;
  each([&] {
    if (done++) out += layout.separator();
    layout.inner().line(out);
  });
  if (size) layout.line(out);
  out += close;
}

void append_value(std::string& out, const Json& value, Layout layout) {
  if (value.is_object()) {
    append_list(out, '{', '}', value.size(), layout, [&](auto next) {
      for (const auto& [key, member] : value.items()) {
        next();
        append_string(out, key);
        out += ": ";
        append_value(out, member, layout.inner());
      }
    });
  } else if (value.is_array()) {
    append_list(out, '[', ']', value.size(), layout, [&](auto next) {
      for (const auto& member : value) {
        next();
        append_value(out, member, layout.inner());
      }
    });
  } else if (value.is_string()) {
    append_string(out, value.get_ref<const std::string&>());
  } else {
    out += value.dump();
  }
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

std::string json_text(const Json& value, bool pretty) {
  std::string out;
  append_value(out, value, {pretty});
  return out;
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
