// Stored definitions: define, undefine, rename, autostart.
#include <unistd.h>

#include <fmt/format.h>

#include "manage/domain/domains.h"
#include "manage/domain/firmware.h"
#include "manage/domain/snapshots.h"
#include "manage/domain/tpm.h"
#include "manage/xml/write.h"

namespace atl::manage {

Result<DomainPtr> Domains::define(std::string_view text) {
  Element tree = TRY(read_definition(text, host_));
  const Uuid uuid = TRY(xml::uuid_child(tree));
  const std::string name = TRY(xml::name_child(tree));
  auto existing = find(uuid);
  const bool is_new = !existing;
  if (existing && (*existing)->name() != name)
    return operation_failed(fmt::format("domain '{}' is already defined with uuid {}", (*existing)->name(), format_uuid(uuid)));
  DomainPtr domain = existing ? *existing : TRY(add(name, uuid));
  auto job = TRY(domain->begin_job());
  const std::string stored = xml::write(tree);
  if (Status written = definitions_->write(name, stored); !written) {
    if (is_new) forget(*domain);
    return std::move(written).error();
  }
  domain->set_config(stored);
  events_.domain_lifecycle(domain->ref(), static_cast<i32>(LifecycleEvent::Defined),
                           is_new ? lifecycle_detail::kDefinedAdded : lifecycle_detail::kDefinedUpdated);
  return domain;
}

Status Domains::store(Domain& domain, const Element& config) {
  const std::string text = xml::write(config);
  TRY(definitions_->write(domain.name(), text));
  domain.set_config(text);
  events_.domain_lifecycle(domain.ref(), static_cast<i32>(LifecycleEvent::Defined), lifecycle_detail::kDefinedUpdated);
  return {};
}

Status Domains::undefine(Domain& domain, const Kept& kept) {
  const DomainFacts facts = domain.facts();
  if (!facts.persistent) return operation_invalid("cannot undefine transient domain");
  if (!kept.nvram) {
    const Element tree = TRY(domain.config());
    if (const std::string nvram = variables_path(tree, config_.paths.state); !nvram.empty()) ::unlink(nvram.c_str());
  }
  if (!domain.active()) SnapshotStore(config_.paths.state, facts.name).remove_all();
  if (!domain.active()) SnapshotStore::of_checkpoints(config_.paths.state, facts.name).remove_all();
  if (!domain.active() && !kept.tpm) forget_tpm(config_, facts.uuid);
  TRY(definitions_->remove(facts.name));
  domain.set_config({});
  domain.set_autostart(false);
  DomainRef ref = facts.ref();
  if (!domain.active()) forget(domain);
  events_.domain_lifecycle(ref, static_cast<i32>(LifecycleEvent::Undefined), lifecycle_detail::kUndefinedRemoved);
  return {};
}

Status Domains::rename(Domain& domain, const std::string& name) {
  TRY(xml::check_name(name));
  const DomainFacts facts = domain.facts();
  if (name == facts.name) return operation_invalid("Can't rename domain to itself");
  if (facts.active()) return operation_invalid("cannot rename active domain");
  if (!facts.persistent) return operation_invalid("cannot rename a transient domain");
  if (!SnapshotStore(config_.paths.state, facts.name).all().empty()) return operation_invalid("cannot rename domain with snapshots");
  Element tree = TRY(domain.config());
  ensure(tree, "name").set_text(name);
  {
    Lock lock(mutex_);
    if (names_.contains(name)) return operation_invalid(fmt::format("domain with name '{}' already exists", name));
    names_.emplace(name, domain.uuid());
  }
  // The file under its new name is complete before the old one goes.
  const std::string text = xml::write(tree);
  Status written = definitions_->write(name, text);
  if (written && facts.autostart) written = definitions_->set_autostart(name, true);
  if (written) written = definitions_->remove(facts.name);
  {
    Lock lock(mutex_);
    names_.erase(written ? facts.name : name);
  }
  if (!written) return written;
  const DomainRef old = facts.ref();
  domain.set_name(name);
  domain.set_config(text);
  events_.domain_lifecycle(old, static_cast<i32>(LifecycleEvent::Undefined), lifecycle_detail::kUndefinedRenamed);
  events_.domain_lifecycle(domain.ref(), static_cast<i32>(LifecycleEvent::Defined), lifecycle_detail::kDefinedRenamed);
  return {};
}

Status Domains::set_autostart(Domain& domain, bool on) {
  const DomainFacts facts = domain.facts();
  if (!facts.persistent) return operation_invalid("cannot set autostart for transient domain");
  TRY(definitions_->set_autostart(facts.name, on));
  domain.set_autostart(on);
  return {};
}

}  // namespace atl::manage
