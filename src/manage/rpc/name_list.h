// The replies of CONNECT_LIST_*: names, at most as many as the client has room for.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "manage/rpc/call.h"

namespace atl::manage {

/// `limit` is the protocol's, whose name is REMOTE_<what>_LIST_MAX.
inline Status write_names(Call& call, std::vector<std::string> names, i32 most, i32 limit, std::string_view what) {
  if (most < 0 || most > limit) return rpc_error(fmt::format("maxnames > REMOTE_{}_LIST_MAX", what));
  if (names.size() > static_cast<size_t>(most)) names.resize(static_cast<size_t>(most));
  call.write(names);
  return {};
}

}  // namespace atl::manage
