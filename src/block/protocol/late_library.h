// The libraries behind remote protocols, loaded when the first such image is opened.
//
// Linked the usual way they bring some thirty more libraries along, which took most of the time of a short command. A
// protocol's source calls its library as ever; the functions it sees are jumps that load_library() gives their targets.
#pragma once

#include "base/result.h"

namespace atl::block {

enum class LateLibrary : unsigned char { Curl, Ssh, Iscsi, Nfs };

/// Must have succeeded before any function of the library is called. Any thread. Errors name the library.
Status load_library(LateLibrary library);

}  // namespace atl::block
