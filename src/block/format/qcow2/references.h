// Refcounts of all that an L1 table leads to, and the "copied" marks that follow from them.
#pragma once

#include "block/format/qcow2/core.h"

namespace atl::block::qcow2 {

/// One reference more to everything that the table leads to, also to its L2 tables. Written and flushed. `tables` is held.
Task<Status> add_references(Core& core, const std::vector<u64>& l1);
/// One reference less, for a table that nothing on the disk leads to any more.
Task<Status> drop_references(Core& core, const std::vector<u64>& l1);
/// Sets or clears the marks of the active tables as refcounts demand. Written and flushed.
Task<Status> update_copied_marks(Core& core);

}  // namespace atl::block::qcow2
