// What a restarted daemon must know about a running VM: a file <domstatus> for each, beside its sockets in the run folder.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "manage/domain/domain.h"

namespace atl::manage {

struct VmStatus {
  i32 id = -1;
  DomainState state;
  ProcessId process;
  uid_t user = 0;
  u64 next_node = 1;
  std::string folder;
  std::vector<OwnedFile> files;
  Element tree;
  std::optional<Element> backup;
};

std::string write_status(const VmStatus& status);
Result<VmStatus> read_status(std::string_view text);

}  // namespace atl::manage
