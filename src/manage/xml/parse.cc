#include "manage/xml/parse.h"

#include <fmt/format.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>

#include <algorithm>
#include <memory>

#include "manage/xml/errors.h"

namespace atl::manage::xml {
namespace {

std::string_view view(const xmlChar* text) { return text ? reinterpret_cast<const char*>(text) : ""; }

/// The line where the parser stands, at most 80 bytes of it, and a caret below.
std::string excerpt(const xmlParserInput* input) {
  constexpr ptrdiff_t kWidth = 80;
  if (!input || !input->cur || !input->base) return {};
  const xmlChar* at = input->cur;
  auto ends = [](xmlChar c) { return c == '\n' || c == '\r'; };
  while (at > input->base && (ends(*at) || *at == 0)) --at;
  const xmlChar* begin = at;
  while (begin > input->base && !ends(begin[-1]) && at - begin < kWidth) --begin;
  const xmlChar* end = begin;
  while (end < input->end && *end && !ends(*end) && end - begin < kWidth) ++end;
  return fmt::format("{}\n{}^",
                     std::string_view(reinterpret_cast<const char*>(begin), static_cast<size_t>(end - begin)),
                     std::string(static_cast<size_t>(std::max<ptrdiff_t>(at - begin, 0)), '-'));
}

/// Skips from `at` behind the next `end`.
size_t skip_behind(std::string_view text, size_t at, std::string_view end) {
  size_t found = text.find(end, at);
  return found == std::string_view::npos ? text.size() : found + end.size();
}

/// Whether a tag holds more attributes than allowed: libxml2 compares each with each, which a client could make it do
/// for minutes.
bool has_crowded_tag(std::string_view text, size_t limit) {
  for (size_t at = text.find('<'); at < text.size(); at = text.find('<', at)) {
    std::string_view tag = text.substr(at);
    if (tag.starts_with("<!--"))
      at = skip_behind(text, at, "-->");
    else if (tag.starts_with("<![CDATA["))
      at = skip_behind(text, at, "]]>");
    else if (tag.starts_with("<?"))
      at = skip_behind(text, at, "?>");
    else {
      size_t attributes = 0;
      for (char quote = 0; ++at < text.size() && (quote || text[at] != '>');) {
        char c = text[at];
        if (quote ? c == quote : c == '\'' || c == '"') quote = quote ? '\0' : c;
        if (!quote && c == '=' && ++attributes > limit) return true;
      }
    }
  }
  return false;
}

/// What libxml2's callbacks fill.
class Builder {
 public:
  Builder(xmlParserCtxt* parser, const Limits& limits) : parser_(parser), limits_(limits) {}

  void start(const xmlChar* name, const xmlChar** attributes) {
    if (!refusal_.empty()) return;
    if (open_.size() >= limits_.depth) return refuse("elements nest too deeply");
    if (++elements_ > limits_.elements) return refuse("too many elements");
    Element element(std::string(view(name)), line());
    for (; attributes && *attributes; attributes += 2) {
      if (view(attributes[1]).size() > limits_.attribute_bytes) return refuse("attribute value is too long");
      element.set(view(attributes[0]), view(attributes[1]));
    }
    if (open_.empty()) {
      root_ = std::move(element);
      open_.push_back(&root_);
    } else {
      open_.push_back(&open_.back()->add(std::move(element)));
    }
  }

  void end() {
    if (!refusal_.empty() || open_.empty()) return;
    open_.back()->drop_blank_text();
    open_.pop_back();
  }

  void text(std::string_view text) {
    if (refusal_.empty() && !open_.empty()) open_.back()->add_text(text);
  }

  void refuse(std::string reason) {
    if (!refusal_.empty()) return;
    refusal_ = std::move(reason);
    refused_line_ = line();
    xmlStopParser(parser_);
  }

  /// The first fatal one counts: the rest follow from it.
  void note_error() {
    const xmlError& error = parser_->lastError;
    if (error.level != XML_ERR_FATAL || !error_.empty()) return;
    error_ = fmt::format("{}: {}{}", std::max(error.line, 1), error.message ? error.message : "not well formed\n",
                         excerpt(parser_->input));
  }

  u32 line() const { return parser_->input ? static_cast<u32>(std::max(parser_->input->line, 0)) : 0; }
  const std::string& refusal() const { return refusal_; }
  u32 refused_line() const { return refused_line_; }
  const std::string& first_error() const { return error_; }
  Element take() { return std::move(root_); }

 private:
  xmlParserCtxt* parser_;
  const Limits& limits_;
  Element root_;
  std::vector<Element*> open_;
  size_t elements_ = 0;
  std::string refusal_;
  u32 refused_line_ = 0;
  std::string error_;
};

Builder& builder(void* user) { return *static_cast<Builder*>(user); }

void on_start(void* user, const xmlChar* name, const xmlChar** attributes) { builder(user).start(name, attributes); }
void on_end(void* user, const xmlChar*) { builder(user).end(); }
void on_text(void* user, const xmlChar* text, int bytes) {
  builder(user).text({reinterpret_cast<const char*>(text), static_cast<size_t>(bytes)});
}
void on_doctype(void* user, const xmlChar*, const xmlChar*, const xmlChar*) {
  builder(user).refuse("a document type declaration is not allowed");
}
// The parser calls these with the text alone, and has the rest in lastError.
void on_error(void* user, const char*, ...) { builder(user).note_error(); }
void on_warning(void*, const char*, ...) {}

/// The callbacks: elements with qualified names, text, errors; nothing builds a document or loads anything.
void set_callbacks(xmlSAXHandler& sax) {
  sax = {};             // without an error callback it would print
  sax.initialized = 1;  // the first interface: names come with their prefixes
  sax.startElement = on_start;
  sax.endElement = on_end;
  sax.characters = on_text;
  sax.ignorableWhitespace = on_text;
  sax.cdataBlock = on_text;
  sax.internalSubset = on_doctype;
  sax.error = on_error;
  sax.fatalError = on_error;
  sax.warning = on_warning;
}

struct ParserFree {
  void operator()(xmlParserCtxt* parser) const {
    if (parser->myDoc) xmlFreeDoc(parser->myDoc);
    xmlFreeParserCtxt(parser);
  }
};

}  // namespace

Result<Element> parse(std::string_view text, std::string_view source, const Limits& limits) {
  if (text.size() > limits.bytes) return xml_error(fmt::format("{} is longer than {} bytes", source, limits.bytes));
  if (has_crowded_tag(text, limits.attributes))
    return xml_error(fmt::format("{} has an element with too many attributes", source));
  if (text.empty()) return detail_error(fmt::format("{}:1: Document is empty\n", source));
  std::unique_ptr<xmlParserCtxt, ParserFree> parser(
      xmlCreateMemoryParserCtxt(text.data(), static_cast<int>(text.size())));
  if (!parser) return xml_error("no memory for the parser");
  xmlCtxtUseOptions(parser.get(), XML_PARSE_NONET | XML_PARSE_NOENT | XML_PARSE_NOCDATA);
  set_callbacks(*parser->sax);
  Builder build(parser.get(), limits);
  parser->userData = &build;
  xmlParseDocument(parser.get());
  if (!build.refusal().empty())
    return detail_error(fmt::format("{}:{}: {}\n", source, build.refused_line(), build.refusal()));
  if (!parser->wellFormed) return detail_error(fmt::format("{}:{}", source, build.first_error()));
  return build.take();
}

Result<Element> parse(std::string_view text, std::string_view source, std::string_view root) {
  Element element = TRY(parse(text, source));
  if (element.name() != root)
    return xml_error(fmt::format("expecting root element of '{}', not '{}'", root, element.name()));
  return element;
}

}  // namespace atl::manage::xml
