// Dirty bitmaps that an image keeps: read into memory when a node is opened, put back when it goes. In between they are bitmaps
// as any other. On the loop of the place.
#pragma once

#include "machine/block_store.h"

namespace atl::machine {

/// Those of `node` and of all below it that are not in memory yet. What was not closed properly stays in the image.
Task<Status> load_bitmaps(BlockStore::Place& place, block::NodePtr node);
/// Puts those of `node` and all below it into their images; those of nodes that are read-only have not changed.
Task<Status> store_bitmaps(BlockStore::Place& place, block::NodePtr node);
/// Makes a place in the image for a new bitmap. Errors are complete.
Task<Status> make_persistent(BlockStore::Place& place, block::NodePtr node, const block::DirtyBitmap& bitmap);
/// After a change that writes to the node did not make: the image would be none the wiser after a crash.
Task<Status> update_stored_bitmap(BlockStore::Place& place, block::NodePtr node, std::shared_ptr<block::DirtyBitmap> bitmap);
/// NotFound if the image has none of this name.
Task<Status> remove_stored_bitmap(BlockStore::Place& place, block::NodePtr node, std::string name);

}  // namespace atl::machine
