// The errors of XML that libvirt's clients know by number.
#pragma once

#include <string>
#include <string_view>

#include "manage/error.h"

namespace atl::manage::xml {

/// Not well-formed; the text is shown as it is.
inline Error detail_error(std::string text) { return {Code::XmlDetail, std::move(text), Part::Xml}; }
/// Well-formed, but not what it should be.
inline Error xml_error(std::string text) { return {Code::XmlError, std::move(text), Part::Xml}; }

}  // namespace atl::manage::xml
