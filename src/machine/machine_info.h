// What monitors learn of a machine's parts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/statistics.h"
#include "base/types.h"
#include "devices/nic/receive_filter.h"
#include "devices/pci/info.h"

namespace atl::machine {

struct CpuInfo {
  u32 index = 0;
  int thread_id = 0;
  u32 socket = 0, core = 0, thread = 0;
};

struct NetworkInfo {
  std::string nic, backend;   // lines for `info network`
};

struct IoThreadInfo {
  std::string id;
  int thread_id = 0;
};

/// A network card that knows its receive filter.
struct CardInfo {
  std::string id;
  devices::ReceiveFilter filter;
};

}  // namespace atl::machine
