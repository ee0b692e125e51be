#pragma once
#include "block/format/qcow2_core.h"
namespace atl::block::qcow2 {
Task<Status> load_bitmaps(Core& core);
class Bitmaps {
 public:
  bool tracking() const { return false; }
  Task<Status> mark(u64, u64) { co_return Status{}; }
  Task<Status> store() { co_return Status{}; }
};
}
