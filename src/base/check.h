// CHECK: abort on a broken invariant of ours. Never for what a guest, a file or a peer sent.
#pragma once

namespace atl {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace atl

#define CHECK(...) (static_cast<bool>(__VA_ARGS__) ? void(0) : ::atl::check_failed(#__VA_ARGS__, __FILE__, __LINE__))
