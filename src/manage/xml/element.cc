#include "manage/xml/element.h"

#include <algorithm>

#include "base/strings.h"

namespace atl::manage::xml {

std::string Element::text() const {
  if (is_text()) return text_;
  std::string all;
  for (const Element& part : content_)
    if (part.is_text()) all += part.text_;
  return all;
}

const std::string* Element::find_attribute(std::string_view name) const {
  for (const auto& [key, value] : attributes_)
    if (key == name) return &value;
  return nullptr;
}

std::string Element::attribute(std::string_view name) const {
  const std::string* value = find_attribute(name);
  return value ? *value : std::string();
}

const Element* Element::child(std::string_view name) const {
  for (const Element& part : content_)
    if (part.name_ == name && !part.is_text()) return &part;
  return nullptr;
}

Element* Element::child(std::string_view name) { return const_cast<Element*>(std::as_const(*this).child(name)); }

const Element* Element::find(std::string_view path) const {
  const Element* at = this;
  for (std::string_view step : split(path, '/')) {
    at = at->child(step);
    if (!at) return nullptr;
  }
  return at;
}

std::vector<const Element*> Element::children(std::string_view name) const {
  std::vector<const Element*> found;
  for (const Element& part : content_)
    if (part.name_ == name && !part.is_text()) found.push_back(&part);
  return found;
}

std::vector<const Element*> Element::children() const { return children_except({}); }

std::optional<std::string> Element::child_text(std::string_view name) const {
  const Element* found = child(name);
  if (!found) return std::nullopt;
  return found->text();
}

std::vector<const Element*> Element::children_except(const std::vector<std::string_view>& known) const {
  std::vector<const Element*> found;
  for (const Element& part : content_)
    if (!part.is_text() && std::ranges::find(known, part.name_) == known.end()) found.push_back(&part);
  return found;
}

Element& Element::set(std::string_view name, std::string_view value) {
  for (auto& [key, old] : attributes_) {
    if (key != name) continue;
    old = value;
    return *this;
  }
  attributes_.emplace_back(name, value);
  return *this;
}

Element& Element::add(std::string_view name, std::string_view text) {
  Element& made = add(name);
  made.add_text(text);
  return made;
}

Element& Element::add(Element element) { return content_.emplace_back(std::move(element)); }

void Element::add_text(std::string_view text) {
  if (text.empty()) return;
  if (content_.empty() || !content_.back().is_text()) content_.emplace_back();
  content_.back().text_ += text;
}

void Element::set_text(std::string_view text) {
  content_.clear();
  add_text(text);
}

void Element::remove(std::string_view name) {
  content_.remove_if([&](const Element& part) { return !part.is_text() && part.name_ == name; });
}

void Element::remove_attribute(std::string_view name) {
  std::erase_if(attributes_, [&](const auto& attribute) { return attribute.first == name; });
}

void Element::drop_blank_text() {
  auto blank = [](const Element& part) { return part.is_text() && trim(part.text_).empty(); };
  bool has_elements = std::ranges::any_of(content_, [](const Element& part) { return !part.is_text(); });
  if (has_elements) content_.remove_if(blank);
}

}  // namespace atl::manage::xml
