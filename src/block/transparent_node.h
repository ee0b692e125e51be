// A node that changes requests and is not seen itself: what stands below shows through, and it stands in its place.
#pragma once

#include "block/filter_node.h"

namespace atl::block {

class TransparentNode : public FilterNode {
 public:
  using FilterNode::FilterNode;

  std::vector<Child> children() const override { return file_->children(); }
  Status replace_child(std::string_view role, NodePtr node) override { return file_->replace_child(role, std::move(node)); }
  Image* image() override { return file_->image(); }
  bool is_filter() const override { return file_->is_filter(); }
};

}  // namespace atl::block
