// Helpers on a domain's XML tree. The normalised tree is the description of a domain: every choice that libvirt leaves to the
// hypervisor stands in it, under libvirt's own names, so that whoever composes a VM only reads.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "manage/error.h"
#include "manage/xml/element.h"
#include "manage/xml/values.h"

namespace atl::manage {

using xml::Element;

/// The child of that name, appended if there is none.
inline Element& ensure(Element& parent, std::string_view name) {
  Element* child = parent.child(name);
  return child ? *child : parent.add(name);
}

/// Sets an attribute that is absent.
inline void set_default(Element& element, std::string_view name, std::string_view value) {
  if (!element.has_attribute(name)) element.set(name, value);
}

/// The attribute of a child ("driver", "type"); "" if either is absent.
inline std::string at(const Element& element, std::string_view child, std::string_view attribute) {
  const Element* found = element.find(child);
  return found ? found->attribute(attribute) : std::string();
}

/// The same as a number.
inline std::optional<u64> number_at(const Element& element, std::string_view child, std::string_view attribute) {
  return parse_u64(at(element, child, attribute));
}

/// The text of a child, white space trimmed; "" if absent.
inline std::string text_at(const Element& element, std::string_view child) {
  const Element* found = element.find(child);
  return found ? std::string(trim(found->text())) : std::string();
}

/// All children with that name, to be changed.
inline std::vector<Element*> each(Element& parent, std::string_view name) {
  std::vector<Element*> found;
  for (Element& child : parent.content())
    if (child.name() == name) found.push_back(&child);
  return found;
}

/// <devices>, which every normalised tree has.
inline Element& devices_of(Element& domain) { return ensure(domain, "devices"); }
inline const Element& devices_of(const Element& domain) {
  static const Element kNone("devices");
  const Element* devices = domain.child("devices");
  return devices ? *devices : kNone;
}

/// Of memory elements in a normalised tree, whose unit is KiB.
inline u64 kib_at(const Element& domain, std::string_view child) { return parse_u64(text_at(domain, child)).value_or(0); }

}  // namespace atl::manage
