// What blkdebug does when: rules from its options or its configuration file.
#pragma once

#include <string>
#include <vector>

#include "block/driver.h"

namespace atl::block {

enum class DebugIo : u8 { Read, Write, WriteZeroes, Discard, Flush, BlockStatus };

struct DebugRule {
  std::string event;            // "read_aio", "write_aio", "flush_to_disk" ...; "none" fires on every request
  u64 state = 0;                // 0: in any
  // inject-error
  int os_errno = 0;             // 0: a set-state rule
  std::vector<DebugIo> kinds;   // empty: read, write, write-zeroes, discard, flush
  std::optional<u64> sector;    // the request must cover it
  bool once = false, immediately = false;
  // set-state
  u64 new_state = 0;
};

/// From "inject-error" and "set-state" lists of the tree, and the file "config".
Result<std::vector<DebugRule>> read_debug_rules(OptionReader& reader);
/// Sections [inject-error] and [set-state] with lines key = "value".
Result<std::vector<DebugRule>> parse_debug_config(std::string_view text);

}  // namespace atl::block
