// An XML element as the daemon reads and writes it: name, attributes, text, children, in order.
//
// Names keep their prefix ("qemu:commandline") and xmlns attributes are attributes like any other, so that what clients
// put into <metadata> comes back as it came. References that add() and the lookups give stay valid while the tree
// lives.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/types.h"

namespace atl::manage::xml {

class Element {
 public:
  /// A run of text between elements has the name "".
  explicit Element(std::string name = {}, u32 line = 0) : name_(std::move(name)), line_(line) {}

  const std::string& name() const { return name_; }
  bool is_text() const { return name_.empty(); }
  /// Where it began in what was parsed; 0 if it was built.
  u32 line() const { return line_; }

  /// The text directly inside, put together.
  std::string text() const;
  /// nullptr if absent.
  const std::string* find_attribute(std::string_view name) const;
  bool has_attribute(std::string_view name) const { return find_attribute(name) != nullptr; }
  /// "" if absent.
  std::string attribute(std::string_view name) const;
  const std::vector<std::pair<std::string, std::string>>& attributes() const { return attributes_; }

  /// The first of that name; nullptr if there is none.
  const Element* child(std::string_view name) const;
  Element* child(std::string_view name);
  /// Follows "a/b/c" through first children.
  const Element* find(std::string_view path) const;
  std::vector<const Element*> children(std::string_view name) const;
  /// All elements inside, without text.
  std::vector<const Element*> children() const;
  /// The text of a child; nothing if there is no such child.
  std::optional<std::string> child_text(std::string_view name) const;
  /// Children whose names are not among `known`: kept when an object is redefined.
  std::vector<const Element*> children_except(const std::vector<std::string_view>& known) const;
  /// Elements and runs of text, in order.
  const std::list<Element>& content() const { return content_; }
  std::list<Element>& content() { return content_; }

  // Building.
  Element& set(std::string_view name, std::string_view value);
  Element& set(std::string_view name, u64 value) { return set(name, std::string_view(std::to_string(value))); }
  Element& add(std::string_view name) { return content_.emplace_back(std::string(name)); }
  Element& add(std::string_view name, std::string_view text);
  Element& add(std::string_view name, u64 number) { return add(name, std::string_view(std::to_string(number))); }
  Element& add(Element element);
  void add_text(std::string_view text);
  void set_name(std::string_view name) { name_ = name; }
  void set_text(std::string_view text);
  void set_attributes(std::vector<std::pair<std::string, std::string>> attributes) {
    attributes_ = std::move(attributes);
  }
  /// Removes all children of that name.
  void remove(std::string_view name);
  void remove_attribute(std::string_view name);
  /// White space between elements goes; elsewhere it is text. Called once, when all content is there.
  void drop_blank_text();

 private:
  std::string name_;  // or "" and the text
  std::string text_;
  u32 line_;
  std::vector<std::pair<std::string, std::string>> attributes_;
  std::list<Element> content_;
};

}  // namespace atl::manage::xml
