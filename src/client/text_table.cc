#include "client/text_table.h"

#include <algorithm>
#include <span>

namespace atl::client {

namespace {

/// Characters rather than bytes: what follows a first byte of UTF-8 takes no room.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string TextTable::text(bool with_titles) const {
  std::span<const std::vector<std::string>> rows = std::span(rows_).subspan(with_titles ? 0 : 1);
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += " " + row[i];
      if (i + 1 < row.size()) out.append(widths[i] - width_of(row[i]) + 2, ' ');
    }
    out += '\n';
    if (&row != &rows_.front()) continue;
    for (size_t width : widths) out.append(width + 3, '-');
    out += '\n';
  }
  return out;
}

}  // namespace atl::client
