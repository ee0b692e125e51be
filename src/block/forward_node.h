// A node of another loop, for users on this one: each request travels there and back. For exports of disks that live on an
// I/O thread of their own.
#pragma once

#include "base/loop.h"
#include "block/root.h"

namespace atl::block {

/// `root` lives on `there`, whose thread is the caller's; the result lives on `here`. Both loops outlive it.
NodePtr make_forward_node(Loop& here, Loop& there, std::shared_ptr<Root> root);

}  // namespace atl::block
