// A guest's memory as an ELF core file, which crash(8) and gdb read.
#pragma once

#include "manage/domain/domains.h"

namespace atl::manage {

/// Under the domain's job. The guest stands still meanwhile; the file is the daemon's own, and gone again after a failure.
Status dump_core(Domains& domains, Domain& domain, const std::string& path);
/// Where dumps go that nobody gave a name: STATE/dump.
Result<std::string> automatic_dump_path(const Config& config, const Domain& domain);

}  // namespace atl::manage
