// Writes Elements as libvirt prints XML: two spaces a level, single quotes, <empty/>, text on the line of its element.
#pragma once

#include <string>

#include "manage/xml/element.h"

namespace atl::manage::xml {

/// Ends with a newline. `indent`: how many spaces stand before the outermost element.
std::string write(const Element& element, size_t indent = 0);

/// libvirt prints some empty elements as a pair of tags on two lines. `depth` is how deep the element lies.
void print_as_pair(Element& element, size_t depth);

}  // namespace atl::manage::xml
