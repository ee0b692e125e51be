// What the files of class Pools share.
#pragma once

#include <string>
#include <utility>

#include "manage/storage/pools.h"

namespace atl::manage::storage {

// virStoragePoolEventLifecycleType.
enum PoolEvent : i32 { kDefined = 0, kUndefined = 1, kStarted = 2, kStopped = 3, kCreated = 4, kDeleted = 5 };

inline Error refusal(Code code, std::string text) { return {code, std::move(text), Part::Storage}; }

}  // namespace atl::manage::storage
