// Typed values out of Elements; errors are libvirt's XML_ERROR and name the element, the attribute and the value.
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/types.h"
#include "manage/error.h"
#include "manage/uuid.h"
#include "manage/xml/element.h"

namespace atl::manage::xml {

/// The child <uuid>, or a fresh one.
Result<Uuid> uuid_child(const Element& element);

/// "52:54:00:12:34:56", also with one digit a part.
std::optional<std::array<u8, 6>> parse_mac(std::string_view text);
std::string mac_text(const std::array<u8, 6>& mac);
/// 52:54:00 and three random bytes, the range that QEMU and libvirt give to guests.
std::array<u8, 6> random_mac();

/// Attribute that must be there.
Result<std::string> required_attribute(const Element& element, std::string_view name);
/// Child with text that must be there and not empty.
Result<std::string> required_text(const Element& element, std::string_view child);
/// The child <name>: not empty, no '/', no line break, neither "." nor "..", short enough for a file's name.
Result<std::string> name_child(const Element& element);
Status check_name(std::string_view name);

Result<u64> number(const Element& element, std::string_view attribute, u64 fallback, u64 limit = UINT64_MAX);
Result<std::optional<u64>> optional_number(const Element& element, std::string_view attribute, u64 limit = UINT64_MAX);
Result<bool> yes_no(const Element& element, std::string_view attribute, bool fallback);
Result<bool> on_off(const Element& element, std::string_view attribute, bool fallback);
/// One of `names`: its index; `fallback` if the attribute is absent.
Result<size_t> choice(const Element& element, std::string_view attribute, std::initializer_list<std::string_view> names,
                      size_t fallback);

/// Bytes of a number with a unit: none (`fallback` counts), b, bytes, K, KiB (1024), KB (1000) and so on to E.
Result<u64> scale(u64 number, std::string_view unit, std::string_view fallback = "bytes");
/// The text of an element as bytes, by its attribute "unit".
Result<u64> size_text(const Element& element, std::string_view fallback_unit = "bytes");
/// The same of a child; nothing if absent.
Result<std::optional<u64>> size_child(const Element& element, std::string_view child,
                                      std::string_view fallback_unit = "bytes");

}  // namespace atl::manage::xml
