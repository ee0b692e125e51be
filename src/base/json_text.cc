#include "base/json_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/types.h"

namespace atl {
namespace {

using Json = nlohmann::json;

constexpr u32 kBuckets = 512;

/// The hash of trivial databases (TDB), which QEMU's dictionaries use.
u32 bucket_of(std::string_view key) {
  u32 sum = 0x238F13AF * static_cast<u32>(key.size());
  for (u32 i = 0; i < key.size(); ++i) sum += u32{static_cast<u8>(key[i])} << (i * 5 % 24);
  return (1103515243 * sum + 12345) % kBuckets;
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
void append_list(std::string& out, char open, char close, Layout layout, Each each) {
  out += open;
  size_t done = 0;
  each([&] {
    if (done++) out += layout.separator();
    layout.inner().line(out);
  });
  layout.line(out);
  out += close;
}

void append_value(std::string& out, const Json& value, Layout layout) {
  if (value.is_object()) {
    append_list(out, '{', '}', layout, [&](auto next) {
      for (const std::string& key : ordered_keys(value)) {
        next();
        append_string(out, key);
        out += ": ";
        append_value(out, value[key], layout.inner());
      }
    });
  } else if (value.is_array()) {
    append_list(out, '[', ']', layout, [&](auto next) {
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

std::vector<std::string> ordered_keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  std::ranges::stable_sort(keys, {}, bucket_of);
  return keys;
}

std::string json_text(const Json& value, bool pretty) {
  std::string out;
  append_value(out, value, {pretty});
  return out;
}

}  // namespace atl
