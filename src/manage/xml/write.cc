#include "manage/xml/write.h"

#include <algorithm>

namespace atl::manage::xml {
namespace {

/// libvirt's own elements have single quotes; what clients put into <metadata> comes back as libxml2 writes it.
enum class Quotes : u8 { Single, Double };

/// Control characters that XML 1.0 cannot hold are left out.
void append_escaped(std::string& out, std::string_view text, Quotes quotes) {
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += quotes == Quotes::Single ? "&apos;" : "'"; break;
      case '"': out += quotes == Quotes::Single ? "&quot;" : "\""; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t' || c == '\r') out += c;
    }
  }
}

/// Line breaks in attributes would come back as blanks.
void append_attribute(std::string& out, std::string_view value, Quotes quotes) {
  for (char c : value) {
    if (c == '\n')
      out += "&#10;";
    else if (c == '\t')
      out += "&#9;";
    else if (c == '\r')
      out += "&#13;";
    else if (c == '"' && quotes == Quotes::Double)
      out += "&quot;";
    else
      append_escaped(out, {&c, 1}, quotes);
  }
}

void append(std::string& out, const Element& element, size_t indent, bool inline_only, Quotes quotes) {
  if (element.is_text()) return append_escaped(out, element.text(), quotes);
  if (!inline_only) out.append(indent, ' ');
  out += '<';
  out += element.name();
  const char quote = quotes == Quotes::Single ? '\'' : '"';
  for (const auto& [name, value] : element.attributes()) {
    out += ' ';
    out += name;
    out += '=';
    out += quote;
    append_attribute(out, value, quotes);
    out += quote;
  }
  const auto& content = element.content();
  if (content.empty()) {
    out += inline_only ? "/>" : "/>\n";
    return;
  }
  // Text between elements must come back byte for byte, so nothing is put between.
  bool mixed = inline_only || std::ranges::any_of(content, [](const Element& part) { return part.is_text(); });
  out += mixed ? ">" : ">\n";
  const Quotes inner = element.name() == "metadata" ? Quotes::Double : quotes;
  for (const Element& part : content) append(out, part, indent + 2, mixed, inner);
  if (!mixed) out.append(indent, ' ');
  out += "</";
  out += element.name();
  out += inline_only ? ">" : ">\n";
}

}  // namespace

std::string write(const Element& element, size_t indent) {
  std::string out;
  append(out, element, indent, false, Quotes::Single);
  return out;
}

void print_as_pair(Element& element, size_t depth) {
  if (element.content().empty()) element.set_text("\n" + std::string(depth * 2, ' '));
}

}  // namespace atl::manage::xml
