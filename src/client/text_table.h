// Tables as virsh prints them: a title line, a line of dashes, columns as wide as their widest cell.
#pragma once

#include <string>
#include <vector>

namespace atl::client {

class TextTable {
 public:
  explicit TextTable(std::vector<std::string> titles) { rows_.push_back(std::move(titles)); }
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// Without titles, columns are only as wide as the rows need.
  std::string text(bool with_titles = true) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace atl::client
