// Commands on domains.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "base/strings.h"
#include "client/text_table.h"
#include "client/verb.h"
#include "manage/uuid.h"
#include "manage/xml/parse.h"

namespace atl::client {

namespace {

using manage::DomainRef;

constexpr std::string_view kStates[] = {"no state",    "running",  "idle",    "paused",
                                        "in shutdown", "shut off", "crashed", "pmsuspended"};

/// Why a domain is in its state: virDomain*Reason, by state.
constexpr std::string_view kReasons[][12] = {
    {"unknown"},
    {"unknown", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration canceled", "save canceled",
     "event wakeup", "crashed", "post-copy", "post-copy failed"},
    {"unknown"},
    {"unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot", "shutting down",
     "creating snapshot", "crashed", "starting up"},
    {"unknown", "user"},
    {"unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon"},
    {"unknown", "panicked"},
    {"unknown"},
};

struct State {
  i32 state = 0, reason = 0;
  std::string_view text() const { return kStates[state >= 0 && state < 8 ? state : 0]; }
  std::string_view why() const {
    std::string_view text = kReasons[state >= 0 && state < 8 ? state : 0][reason >= 0 && reason < 12 ? reason : 0];
    return text.empty() ? "unknown" : text;
  }
};

Result<State> state_of(Connection& daemon, const DomainRef& domain) {
  std::vector<u8> payload = TRY(daemon.call(Proc::DOMAIN_GET_STATE, domain, u32{0}));
  State state;
  TRY(manage::XdrReader(payload).read(state.state, state.reason));
  return state;
}

std::string id_text(const DomainRef& domain) { return domain.id < 0 ? "-" : fmt::format("{}", domain.id); }

// virsh's filter bits of the list.
constexpr u32 kListActive = 1, kListInactive = 2, kListPersistent = 4, kListTransient = 8, kListRunning = 16,
              kListPaused = 32, kListShutoff = 64, kListOther = 128, kListManagedSave = 256, kListAutostart = 1024,
              kListNoAutostart = 2048;

u32 list_filter(const Arguments& a) {
  struct Bit {
    std::string_view option;
    u32 bit;
  };
  u32 filter = a.has("all") ? kListActive | kListInactive : a.has("inactive") ? kListInactive : kListActive;
  u32 states = 0;
  for (const Bit& b : {Bit{"state-running", kListRunning},
                       {"state-paused", kListPaused},
                       {"state-shutoff", kListShutoff},
                       {"state-other", kListOther}})
    if (a.has(b.option)) states |= b.bit;
  if (states) filter = kListActive | kListInactive | states;
  for (const Bit& b : {Bit{"persistent", kListPersistent},
                       {"transient", kListTransient},
                       {"autostart", kListAutostart},
                       {"no-autostart", kListNoAutostart},
                       {"with-managed-save", kListManagedSave}})
    if (a.has(b.option)) filter |= b.bit;
  return filter;
}

Result<std::string> list(Context& context, const Arguments& a) {
  Connection* daemon = TRY(context.connection());
  auto domains = TRY(daemon->get<std::vector<DomainRef>>(Proc::CONNECT_LIST_ALL_DOMAINS, i32{1}, list_filter(a)));
  // Running ones by number, then the others by name.
  std::ranges::sort(domains, [](const DomainRef& x, const DomainRef& y) {
    if ((x.id < 0) != (y.id < 0)) return y.id < 0;
    return x.id >= 0 ? x.id < y.id : x.name < y.name;
  });
  std::string text;
  TextTable table({"Id", "Name", "State"});
  for (const DomainRef& domain : domains) {
    if (a.has("name") || a.has("uuid")) {
      text += (a.has("uuid") ? manage::format_uuid(domain.uuid) : domain.name) + "\n";
      continue;
    }
    State state = TRY(state_of(*daemon, domain));
    table.add({id_text(domain), domain.name,
               std::string(a.has("managed-save") && state.state == 5 &&
                                   TRY(daemon->get<i32>(Proc::DOMAIN_HAS_MANAGED_SAVE_IMAGE, domain, u32{0}))
                               ? "saved"
                               : state.text())});
  }
  return a.has("name") || a.has("uuid") ? text : table.text(!context.is_quiet());
}

Result<std::string> dominfo(Context& context, const Arguments& a) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  Connection* daemon = TRY(context.connection());
  std::string out;
  auto row = [&](std::string_view name, std::string_view value) { out += fmt::format("{:<15} {}\n", name, value); };
  row("Id:", id_text(domain));
  row("Name:", domain.name);
  row("UUID:", manage::format_uuid(domain.uuid));
  row("OS Type:", TRY(daemon->get<std::string>(Proc::DOMAIN_GET_OS_TYPE, domain)));
  std::vector<u8> payload = TRY(daemon->call(Proc::DOMAIN_GET_INFO, domain));
  u32 state = 0, cpus = 0;
  u64 max_kib = 0, used_kib = 0, cpu_ns = 0;
  TRY(manage::XdrReader(payload).read(state, max_kib, used_kib, cpus, cpu_ns));
  row("State:", kStates[state < 8 ? state : 0]);
  row("CPU(s):", fmt::format("{}", cpus));
  if (cpu_ns > 0) row("CPU time:", fmt::format("{:.1f}s", static_cast<double>(cpu_ns) / 1e9));
  row("Max memory:", max_kib == ULONG_MAX ? "no limit" : fmt::format("{} KiB", max_kib));
  row("Used memory:", fmt::format("{} KiB", used_kib));
  row("Persistent:", yes_no(TRY(daemon->get<i32>(Proc::DOMAIN_IS_PERSISTENT, domain))));
  row("Autostart:", TRY(daemon->get<i32>(Proc::DOMAIN_GET_AUTOSTART, domain)) ? "enable" : "disable");
  row("Managed save:", yes_no(TRY(daemon->get<i32>(Proc::DOMAIN_HAS_MANAGED_SAVE_IMAGE, domain, u32{0}))));
  return out;
}

Result<std::string> domstate(Context& context, const Arguments& a) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  Connection* daemon = TRY(context.connection());
  State state = TRY(state_of(*daemon, domain));
  return a.has("reason") ? fmt::format("{} ({})\n", state.text(), state.why()) : fmt::format("{}\n", state.text());
}

Result<std::string> domid(Context& context, const Arguments& a) {
  return id_text(TRY(context.domain(a["domain"]))) + "\n";
}
Result<std::string> domname(Context& context, const Arguments& a) {
  return TRY(context.domain(a["domain"])).name + "\n";
}
Result<std::string> domuuid(Context& context, const Arguments& a) {
  return manage::format_uuid(TRY(context.domain(a["domain"])).uuid) + "\n";
}

constexpr u32 kXmlSecure = 1, kXmlInactive = 2, kXmlUpdateCpu = 4, kXmlMigratable = 8;

Result<std::string> document_of(Context& context, const Arguments& a, u32 flags) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  return context.get<std::string>(Proc::DOMAIN_GET_XML_DESC, domain, flags);
}

Result<std::string> dumpxml(Context& context, const Arguments& a) {
  u32 flags = (a.has("security-info") ? kXmlSecure : 0) | (a.has("inactive") ? kXmlInactive : 0) |
              (a.has("update-cpu") ? kXmlUpdateCpu : 0) | (a.has("migratable") ? kXmlMigratable : 0);
  return document_of(context, a, flags);
}

/// "/devices/disk" as a table of what `row` makes of each.
Result<std::string> device_table(Context& context, const Arguments& a, std::string_view device,
                                 std::vector<std::string> titles,
                                 std::vector<std::string> (*row)(const manage::xml::Element&)) {
  std::string text = TRY(document_of(context, a, a.has("inactive") ? kXmlInactive : 0));
  manage::xml::Element root = TRY(manage::xml::parse(text, "(domain_definition)"));
  TextTable table(std::move(titles));
  if (const manage::xml::Element* devices = root.child("devices"))
    for (const manage::xml::Element* element : devices->children(device)) table.add(row(*element));
  return table.text(!context.is_quiet());
}

std::string attribute_of(const manage::xml::Element& element, std::string_view child, std::string_view name) {
  const manage::xml::Element* found = element.child(child);
  const std::string* value = found ? found->find_attribute(name) : nullptr;
  return value ? *value : "-";
}

std::string first_source(const manage::xml::Element& element, std::initializer_list<std::string_view> names) {
  for (std::string_view name : names)
    if (std::string value = attribute_of(element, "source", name); value != "-") return value;
  return "-";
}

Result<std::string> domblklist(Context& context, const Arguments& a) {
  if (a.has("details"))
    return device_table(context, a, "disk", {"Type", "Device", "Target", "Source"}, [](const manage::xml::Element& e) {
      return std::vector<std::string>{e.attribute("type"), e.attribute("device"), attribute_of(e, "target", "dev"),
                                      first_source(e, {"file", "dev", "dir", "name", "volume"})};
    });
  return device_table(context, a, "disk", {"Target", "Source"}, [](const manage::xml::Element& e) {
    return std::vector<std::string>{attribute_of(e, "target", "dev"),
                                    first_source(e, {"file", "dev", "dir", "name", "volume"})};
  });
}

Result<std::string> domiflist(Context& context, const Arguments& a) {
  return device_table(
      context, a, "interface", {"Interface", "Type", "Source", "Model", "MAC"}, [](const manage::xml::Element& e) {
        return std::vector<std::string>{attribute_of(e, "target", "dev"), e.attribute("type"),
                                        first_source(e, {"network", "bridge", "dev"}), attribute_of(e, "model", "type"),
                                        attribute_of(e, "mac", "address")};
      });
}

Result<std::string> domblkinfo(Context& context, const Arguments& a) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  std::vector<u8> payload = TRY(context.call(Proc::DOMAIN_GET_BLOCK_INFO, domain, a["device"], u32{0}));
  u64 allocation = 0, capacity = 0, physical = 0;
  TRY(manage::XdrReader(payload).read(allocation, capacity, physical));
  return fmt::format("{:<15} {}\n{:<15} {}\n{:<15} {}\n", "Capacity:", capacity, "Allocation:", allocation,
                     "Physical:", physical);
}

std::string param_text(const manage::TypedParam& param) {
  return std::visit(
      [](const auto& value) {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, double>)
          return fmt::format("{:f}", value);
        else if constexpr (std::is_same_v<std::decay_t<decltype(value)>, bool>)
          return yes_no(value);
        else
          return fmt::format("{}", value);
      },
      param.value);
}

struct DomainStats {
  DomainRef domain;
  manage::TypedParams params;
  static constexpr auto kFields = std::tuple{&DomainStats::domain, &DomainStats::params};
};

Result<std::string> domstats(Context& context, const Arguments& a) {
  struct Bit {
    std::string_view option;
    u32 bit;
  };
  u32 kinds = 0;
  for (const Bit& b : {Bit{"state", 1},
                       {"cpu-total", 2},
                       {"balloon", 4},
                       {"vcpu", 8},
                       {"interface", 16},
                       {"block", 32},
                       {"perf", 64},
                       {"iothread", 128},
                       {"memory", 256},
                       {"dirtyrate", 512},
                       {"vm", 1024}})
    if (a.has(b.option)) kinds |= b.bit;
  std::vector<DomainRef> which;
  if (a.has("domain")) which.push_back(TRY(context.domain(a["domain"])));
  auto all = TRY(context.get<std::vector<DomainStats>>(Proc::CONNECT_GET_ALL_DOMAIN_STATS, which, kinds, u32{0}));
  std::string text;
  for (const DomainStats& stats : all) {
    text += fmt::format("Domain: '{}'\n", stats.domain.name);
    for (const manage::TypedParam& param : stats.params)
      text += fmt::format("  {}={}\n", param.name, param_text(param));
    text += '\n';
  }
  return text;
}

// Changes of state: a call with the domain, or with the domain and flags, and a sentence.

template <Proc procedure>
Result<std::string> plain(Context& context, const Arguments& a, std::string_view sentence) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(procedure, domain));
  return fmt::format(fmt::runtime(sentence), a["domain"]);
}

template <Proc procedure>
Result<std::string> flagged(Context& context, const Arguments& a, u32 flags, std::string_view sentence) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(procedure, domain, flags));
  return fmt::format(fmt::runtime(sentence), a["domain"]);
}

Result<std::string> start(Context& context, const Arguments& a) {
  u32 flags = (a.has("paused") ? 1 : 0) | (a.has("autodestroy") ? 2 : 0) | (a.has("bypass-cache") ? 4 : 0) |
              (a.has("force-boot") ? 8 : 0);
  auto done = flagged<Proc::DOMAIN_CREATE_WITH_FLAGS>(context, a, flags, "Domain '{}' started\n");
  if (!done || !a.has("console")) return done;
  return TRY(find_verb("console")->run(context, a));
}
Result<std::string> destroy(Context& c, const Arguments& a) {
  return flagged<Proc::DOMAIN_DESTROY_FLAGS>(c, a, a.has("graceful"), "Domain '{}' destroyed\n");
}
Result<std::string> shutdown_(Context& c, const Arguments& a) {
  u32 mode = a["mode"] == "acpi" ? 1 : a["mode"] == "agent" ? 2 : 0;
  return flagged<Proc::DOMAIN_SHUTDOWN_FLAGS>(c, a, mode, "Domain '{}' is being shutdown\n");
}
Result<std::string> reboot(Context& c, const Arguments& a) {
  u32 mode = a["mode"] == "acpi" ? 1 : a["mode"] == "agent" ? 2 : 0;
  return flagged<Proc::DOMAIN_REBOOT>(c, a, mode, "Domain '{}' is being rebooted\n");
}
Result<std::string> reset(Context& c, const Arguments& a) {
  return flagged<Proc::DOMAIN_RESET>(c, a, 0, "Domain '{}' was reset\n");
}
Result<std::string> suspend(Context& c, const Arguments& a) {
  return plain<Proc::DOMAIN_SUSPEND>(c, a, "Domain '{}' suspended\n");
}
Result<std::string> resume(Context& c, const Arguments& a) {
  return plain<Proc::DOMAIN_RESUME>(c, a, "Domain '{}' resumed\n");
}
Result<std::string> inject_nmi(Context& c, const Arguments& a) { return flagged<Proc::DOMAIN_INJECT_NMI>(c, a, 0, ""); }
Result<std::string> managedsave(Context& c, const Arguments& a) {
  u32 flags = (a.has("bypass-cache") ? 1 : 0) | (a.has("running") ? 2 : 0) | (a.has("paused") ? 4 : 0);
  return flagged<Proc::DOMAIN_MANAGED_SAVE>(c, a, flags, "\nDomain '{}' state saved by libvirt\n");
}
Result<std::string> managedsave_remove(Context& c, const Arguments& a) {
  return flagged<Proc::DOMAIN_MANAGED_SAVE_REMOVE>(c, a, 0, "Removed managedsave image for domain '{}'\n");
}
Result<std::string> undefine(Context& c, const Arguments& a) {
  u32 flags = (a.has("managed-save") ? 1 : 0) | (a.has("snapshots-metadata") ? 2 : 0) | (a.has("nvram") ? 4 : 0) |
              (a.has("keep-nvram") ? 8 : 0);
  return flagged<Proc::DOMAIN_UNDEFINE_FLAGS>(c, a, flags, "Domain '{}' has been undefined\n");
}

Result<std::string> define(Context& context, const Arguments& a) {
  std::string text = TRY(read_document(a["file"]));
  auto domain = TRY(context.get<DomainRef>(Proc::DOMAIN_DEFINE_XML_FLAGS, text, u32{a.has("validate")}));
  return fmt::format("Domain '{}' defined from {}\n", domain.name, a["file"]);
}

Result<std::string> create(Context& context, const Arguments& a) {
  std::string text = TRY(read_document(a["file"]));
  u32 flags = (a.has("paused") ? 1 : 0) | (a.has("autodestroy") ? 2 : 0) | (a.has("validate") ? 16 : 0);
  auto domain = TRY(context.get<DomainRef>(Proc::DOMAIN_CREATE_XML, text, flags));
  return fmt::format("Domain '{}' created from {}\n", domain.name, a["file"]);
}

Result<std::string> autostart(Context& context, const Arguments& a) {
  bool off = a.has("disable");
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(Proc::DOMAIN_SET_AUTOSTART, domain, i32{!off}));
  return fmt::format("Domain '{}' {} as autostarted\n", a["domain"], off ? "unmarked" : "marked");
}

Result<std::string> save(Context& context, const Arguments& a) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(Proc::DOMAIN_SAVE, domain, a["file"]));
  return fmt::format("\nDomain '{}' saved to {}\n", a["domain"], a["file"]);
}

Result<std::string> restore(Context& context, const Arguments& a) {
  TRY(context.call(Proc::DOMAIN_RESTORE, a["file"]));
  return fmt::format("Domain restored from {}\n", a["file"]);
}

constexpr u32 kLive = 1, kStored = 2;
u32 affected(const Arguments& a) {
  return (a.has("live") ? kLive : 0) | (a.has("config") ? kStored : 0) | (a.has("persistent") ? kStored : 0);
}

template <Proc procedure>
Result<std::string> change_device(Context& context, const Arguments& a, std::string_view sentence) {
  std::string text = TRY(read_document(a["file"]));
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(procedure, domain, text, affected(a)));
  return std::string(sentence);
}
Result<std::string> attach_device(Context& c, const Arguments& a) {
  return change_device<Proc::DOMAIN_ATTACH_DEVICE_FLAGS>(c, a, "Device attached successfully\n");
}
Result<std::string> detach_device(Context& c, const Arguments& a) {
  return change_device<Proc::DOMAIN_DETACH_DEVICE_FLAGS>(c, a, "Device detached successfully\n");
}
Result<std::string> update_device(Context& c, const Arguments& a) {
  return change_device<Proc::DOMAIN_UPDATE_DEVICE_FLAGS>(c, a, "Device updated successfully\n");
}

Result<std::string> setmem(Context& context, const Arguments& a) {
  auto bytes = parse_size(a["size"], 'K');
  if (!bytes) return manage::invalid_arg(fmt::format("invalid size '{}'", a["size"]));
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(Proc::DOMAIN_SET_MEMORY_FLAGS, domain, *bytes / kKiB, affected(a)));
  return std::string();
}

Result<std::string> setvcpus(Context& context, const Arguments& a) {
  auto count = parse_u64(a["count"]);
  if (!count || *count == 0 || *count > 4096) return manage::invalid_arg("Invalid number of virtual CPUs");
  u32 flags = affected(a) | (a.has("maximum") ? 4 : 0);
  DomainRef domain = TRY(context.domain(a["domain"]));
  TRY(context.call(Proc::DOMAIN_SET_VCPUS_FLAGS, domain, static_cast<u32>(*count), flags));
  return std::string();
}

Result<std::string> screenshot(Context& context, const Arguments& a) {
  Connection* daemon = TRY(context.connection());
  DomainRef domain = TRY(context.domain(a["domain"]));
  auto mime = TRY(daemon->get<std::optional<std::string>>(Proc::DOMAIN_SCREENSHOT, domain, u32{0}, u32{0}));
  std::string type = mime.value_or("");
  std::string path =
      a.has("file") ? a["file"] : fmt::format("{}.{}", a["domain"], type.ends_with("png") ? "png" : "ppm");
  Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC));
  TRY(daemon->receive_stream([&](std::span<const u8> data) -> Status { return write_all(file, data); }));
  return fmt::format("Screenshot saved to {}, with type of {}\n", path, type);
}

/// The terminal without echo, lines and signals, until the end of a scope.
class RawTerminal {
 public:
  RawTerminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) < 0) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    changed_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
  }
  ~RawTerminal() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
  bool changed_ = false;
};

Result<std::string> console(Context& context, const Arguments& a) {
  DomainRef domain = TRY(context.domain(a["domain"]));
  Connection* daemon = TRY(context.connection());
  std::optional<std::string> device;
  if (a.has("devname")) device = a["devname"];
  TRY(daemon->call(Proc::DOMAIN_OPEN_CONSOLE, domain, device, u32{a.has("force")} | (a.has("safe") ? 2 : 0)));
  fmt::print("Connected to domain '{}'\nEscape character is ^] (Ctrl + ])\n", domain.name);
  std::fflush(stdout);
  RawTerminal raw;
  TRY(daemon->run_console(STDIN_FILENO, 0x1d));
  return std::string("\n");
}

/// An editor on the definition; what comes out is defined.
Result<std::string> edit(Context& context, const Arguments& a) {
  std::string before = TRY(document_of(context, a, kXmlSecure | kXmlInactive));
  std::string path = "/tmp/atollXXXXXX.xml";
  Fd file(::mkostemps(path.data(), 4, O_CLOEXEC));
  if (!file) return atl::Error(os_error("make " + path));
  TRY(write_all(file, {reinterpret_cast<const u8*>(before.data()), before.size()}));
  const char* editor = ::getenv("VISUAL") ? ::getenv("VISUAL") : ::getenv("EDITOR") ? ::getenv("EDITOR") : "vi";
  std::string command = fmt::format("{} {}", editor, path);
  int status = std::system(command.c_str());
  auto after = read_document(path);
  ::unlink(path.c_str());
  if (status != 0) return manage::internal_error(fmt::format("{}: command exited with non-zero status", command));
  if (TRY(std::move(after)) == before) return fmt::format("Domain '{}' XML configuration not changed.\n", a["domain"]);
  TRY(context.call(Proc::DOMAIN_DEFINE_XML_FLAGS, *after, u32{a.has("skip-validate") ? 0u : 1u}));
  return fmt::format("Domain '{}' XML configuration edited.\n", a["domain"]);
}

constexpr Verb kVerbs[] = {
    {"attach-device", "domain file --live --config --persistent --current", "attach device from an XML file",
     attach_device},
    {"autostart", "domain --disable", "autostart a domain", autostart},
    {"console", "domain --devname= --force --safe", "connect to the guest console", console},
    {"create", "file --paused --autodestroy --validate", "create a domain from an XML file", create},
    {"define", "file --validate", "define (but don't start) a domain from an XML file", define},
    {"destroy", "domain --graceful", "destroy (stop) a domain", destroy},
    {"detach-device", "domain file --live --config --persistent --current", "detach device from an XML file",
     detach_device},
    {"domblkinfo", "domain device", "domain block device size information", domblkinfo},
    {"domblklist", "domain --inactive --details", "list all domain blocks", domblklist},
    {"domid", "domain", "convert a domain name or UUID to domain id", domid},
    {"domiflist", "domain --inactive", "list all domain virtual interfaces", domiflist},
    {"dominfo", "domain", "domain information", dominfo},
    {"domname", "domain", "convert a domain id or UUID to domain name", domname},
    {"domstate", "domain --reason", "domain state", domstate},
    {"domstats",
     "[domain] --state --cpu-total --balloon --vcpu --interface --block --perf --iothread --memory --dirtyrate --vm",
     "get statistics about one or multiple domains", domstats},
    {"domuuid", "domain", "convert a domain name or id to domain UUID", domuuid},
    {"dumpxml", "domain --inactive --security-info --update-cpu --migratable", "domain information in XML", dumpxml},
    {"edit", "domain --skip-validate", "edit XML configuration for a domain", edit},
    {"inject-nmi", "domain", "inject NMI to the guest", inject_nmi},
    {"list",
     "--all --inactive --name --uuid --table --persistent --transient --autostart --no-autostart --with-managed-save "
     "--managed-save --state-running --state-paused --state-shutoff --state-other",
     "list domains", list},
    {"managedsave", "domain --bypass-cache --running --paused", "managed save of a domain state", managedsave},
    {"managedsave-remove", "domain", "remove managed save of a domain", managedsave_remove},
    {"reboot", "domain --mode=", "reboot a domain", reboot},
    {"reset", "domain", "reset a domain", reset},
    {"restore", "file", "restore a domain from a saved state in a file", restore},
    {"resume", "domain", "resume a domain", resume},
    {"save", "domain file", "save a domain state to a file", save},
    {"screenshot", "domain [file]", "take a screenshot of a current domain console", screenshot},
    {"setmem", "domain size --live --config --current", "change memory allocation", setmem},
    {"setvcpus", "domain count --live --config --current --maximum", "change number of virtual CPUs", setvcpus},
    {"shutdown", "domain --mode=", "gracefully shutdown a domain", shutdown_},
    {"start", "domain --paused --console --autodestroy --bypass-cache --force-boot",
     "start a (previously defined) inactive domain", start},
    {"suspend", "domain", "suspend a domain", suspend},
    {"undefine", "domain --managed-save --snapshots-metadata --nvram --keep-nvram", "undefine a domain", undefine},
    {"update-device", "domain file --live --config --persistent --current", "update device from an XML file",
     update_device},
};

}  // namespace

std::span<const Verb> domain_verbs() { return kVerbs; }

}  // namespace atl::client
