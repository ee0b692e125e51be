#include "base/json_quotes.h"

namespace atl {

std::string with_double_quotes(std::string_view json) {
  std::string text;
  text.reserve(json.size());
  char quote = 0;   // of the string that we are in; 0: none
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (quote && c == '\\' && i + 1 < json.size()) {
      const char escaped = json[++i];
      if (escaped != '\'') text += '\\';   // JSON itself knows no \'
      text += escaped;
    } else if (c == '"' && quote == '\'') {
      text += "\\\"";
    } else if (c == '\'' && quote != '"') {
      quote = quote ? 0 : c;
      text += '"';
    } else {
      if (c == '"') quote = quote ? 0 : c;
      text += c;
    }
  }
  return text;
}

}  // namespace atl
