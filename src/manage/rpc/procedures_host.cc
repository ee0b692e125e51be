// Procedures on the host: versions, processors, memory, capabilities.
#include <fmt/format.h>

#include <algorithm>

#include "base/strings.h"
#include "manage/daemon.h"
#include "manage/host/capabilities.h"
#include "manage/rpc/call.h"
#include "manage/rpc/procedure.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {

namespace {

// Flags of the processor calls.
constexpr u32 kExpandFeatures = 1, kMigratable = 2;
constexpr u32 kFailIncompatible = 1, kValidateXml = 2;

Status get_version(Call& call) {
  call.write(host::kHypervisorVersion);
  return {};
}

Status get_lib_version(Call& call) {
  call.write(host::kLibvirtVersion);
  return {};
}

Status get_hostname(Call& call) {
  call.write(TRY(call.daemon().host().hostname()));
  return {};
}

Status get_max_vcpus(Call& call) {
  std::optional<std::string> type;
  TRY(call.read(type));
  if (type && !iequals(*type, "kvm") && !iequals(*type, "qemu"))
    return invalid_arg(fmt::format("unknown type '{}'", *type));
  call.write(host::kMaxVcpus);
  return {};
}

Status get_sysinfo(Call& call) {
  u32 flags = 0;
  TRY(call.read(flags));
  TRY(check_flags(flags, 0, "virConnectGetSysinfo"));
  call.write(host::sysinfo_text());
  return {};
}

Status get_capabilities(Call& call) {
  call.write(call.daemon().host().capabilities());
  return {};
}

Status get_domain_capabilities(Call& call) {
  std::optional<std::string> emulator, arch, machine, type;
  u32 flags = 0;
  TRY(call.read(emulator, arch, machine, type, flags));
  TRY(check_flags(flags, 0, "virConnectGetDomainCapabilities"));
  host::GuestKind kind{emulator.value_or(""), arch.value_or(""), machine.value_or(""), type.value_or("")};
  call.write(TRY(call.daemon().host().domain_capabilities(kind)));
  return {};
}

Status get_cpu_model_names(Call& call) {
  std::string arch;
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(arch, wanted, flags));
  TRY(check_flags(flags, 0, "virConnectGetCPUModelNames"));
  if (arch != "x86_64" && arch != "i686") return invalid_arg(fmt::format("unsupported architecture {}", arch));
  std::vector<std::string> names;
  for (const cpu::CpuModel* model : host::named_models()) names.emplace_back(model->name);
  i32 count = static_cast<i32>(names.size());
  if (!wanted) names.clear();
  call.write(names, count);
  return {};
}

/// Against what guests get here, or the bare host's processor.
Status compare(Call& call, const std::string& document, u32 flags, const cpu::FeatureSet& host) {
  TRY(check_flags(flags, kFailIncompatible | kValidateXml, "virConnectCompareCPU"));
  xml::Element root = TRY(xml::parse(document, "(CPU_definition)"));
  const xml::Element* element = root.name() == "cpu" ? &root : root.find("host/cpu");
  if (!element) return Error(Code::XmlError, "XML does not contain expected 'cpu' element", Part::Cpu);
  const host::Comparison result = TRY(host::compare_definition(host, *element));
  if (result == host::Comparison::Incompatible && flags & kFailIncompatible)
    return Error(Code::CpuIncompatible, "Host CPU does not provide required features", Part::Cpu);
  call.write(static_cast<i32>(result));
  return {};
}

Status compare_cpu(Call& call) {
  std::string document;
  u32 flags = 0;
  TRY(call.read(document, flags));
  return compare(call, document, flags, host::host_features());
}

Status compare_hypervisor_cpu(Call& call) {
  std::optional<std::string> emulator, arch, machine, type;
  std::string document;
  u32 flags = 0;
  TRY(call.read(emulator, arch, machine, type, document, flags));
  return compare(call, document, flags, call.daemon().host().guest_cpu().features);
}

Status baseline(Call& call, const std::vector<std::string>& documents, u32 flags) {
  TRY(check_flags(flags, kExpandFeatures | kMigratable, "virConnectBaselineCPU"));
  call.write(xml::write(TRY(host::baseline_cpu(documents, flags & kExpandFeatures, flags & kMigratable))));
  return {};
}

Status baseline_cpu(Call& call) {
  std::vector<std::string> documents;
  u32 flags = 0;
  TRY(call.read(documents, flags));
  return baseline(call, documents, flags);
}

Status baseline_hypervisor_cpu(Call& call) {
  std::optional<std::string> emulator, arch, machine, type;
  std::vector<std::string> documents;
  u32 flags = 0;
  TRY(call.read(emulator, arch, machine, type, documents, flags));
  return baseline(call, documents, flags);
}

Status node_get_info(Call& call) {
  const host::Node& node = call.daemon().host().node();
  call.write(CharArray{node.arch, 32}, node.memory_kib, static_cast<i32>(node.cpus()), static_cast<i32>(node.mhz),
             static_cast<i32>(node.cells.size()), static_cast<i32>(node.sockets), static_cast<i32>(node.cores),
             static_cast<i32>(node.threads));
  return {};
}

/// The two-phase answer of counters: how many there are, then they.
Status write_stats(Call& call, const std::vector<host::Stat>& stats, i32 asked) {
  std::vector<host::Stat> list;
  if (asked > 0) list = stats;
  call.write(list, asked > 0 ? i32{0} : static_cast<i32>(stats.size()));
  return {};
}

Status node_get_cpu_stats(Call& call) {
  i32 cpu = 0, asked = 0;
  u32 flags = 0;
  TRY(call.read(cpu, asked, flags));
  TRY(check_flags(flags, 0, "virNodeGetCPUStats"));
  return write_stats(call, TRY(host::cpu_stats(cpu)), asked);
}

Status node_get_memory_stats(Call& call) {
  i32 asked = 0, cell = 0;
  u32 flags = 0;
  TRY(call.read(asked, cell, flags));
  TRY(check_flags(flags, 0, "virNodeGetMemoryStats"));
  return write_stats(call, TRY(host::memory_stats(cell)), asked);
}

Status node_get_cpu_map(Call& call) {
  i32 wants_map = 0, wants_online = 0;
  u32 flags = 0;
  TRY(call.read(wants_map, wants_online, flags));
  TRY(check_flags(flags, 0, "virNodeGetCPUMap"));
  const host::Node& node = call.daemon().host().node();
  Opaque map;
  if (wants_map) map.bytes.resize((node.present_cpus + 7) / 8);
  for (u32 cpu : node.online)
    if (cpu / 8 < map.bytes.size()) map.bytes[cpu / 8] |= static_cast<u8>(1 << cpu % 8);
  call.write(map, wants_online ? node.cpus() : u32{0}, static_cast<i32>(node.present_cpus));
  return {};
}

Status node_get_free_memory(Call& call) {
  call.write(TRY(host::free_memory(-1)));
  return {};
}

Status node_get_cells_free_memory(Call& call) {
  i32 first = 0, count = 0;
  TRY(call.read(first, count));
  i32 cells = static_cast<i32>(call.daemon().host().node().cells.size());
  if (first < 0 || first >= cells)
    return invalid_arg(fmt::format("start cell {} out of range (0-{})", first, cells - 1));
  std::vector<u64> list;
  for (i32 cell = first; cell < cells && cell - first < count; ++cell) {
    auto there = host::free_memory(cell);  // kernels without NUMA have no cells in /sys
    list.push_back(there ? *there : TRY(host::free_memory(-1)));
  }
  call.write(list);
  return {};
}

Status node_get_free_pages(Call& call) {
  std::vector<u32> sizes;
  i32 first = 0;
  u32 count = 0, flags = 0;
  TRY(call.read(sizes, first, count, flags));
  TRY(check_flags(flags, 0, "virNodeGetFreePages"));
  i32 cells = static_cast<i32>(call.daemon().host().node().cells.size());
  if (first < -1 || first >= cells)
    return invalid_arg(fmt::format("start cell {} out of range (0-{})", first, cells - 1));
  std::vector<u64> list;
  for (u32 i = 0; i < count && first + static_cast<i32>(i) < cells; ++i)
    for (u32 size : sizes) list.push_back(TRY(host::free_pages(size, first + static_cast<i32>(i))));
  call.write(list);
  return {};
}

Status node_get_security_model(Call& call) {
  call.write(CharArray{"none"}, CharArray{"0"});
  return {};
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_GET_VERSION, Access::Read, get_version, Where::Loop},
    {Proc::CONNECT_GET_LIB_VERSION, Access::Read, get_lib_version, Where::Loop},
    {Proc::CONNECT_GET_MAX_VCPUS, Access::Read, get_max_vcpus, Where::Loop},
    {Proc::CONNECT_GET_HOSTNAME, Access::Read, get_hostname, Where::Worker},
    {Proc::CONNECT_GET_SYSINFO, Access::Read, get_sysinfo, Where::Quick},
    {Proc::CONNECT_GET_CAPABILITIES, Access::Read, get_capabilities, Where::Quick},
    {Proc::CONNECT_GET_DOMAIN_CAPABILITIES, Access::Read, get_domain_capabilities, Where::Quick},
    {Proc::CONNECT_GET_CPU_MODEL_NAMES, Access::Read, get_cpu_model_names, Where::Loop},
    {Proc::CONNECT_COMPARE_CPU, Access::Write, compare_cpu, Where::Quick},
    {Proc::CONNECT_COMPARE_HYPERVISOR_CPU, Access::Write, compare_hypervisor_cpu, Where::Quick},
    {Proc::CONNECT_BASELINE_CPU, Access::Write, baseline_cpu, Where::Quick},
    {Proc::CONNECT_BASELINE_HYPERVISOR_CPU, Access::Write, baseline_hypervisor_cpu, Where::Quick},
    {Proc::NODE_GET_INFO, Access::Read, node_get_info, Where::Loop},
    {Proc::NODE_GET_CPU_STATS, Access::Read, node_get_cpu_stats, Where::Quick},
    {Proc::NODE_GET_MEMORY_STATS, Access::Read, node_get_memory_stats, Where::Quick},
    {Proc::NODE_GET_CPU_MAP, Access::Read, node_get_cpu_map, Where::Loop},
    {Proc::NODE_GET_FREE_MEMORY, Access::Read, node_get_free_memory, Where::Quick},
    {Proc::NODE_GET_CELLS_FREE_MEMORY, Access::Read, node_get_cells_free_memory, Where::Quick},
    {Proc::NODE_GET_FREE_PAGES, Access::Read, node_get_free_pages, Where::Quick},
    {Proc::NODE_GET_SECURITY_MODEL, Access::Read, node_get_security_model, Where::Loop},
};

}  // namespace

std::span<const Procedure> host_procedures() { return kProcedures; }

}  // namespace atl::manage
