// Reads XML 1.0 (fifth edition) with libxml2 into Elements.
//
// Input is hostile: a document type declaration is refused (so there are no entities beyond the five predefined ones,
// and nothing is ever fetched), and depth, number and size are bounded. Comments and processing instructions are
// dropped.
#pragma once

#include <string_view>

#include "manage/error.h"
#include "manage/xml/element.h"

namespace atl::manage::xml {

struct Limits {
  size_t bytes = 4 * kMiB;  // the longest string that libvirt's protocol carries
  size_t depth = 64;
  size_t elements = 100'000;
  size_t attributes = 256;              // of one element
  size_t attribute_bytes = 256 * kKiB;  // of one value
};

/// `source` names the text in messages: "(network_definition)", or a file's path. The error is libvirt's XML_DETAIL:
/// the line's number, what is wrong, the line and a caret.
Result<Element> parse(std::string_view text, std::string_view source, const Limits& limits = {});
/// The same, and the root must be called `root`.
Result<Element> parse(std::string_view text, std::string_view source, std::string_view root);

}  // namespace atl::manage::xml
