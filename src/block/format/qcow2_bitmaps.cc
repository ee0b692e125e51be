#include "block/format/qcow2_bitmaps.h"
namespace atl::block::qcow2 {
Task<Status> load_bitmaps(Core&) { co_return Status{}; }
}
