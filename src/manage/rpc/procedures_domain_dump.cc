// A guest's memory: into a core file, or a piece of it to the client.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/core_dump.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

// VIR_DUMP_*. A live dump is no other: the guest stands still while its memory is written. Caches are the file system's affair.
constexpr u32 kCrash = 1, kLive = 2, kBypassCache = 4, kReset = 8, kMemoryOnly = 16;

Status dump(Call& call, Domain& domain, const std::string& path, u32 flags, std::string_view function) {
  TRY(check_flags(flags, kCrash | kLive | kBypassCache | kReset | kMemoryOnly, function));
  auto job = TRY(domain.begin_job());
  auto vm = domain.running();
  if (!vm) return operation_invalid("domain is not running");
  Domains& domains = call.daemon().domains();
  TRY(dump_core(domains, domain, path));
  if (flags & kCrash) {
    (void)signal_process(vm->process, SIGKILL);  // gone already: fine
    domains.finish(domain, ShutoffReason::Crashed);
  } else if (flags & kReset) {
    TRY(ask(domain, "system_reset", Json::object()));
  }
  return {};
}

Status core_dump(Call& call) {
  std::string path;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, path, flags));
  return dump(call, *domain, path, flags, "virDomainCoreDump");
}

Status core_dump_with_format(Call& call) {
  std::string path;
  u32 format = 0, flags = 0;
  auto domain = TRY(read_domain(call, path, format, flags));
  constexpr const char* kFormats[] = {"raw", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"};
  if (format >= std::size(kFormats)) return invalid_arg(fmt::format("dumpformat '{}' unknown", format));
  if (format != 0 && !(flags & kMemoryOnly)) return invalid_arg("kdump-compressed format is only supported with memory-only dump");
  if (!domain->active()) return operation_invalid("domain is not running");
  if (format != 0) return invalid_arg(fmt::format("unsupported dumpformat '{}' for this QEMU binary", kFormats[format]));
  return dump(call, *domain, path, flags, "virDomainCoreDumpWithFormat");
}

Status peek(Call& call) {
  u64 offset = 0;
  u32 size = 0, flags = 0;
  auto domain = TRY(read_domain(call, offset, size, flags));
  constexpr u32 kVirtual = 1, kPhysical = 2, kMost = 4 * 1024 * 1024;
  if (flags != kVirtual && flags != kPhysical)
    return invalid_arg("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL");
  if (size > kMost) return rpc_error("size > maximum buffer size");
  auto job = TRY(domain->begin_job());
  auto vm = domain->running();
  if (!vm) return operation_invalid("domain is not running");
  // The VM writes in its own folder only.
  const std::string path = vm->folder + "/peek";
  auto saved = ask(*domain, flags == kVirtual ? "memsave" : "pmemsave", {{"val", offset}, {"size", size}, {"filename", path}});
  auto bytes = saved ? read_file(path, kMost) : Result<std::string>(std::move(saved).error());
  ::unlink(path.c_str());
  const std::string content = TRY(std::move(bytes));
  call.write(Opaque{{content.begin(), content.end()}});
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_CORE_DUMP, Access::Write, core_dump},
    {Proc::DOMAIN_CORE_DUMP_WITH_FORMAT, Access::Write, core_dump_with_format},
    {Proc::DOMAIN_MEMORY_PEEK, Access::Write, peek},
};

}  // namespace

std::span<const Procedure> domain_dump_rows() { return kRows; }

}  // namespace atl::manage
