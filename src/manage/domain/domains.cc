#include "manage/domain/domains.h"

#include <unistd.h>

#include <set>

#include <fmt/format.h>

#include "base/log.h"
#include "manage/domain/leftovers.h"
#include "manage/domain/tuning.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

/// Where atoll-vmm is: as configured, else beside this program.
std::string vmm_path(const Config& config) {
  if (!config.paths.programs.empty()) return config.paths.programs + "/atoll-vmm";
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self);
  const std::string path(self, length > 0 ? static_cast<size_t>(length) : 0);
  return path.substr(0, path.rfind('/') + 1) + "atoll-vmm";
}

}  // namespace

Result<std::unique_ptr<Domains>> Domains::create(Events& events, const Config& config) {
  std::unique_ptr<Domains> domains(new Domains(events, config));
  domains->host_ = {.emulator = vmm_path(config), .state = config.paths.state};
  domains->definitions_ = std::make_unique<StateFolder>(TRY(StateFolder::open(config.paths.config + "/domains", ".xml", 0700, Flush::Later)));
  domains->statuses_ = std::make_unique<StateFolder>(TRY(StateFolder::open(config.paths.run + "/domains", ".xml", 0700, Flush::Never)));
  // The VMs' own users pass through to their sockets' folders.
  TRY(make_folders(config.paths.run + "/vm", 0711));
  TRY(make_folders(config.paths.log, 0700));
  domains->monitors_ = TRY(LoopThread::start("monitors"));
  domains->consoles_ = TRY(Consoles::create());
  TRY(domains->load());
  return domains;
}

Domains::~Domains() {
  errands_.finish();
  // Monitors end before their loop; VMs do not notice.
  for (const auto& domain : all())
    if (auto vm = domain->running(); vm && vm->monitor) vm->monitor->close();
}

Status Domains::load() {
  for (const auto& name : TRY(definitions_->names()))
    if (Status loaded = load_definition(name); !loaded) log_error("domain '{}': {}", name, loaded.error().message());
  for (const auto& name : TRY(statuses_->names())) load_running(name);
  std::set<std::string> known;
  for (const auto& domain : all())
    if (auto vm = domain->running()) known.insert(vm->folder);
  remove_leftovers(config_.paths.run, known);
  return {};
}

Status Domains::load_definition(const std::string& name) {
  const std::string text = TRY(definitions_->read(name));
  // As it was stored: a VM keeps what it was defined with.
  const Element tree = TRY(xml::parse(text, name, "domain"));
  const std::string own_name = TRY(xml::name_child(tree));
  const Uuid uuid = TRY(xml::uuid_child(tree));
  DomainPtr domain = TRY(add(own_name, uuid));
  domain->set_config(text);
  domain->set_autostart(definitions_->autostart(name));
  return {};
}

void Domains::load_running(const std::string& name) {
  auto text = statuses_->read(name);
  auto status = text ? read_status(*text) : Result<VmStatus>(std::move(text).error());
  if (!status) return log_error("status of domain '{}': {}", name, status.error().message());
  auto uuid = xml::uuid_child(status->tree);
  if (!uuid) return log_error("status of domain '{}': {}", name, uuid.error().message());
  auto found = find(*uuid);
  if (!found) found = add(name, *uuid);
  if (!found) return log_error("status of domain '{}': {}", name, found.error().message());
  const DomainPtr& domain = *found;
  auto vm = std::make_shared<RunningVm>();
  vm->process = status->process;
  vm->user = status->user;
  vm->folder = status->folder;
  vm->next_node = status->next_node;
  vm->files = FileOwnership(status->user, status->user);
  for (auto& file : status->files) vm->files.remember(std::move(file));
  if (auto group = ControlGroup::open(group_name(config_.paths.run, status->id, name))) vm->group = std::move(*group);
  domain->begin_running(status->id, vm, std::move(status->tree));
  domain->set_state(status->state);
  domain->set_backup(std::move(status->backup));
  {
    Lock lock(mutex_);
    next_id_ = std::max(next_id_, status->id + 1);
  }
  errands_.run("reconnect", [this, domain, vm] { reconnect(domain, vm); });
}

Result<DomainPtr> Domains::add(const std::string& name, const Uuid& uuid) {
  Lock lock(mutex_);
  if (auto same = names_.find(name); same != names_.end())
    return operation_failed(fmt::format("domain '{}' already exists with uuid {}", name, format_uuid(same->second)));
  if (auto same = domains_.find(uuid); same != domains_.end())
    return operation_failed(fmt::format("domain '{}' is already defined with uuid {}", same->second->name(), format_uuid(uuid)));
  auto domain = std::make_shared<Domain>(name, uuid);
  domains_.emplace(uuid, domain);
  names_.emplace(name, uuid);
  return domain;
}

void Domains::forget(const Domain& domain) {
  Lock lock(mutex_);
  names_.erase(domain.name());
  domains_.erase(domain.uuid());
}

Result<DomainPtr> Domains::find(const Uuid& uuid) const {
  Lock lock(mutex_);
  auto found = domains_.find(uuid);
  if (found == domains_.end()) return no_domain_uuid(format_uuid(uuid));
  return found->second;
}

Result<DomainPtr> Domains::find_name(const std::string& name) const {
  Lock lock(mutex_);
  auto found = names_.find(name);
  if (found == names_.end()) return no_domain(name);
  return domains_.at(found->second);
}

Result<DomainPtr> Domains::find_id(i32 id) const {
  for (const auto& domain : all())
    if (id >= 0 && domain->facts().id == id) return domain;
  return Error(Code::NoDomain, fmt::format("no domain with matching id {}", id));
}

std::vector<DomainPtr> Domains::all() const {
  Lock lock(mutex_);
  std::vector<DomainPtr> list;
  for (const auto& [uuid, domain] : domains_) list.push_back(domain);
  return list;
}

void Domains::start_marked() {
  for (const auto& domain : all()) {
    const DomainFacts facts = domain->facts();
    if (!facts.autostart || facts.active()) continue;
    errands_.run("autostart", [this, domain] {
      auto job = domain->begin_job();
      if (!job || domain->active()) return;
      if (Status started = start(*domain, {}); !started)
        log_error("domain '{}' is marked for autostart: {}", domain->name(), started.error().message());
    });
  }
}

void Domains::save_status(const Domain& domain) {
  auto vm = domain.running();
  auto live = domain.live();
  const DomainFacts facts = domain.facts();
  if (!vm || !live || !facts.active()) return;
  const VmStatus status{.id = facts.id, .state = facts.state, .process = vm->process, .user = vm->user, .next_node = vm->next_node, .folder = vm->folder,
                        .files = vm->files.files(), .tree = *live, .backup = domain.backup()};
  if (Status saved = statuses_->write(facts.name, write_status(status)); !saved)
    log_error("status of domain '{}': {}", facts.name, saved.error().message());
}

}  // namespace atl::manage
