// Commands on the host.
#include <fmt/format.h>

#include "client/verb.h"

namespace atl::client {

namespace {

std::string version_text(u64 version) {
  return fmt::format("{}.{}.{}", version / 1'000'000, version / 1000 % 1000, version % 1000);
}

Result<std::string> version(Context& context, const Arguments& a) {
  u64 library = TRY(context.get<u64>(Proc::CONNECT_GET_LIB_VERSION));
  u64 hypervisor = TRY(context.get<u64>(Proc::CONNECT_GET_VERSION));
  std::string type = TRY(context.get<std::string>(Proc::CONNECT_GET_TYPE));
  std::string text = fmt::format("Using library: libvirt {}\nUsing API: {} {}\nRunning hypervisor: {} {}\n",
                                 version_text(library), type, version_text(library), type, version_text(hypervisor));
  if (a.has("daemon")) text += fmt::format("Running against daemon: {}\n", version_text(library));
  return text;
}

Result<std::string> hostname(Context& context, const Arguments&) {
  return TRY(context.get<std::string>(Proc::CONNECT_GET_HOSTNAME)) + "\n";
}

Result<std::string> uri(Context& context, const Arguments&) {
  return context.uri().empty() ? TRY(context.get<std::string>(Proc::CONNECT_GET_URI)) + "\n" : context.uri() + "\n";
}

Result<std::string> capabilities(Context& context, const Arguments&) {
  return context.get<std::string>(Proc::CONNECT_GET_CAPABILITIES);
}

Result<std::string> sysinfo(Context& context, const Arguments&) {
  return context.get<std::string>(Proc::CONNECT_GET_SYSINFO, u32{0});
}

Result<std::string> domcapabilities(Context& context, const Arguments& a) {
  auto given = [&](std::string_view name) { return a.has(name) ? std::optional(a[name]) : std::nullopt; };
  return context.get<std::string>(Proc::CONNECT_GET_DOMAIN_CAPABILITIES, given("emulatorbin"), given("arch"),
                                  given("machine"), given("virttype"), u32{0});
}

Result<std::string> nodeinfo(Context& context, const Arguments&) {
  std::vector<u8> payload = TRY(context.call(Proc::NODE_GET_INFO));
  manage::CharArray model{"", 32};
  u64 memory_kib = 0;
  i32 cpus = 0, mhz = 0, nodes = 0, sockets = 0, cores = 0, threads = 0;
  TRY(manage::XdrReader(payload).read(model, memory_kib, cpus, mhz, nodes, sockets, cores, threads));
  std::string out;
  auto row = [&](std::string_view name, const auto& value) { out += fmt::format("{:<20} {}\n", name, value); };
  row("CPU model:", model.text.c_str());
  row("CPU(s):", cpus);
  if (mhz > 0) row("CPU frequency:", fmt::format("{} MHz", mhz));
  row("CPU socket(s):", sockets);
  row("Core(s) per socket:", cores);
  row("Thread(s) per core:", threads);
  row("NUMA cell(s):", nodes);
  row("Memory size:", fmt::format("{} KiB", memory_kib));
  return out;
}

struct Stat {
  std::string name;
  u64 value = 0;
  static constexpr auto kFields = std::tuple{&Stat::name, &Stat::value};
};

constexpr i32 kManyStats = 16;

Result<std::string> nodememstats(Context& context, const Arguments&) {
  auto stats = TRY(context.get<std::vector<Stat>>(Proc::NODE_GET_MEMORY_STATS, kManyStats, i32{-1}, u32{0}));
  std::string out;
  for (const Stat& stat : stats) out += fmt::format("{:<7}: {:>20} KiB\n", stat.name, stat.value);
  return out;
}

Result<std::string> nodecpustats(Context& context, const Arguments&) {
  auto stats = TRY(context.get<std::vector<Stat>>(Proc::NODE_GET_CPU_STATS, i32{-1}, kManyStats, u32{0}));
  std::string out;
  for (std::string_view name :
       {"user", "kernel", "idle", "iowait"})  // sic: virsh's order is this, with "system" second
    for (const Stat& stat : stats)
      if (stat.name == name)
        out += fmt::format("{:<15} {:>20}\n", fmt::format("{}:", name == "kernel" ? "system" : name), stat.value);
  return out;
}

constexpr Verb kVerbs[] = {
    {"capabilities", "", "capabilities", capabilities},
    {"domcapabilities", "--virttype= --emulatorbin= --arch= --machine=", "domain capabilities", domcapabilities},
    {"hostname", "", "print the hypervisor hostname", hostname},
    {"nodecpustats", "", "prints cpu stats of the node", nodecpustats},
    {"nodeinfo", "", "node information", nodeinfo},
    {"nodememstats", "", "prints memory stats of the node", nodememstats},
    {"sysinfo", "", "print the hypervisor sysinfo", sysinfo},
    {"uri", "", "print the hypervisor canonical URI", uri},
    {"version", "--daemon", "show version", version},
};

}  // namespace

std::span<const Verb> host_verbs() { return kVerbs; }

}  // namespace atl::client
