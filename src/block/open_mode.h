// How a node is to be opened, besides its driver's own options.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"
#include "block/node.h"

namespace atl::block {

/// Children inherit it where their options do not differ.
struct OpenMode {
  bool readonly = false;
  bool auto_readonly = false;
  bool cache_direct = false, cache_no_flush = false;
  bool write_through = false;   // the top node's writes are on stable storage before they complete; not inherited
  bool discard = false;
  bool locking = true;
  bool no_backing = false;      // leave the backing file closed: reads of what the image does not hold give zeroes
  bool check = false;           // opened to be checked or repaired: damage that can be repaired does not refuse
  bool no_io = false;           // only the header is wanted: no secret is needed, locks are not taken (qemu-img -U)
  bool no_probe = false;        // a tree without "driver" is a protocol: what formats want of their "file". Graph sets it
  AioMode aio = AioMode::IoUring;
  bool probed = false;          // the driver was guessed from the first bytes
  // Kept by Graph: how deep in the tree we are, and the images that led here along backing files.
  u32 depth = 0;
  std::vector<std::string> ancestors;
};

}  // namespace atl::block
