// Starting a VM: the tree that it gets, what the host gives it, its process, and its first answers.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/log.h"
#include "base/sockets.h"
#include "manage/domain/aliases.h"
#include "manage/domain/channel_state.h"
#include "manage/domain/command_line.h"
#include "manage/domain/disk_chain.h"
#include "manage/domain/domains.h"
#include "manage/domain/disk_secrets.h"
#include "manage/domain/firmware.h"
#include "manage/domain/hooks.h"
#include "manage/domain/iothreads.h"
#include "manage/domain/tpm.h"
#include "manage/domain/tuning.h"
#include "manage/domain/vnc_port.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kGreeting_ns = 60'000'000'000;
constexpr u64 kAnswer_ns = 30'000'000'000;
constexpr u64 kGrace_ns = 5'000'000'000;
constexpr size_t kLogTailBytes = 4096;

/// The last lines that the VM wrote before it gave up.
std::string log_tail(const std::string& path, off_t from) {
  Fd log(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat now;
  if (!log || ::fstat(log.get(), &now) < 0 || now.st_size <= from) return {};
  const off_t start = std::max<off_t>(from, now.st_size - static_cast<off_t>(kLogTailBytes));
  std::string text(static_cast<size_t>(now.st_size - start), '\0');
  const ssize_t got = ::pread(log.get(), text.data(), text.size(), start);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return std::string(trim(text));
}

/// Listens before the VM exists, so that nobody has to try again and again. Belongs to the VM's user: it removes nothing.
Result<Fd> listen_for_monitor(const std::string& folder) { return listen_unix(folder + "/monitor.sock"); }

struct VmLog {
  Fd fd;
  std::string path;
  off_t begin = 0;
};

Result<VmLog> open_log(const std::string& folder, const std::string& name, const VmCommand& command) {
  VmLog log{.fd = {}, .path = fmt::format("{}/{}.log", folder, name), .begin = 0};
  log.fd = TRY(open_file(log.path, O_WRONLY | O_CREAT | O_APPEND, 0600));
  const time_t now = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&now, &parts);
  const std::string head = fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}.000+0000: starting up\n{}\n", parts.tm_year + 1900, parts.tm_mon + 1,
                                       parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, command.text());
  TRY(write_all(log.fd, std::span(reinterpret_cast<const u8*>(head.data()), head.size())));
  log.begin = ::lseek(log.fd.get(), 0, SEEK_END);
  return log;
}

/// Whoever may use KVM on this host may do so as the VM's user, too.
std::vector<gid_t> kvm_groups() {
  struct stat device;
  if (::stat("/dev/kvm", &device) < 0 || !(device.st_mode & S_IRGRP) || device.st_gid == 0) return {};
  return {device.st_gid};
}

}  // namespace

Result<DomainPtr> Domains::create_transient(std::string_view text, const StartOptions& options) {
  Element tree = TRY(read_definition(text, host_));
  const Uuid uuid = TRY(xml::uuid_child(tree));
  const std::string name = TRY(xml::name_child(tree));
  auto existing = find(uuid);
  if (existing && (*existing)->active()) return operation_invalid(fmt::format("domain '{}' is already active", name));
  if (existing && (*existing)->name() != name)
    return operation_failed(fmt::format("domain '{}' is already defined with uuid {}", (*existing)->name(), format_uuid(uuid)));
  const bool is_new = !existing;
  DomainPtr domain = existing ? *existing : TRY(add(name, uuid));
  auto job = TRY(domain->begin_job());
  Status started = domain->active() ? Status(operation_invalid("domain is already running")) : start_tree(*domain, std::move(tree), options);
  if (!started && is_new) forget(*domain);
  if (!started) return std::move(started).error();
  return domain;
}

Status Domains::start(Domain& domain, const StartOptions& options) {
  if (domain.active()) return operation_invalid("domain is already running");
  return start_tree(domain, TRY(domain.config()), options);
}

Status Domains::start_tree(Domain& domain, Element tree, const StartOptions& options) {
  const DomainPtr self = TRY(find(domain.uuid()));
  TRY(choose_firmware(tree, find_firmware(config_.paths.state)));
  i32 id;
  {
    Lock lock(mutex_);
    id = next_id_++;
  }
  auto vm = std::make_shared<RunningVm>();
  const std::string name = domain.name();
  vm->folder = fmt::format("{}/vm/{}-{}", config_.paths.run, id, name.substr(0, 20));
  Status up = run_hook(config_.paths.config, tree, "prepare", "begin");
  if (up) up = launch(self, vm, tree, id);
  if (up) up = come_up(domain, *vm, options);
  if (up) return {};
  abandon(domain, *vm, tree);
  return up;
}

void Domains::abandon(Domain& domain, RunningVm& vm, const Element& tree) {
  if (domain.active()) return finish(domain, ShutoffReason::Failed);
  if (vm.process.pid) (void)signal_process(vm.process, SIGKILL);
  if (vm.process.pid) wait_for_end(vm.process, kGrace_ns);
  domain.set_state(make_state(RunState::Shutoff, ShutoffReason::Failed));
  tell_hook(config_.paths.config, tree, "stopped", "end");
  clear_up(vm, tree);
  tell_hook(config_.paths.config, tree, "release", "end");
}

Result<uid_t> Domains::choose_user() const {
  if (::geteuid() != 0) return uid_t{0};
  std::set<uid_t> taken;
  for (const auto& domain : all())
    if (auto vm = domain->running()) taken.insert(vm->user);
  for (uid_t user = kFirstVmUser; user < kFirstVmUser + kVmUsers; ++user)
    if (!taken.contains(user)) return user;
  return operation_failed("no user is left for another VM");
}

Status Domains::prepare_disk(RunningVm& vm, Element& disk) {
  Element* source = disk.child("source");
  if (!source) return {};
  if (!source->has_attribute("index")) source->set("index", vm.next_node++);
  if (disk.attribute("type") == "volume") {
    if (!volume_paths_) return config_unsupported("<disk type='volume'> is not supported here");
    source->set("file", TRY(volume_paths_(source->attribute("pool"), source->attribute("volume"))));
  }
  const std::string path = source->has_attribute("file") ? source->attribute("file") : source->attribute("dev");
  if (path.empty()) return {};
  TRY(vm.files.give(path, !disk.child("readonly")));
  return describe_chain(vm, disk, path);
}

Result<std::string> Domains::passphrase_of(const Element& disk) const {
  const Element* secret = disk_secret(disk);
  if (!secret) return internal_error("missing secret info for 'luks' driver");
  if (!secret_values_) return config_unsupported("secrets are not supported by this daemon");
  return secret_values_(*secret);
}

void Domains::release_disk(RunningVm& vm, const Element& disk) {
  for (const Element* layer = &disk; layer; layer = layer->child("backingStore"))
    for (const char* kind : {"file", "dev"})
      if (const std::string path = at(*layer, "source", kind); !path.empty()) vm.files.take_back(path);
}

Result<PluggedTap> Domains::plug(const Element& card, const Domain& domain) {
  const std::string type = card.attribute("type");
  if (!plugs_.plug) return config_unsupported(fmt::format("<interface type='{}'> is not supported by this daemon", type));
  return plugs_.plug(card, domain.ref());
}

void Domains::unplug(const Element& card) {
  if (plugs_.unplug && card.attribute("type") != "user") plugs_.unplug(card);
}

namespace {

/// Paths of sockets that the definition leaves to us.
void name_sockets(const std::string& folder, Element& tree) {
  for (std::string_view kind : {"serial", "console", "channel"})
    for (Element* port : each(devices_of(tree), kind)) {
      if (port->attribute("type") != "unix") continue;
      Element& source = ensure(*port, "source");
      set_default(source, "mode", "bind");
      const std::string target = at(*port, "target", "name");
      if (source.attribute("path").empty()) source.set("path", fmt::format("{}/{}", folder, target.empty() ? alias_of(*port) : target));
    }
}

/// The VM's user creates nothing in folders of others: logs of ports are made here.
Status make_port_files(FileOwnership& files, Element& tree) {
  for (std::string_view kind : {"serial", "console", "channel"})
    for (Element* port : each(devices_of(tree), kind)) {
      const std::string path = port->attribute("type") == "file" ? at(*port, "source", "path") : "", log = at(*port, "log", "file");
      for (const auto& file : {path, log}) {
        if (file.empty()) continue;
        TRY(open_file(file, O_WRONLY | O_CREAT, 0600));
        TRY(files.give(file, true));
      }
    }
  return {};
}

/// Firmware's variables begin as the template has them.
Status make_nvram(const Element& tree, const std::string& path) {
  const std::string from = at(tree, "os/nvram", "template");
  if (from.empty() || ::access(path.c_str(), F_OK) == 0) return {};
  constexpr u64 kLargest = 64 * kMiB;
  const std::string content = TRY(read_file(from, kLargest));
  TRY(make_folders(path.substr(0, path.rfind('/')), 0711));
  return write_atomically(path, content);
}

}  // namespace

Status Domains::prepare_files(RunningVm& vm, Element& tree) {
  for (Element* disk : each(devices_of(tree), "disk")) TRY(prepare_disk(vm, *disk));
  TRY(make_port_files(vm.files, tree));
  for (const char* path : {"os/kernel", "os/initrd", "os/loader"})
    if (const std::string file = text_at(tree, path); file.starts_with('/')) TRY(vm.files.give(file, false));
  if (const std::string nvram = text_at(tree, "os/nvram"); !nvram.empty()) {
    TRY(make_nvram(tree, nvram));
    TRY(vm.files.give(nvram, true));
  }
  return {};
}

/// Files in the VM's own folder, for the moment of its start.
Status Domains::hand_over_secrets(const RunningVm& vm, const Element& tree) const {
  for (const Element* disk : devices_of(tree).children("disk")) {
    const std::string id = disk_secret_id(*disk), path = vm.folder + "/" + id;
    if (id.empty()) continue;
    const std::string value = TRY(passphrase_of(*disk));
    Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    TRY(write_all(file, std::span(reinterpret_cast<const u8*>(value.data()), value.size())));
    if (vm.user && ::fchown(file.get(), vm.user, vm.user) < 0) return os_error("chown " + path);
  }
  return {};
}

Status Domains::launch(const DomainPtr& domain, const std::shared_ptr<RunningVm>& vm, Element& tree, i32 id) {
  tree.set("id", static_cast<u64>(id));
  assign_aliases(tree);
  number_sources(tree);
  vm->next_node = devices_of(tree).children("disk").size() + 1;
  TRY(choose_vnc_ports(tree));
  vm->user = TRY(choose_user());
  vm->files = FileOwnership(vm->user, vm->user);
  TRY(make_folders(vm->folder, 0700));
  if (vm->user && ::chown(vm->folder.c_str(), vm->user, vm->user) < 0) return os_error("chown " + vm->folder);
  name_sockets(vm->folder, tree);
  TRY(prepare_files(*vm, tree));
  TRY(hand_over_secrets(*vm, tree));
  Fd listener = TRY(listen_for_monitor(vm->folder));
  Handed handed{.taps = {}, .monitor = std::to_string(listener.get()), .vhost_vsock = {}, .tpm = {}, .secrets = vm->folder};
  ProcessRequest request;
  request.descriptors = {listener.get()};
  request.user = request.group = vm->user;
  request.more_groups = kvm_groups();
  std::vector<Fd> taps;
  for (Element* card : each(devices_of(tree), "interface")) {
    if (card->attribute("type") == "user") continue;
    PluggedTap tap = TRY(plug(*card, *domain));
    ensure(*card, "target").set("dev", tap.name);
    handed.taps[alias_of(*card)] = std::to_string(tap.fd.get());
    request.descriptors.push_back(tap.fd.get());
    taps.push_back(std::move(tap.fd));
  }
  vm->group = TRY(ControlGroup::open(group_name(config_.paths.run, id, domain->name())));
  TRY(apply_group_tuning(vm->group, tree));
  handed.tpm = TRY(start_tpm(config_, tree, *vm, secret_values_));
  VmCommand command = TRY(compose_command(tree, handed));
  request.program = host_.emulator;
  request.arguments = command.arguments;
  request.environment = command.environment;
  if (tree.find("memoryBacking/locked")) request.locked_memory_bytes = ~u64{0};
  TRY(run_hook(config_.paths.config, tree, "start", "begin"));
  VmLog log = TRY(open_log(config_.paths.log, domain->name(), command));
  request.log = log.fd.get();
  vm->process = TRY(start_process(request, [&](pid_t pid) { return vm->group.attach(pid); }));
  listener.reset();
  domain->begin_running(id, vm, tree);
  domain->set_state(make_state(RunState::Paused, PausedReason::StartingUp));
  auto monitor = QmpClient::connect(*monitors_, vm->folder + "/monitor.sock", callbacks(domain, vm), kGreeting_ns);
  // A VM that is refused what it asks for says so in its log and ends.
  auto ready = monitor ? (*monitor)->execute("query-status", Json::object(), kGreeting_ns) : Result<Json>(std::move(monitor).error());
  if (!ready) {
    wait_for_end(vm->process, kGrace_ns);
    const std::string said = log_tail(log.path, log.begin);
    return internal_error(fmt::format("process exited while connecting to monitor: {}", said.empty() ? ready.error().message() : said));
  }
  vm->monitor = std::move(*monitor);
  for (const Element* disk : devices_of(tree).children("disk"))
    if (const std::string secret = disk_secret_id(*disk); !secret.empty()) ::unlink((vm->folder + "/" + secret).c_str());
  return {};
}

Status Domains::come_up(Domain& domain, RunningVm& vm, const StartOptions& options) {
  TRY(learn_details(domain, vm));
  const auto tree = domain.live();
  if (!tree) return internal_error("the VM ended while it came up");
  TRY(run_hook(config_.paths.config, *tree, "started", "begin"));
  tell_of_agent_at_start(events_, domain, *tree);
  TRY(apply_thread_tuning(*tree, vm));
  TRY(apply_thread_quotas(*tree, vm));
  TRY(apply_monitor_tuning(*tree, *vm.monitor));
  if (options.paused) {
    domain.set_state(make_state(RunState::Paused, PausedReason::User));
  } else {
    TRY(vm.monitor->execute("cont", Json::object(), kAnswer_ns));
    domain.set_running_state(make_state(RunState::Running, RunningReason::Booted));
  }
  save_status(domain);
  events_.domain_lifecycle(domain.ref(), static_cast<i32>(LifecycleEvent::Started), lifecycle_detail::kStartedBooted);
  if (options.paused)
    events_.domain_lifecycle(domain.ref(), static_cast<i32>(LifecycleEvent::Suspended), lifecycle_detail::kSuspendedPaused);
  return {};
}

namespace {

/// Paths of pseudo-terminals, by the name of the back end.
void fill_terminals(Element& tree, const Json& chardevs) {
  for (std::string_view kind : {"serial", "console", "channel"})
    for (Element* port : each(devices_of(tree), kind)) {
      if (port->attribute("type") != "pty") continue;
      const std::string label = "char" + alias_of(*port);
      for (const Json& chardev : chardevs) {
        const std::string file = chardev.value("filename", "");
        if (chardev.value("label", "") != label || !file.starts_with("pty:")) continue;
        ensure(*port, "source").set("path", file.substr(4));
        if (kind == "console") port->set("tty", file.substr(4));
      }
    }
}

}  // namespace

Status Domains::learn_details(Domain& domain, RunningVm& vm) {
  const auto before = domain.live();
  if (!before) return internal_error("the VM ended while it came up");
  Element tree = *before;
  const Json chardevs = TRY(vm.monitor->execute("query-chardev", Json::object(), kAnswer_ns));
  fill_terminals(tree, chardevs);
  set_channel_states(tree, chardevs);
  const Json cpus = TRY(vm.monitor->execute("query-cpus-fast", Json::object(), kAnswer_ns));
  for (const Json& cpu : cpus) vm.vcpu_threads.push_back(cpu.value("thread-id", 0));
  vm.io_threads = TRY(running_iothreads(*vm.monitor));
  put_in_order(tree);
  domain.set_live(std::move(tree));
  return {};
}

}  // namespace atl::manage
