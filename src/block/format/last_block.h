// The block that was decompressed last: readers come back for the rest of it.
#pragma once

#include <memory>
#include <vector>

#include "base/types.h"

namespace atl::block {

class LastBlock {
 public:
  using Bytes = std::shared_ptr<const std::vector<u8>>;

  Bytes get(u64 index) const { return index == index_ ? bytes_ : nullptr; }
  Bytes keep(u64 index, std::vector<u8> bytes) {
    index_ = index;
    bytes_ = std::make_shared<const std::vector<u8>>(std::move(bytes));
    return bytes_;
  }

 private:
  u64 index_ = ~u64{0};
  Bytes bytes_;
};

}  // namespace atl::block
