#include "manage/domain/domain.h"

#include <chrono>

#include "manage/domain/definition.h"
#include "manage/xml/parse.h"

namespace atl::manage {
namespace {
constexpr std::chrono::seconds kJobPatience{30};
}

Result<Domain::Job> Domain::begin_job() {
  std::unique_lock lock(job_, std::defer_lock);
  if (!lock.try_lock_for(kJobPatience)) return Error(Code::OperationTimeout, "cannot acquire state change lock (held by another call)");
  return Job(std::move(lock));
}

Result<Domain::Job> Domain::begin_agent_job() {
  std::unique_lock lock(agent_job_, std::defer_lock);
  if (!lock.try_lock_for(kJobPatience)) return Error(Code::OperationTimeout, "cannot acquire state change lock (held by another agent call)");
  return Job(std::move(lock));
}

DomainFacts Domain::facts() const {
  Lock lock(mutex_);
  return facts_;
}

std::string Domain::config_text() const {
  Lock lock(mutex_);
  return config_;
}

Result<Element> Domain::config() const {
  std::string text;
  Tree live;
  {
    Lock lock(mutex_);
    text = config_;
    live = live_;
  }
  if (!text.empty()) return xml::parse(text, "(domain_definition)", "domain");
  if (!live) return no_domain(name());
  Element tree = *live;
  drop_runtime(tree);
  return tree;
}

Domain::Tree Domain::live() const {
  Lock lock(mutex_);
  return live_;
}

Result<Element> Domain::current() const {
  if (Tree tree = live()) return *tree;
  return config();
}

Result<std::shared_ptr<QmpClient>> Domain::monitor() const {
  Lock lock(mutex_);
  if (!vm_ || !vm_->monitor) return operation_invalid("domain is not running");
  return vm_->monitor;
}

std::optional<ControlGroup> Domain::group() const {
  Lock lock(mutex_);
  if (!vm_) return std::nullopt;
  return vm_->group;
}

std::vector<int> Domain::vcpu_threads() const {
  Lock lock(mutex_);
  return vm_ ? vm_->vcpu_threads : std::vector<int>();
}

std::optional<ProcessId> Domain::process() const {
  Lock lock(mutex_);
  if (!vm_) return std::nullopt;
  return vm_->process;
}

void Domain::set_config(std::string text) {
  Lock lock(mutex_);
  facts_.persistent = !text.empty();
  config_ = std::move(text);
}

void Domain::set_name(std::string name) {
  Lock lock(mutex_);
  facts_.name = std::move(name);
}

void Domain::set_autostart(bool on) {
  Lock lock(mutex_);
  facts_.autostart = on;
}

void Domain::set_managed_save(bool on) {
  Lock lock(mutex_);
  facts_.managed_save = on;
}

void Domain::set_tainted() {
  Lock lock(mutex_);
  facts_.tainted = true;
}

void Domain::set_live(Element tree) {
  Tree next = std::make_shared<const Element>(std::move(tree));
  Lock lock(mutex_);
  if (live_) live_ = std::move(next);
}

void Domain::change_live(const std::function<void(Element&)>& change) {
  Lock lock(mutex_);
  if (!live_) return;
  Element tree = *live_;
  change(tree);
  live_ = std::make_shared<const Element>(std::move(tree));
}

void Domain::set_state(DomainState state) {
  Lock lock(mutex_);
  facts_.state = state;
}

void Domain::set_running_state(DomainState state) {
  Lock lock(mutex_);
  if (facts_.active()) facts_.state = state;
}

void Domain::begin_running(i32 id, std::shared_ptr<RunningVm> vm, Element tree) {
  Tree live = std::make_shared<const Element>(std::move(tree));
  Lock lock(mutex_);
  facts_.id = id;
  facts_.tainted = false;
  vm_ = std::move(vm);
  live_ = std::move(live);
  reboot_expected_ = false;
}

std::shared_ptr<RunningVm> Domain::running() const {
  Lock lock(mutex_);
  return vm_;
}

void Domain::adopt_monitor(std::shared_ptr<QmpClient> monitor) {
  Lock lock(mutex_);
  if (vm_) vm_->monitor = std::move(monitor);
}

std::shared_ptr<RunningVm> Domain::end_running(DomainState state) {
  Lock lock(mutex_);
  if (!vm_) return nullptr;
  facts_.id = -1;
  facts_.state = state;
  live_.reset();
  return std::exchange(vm_, nullptr);
}

std::optional<LongJob> Domain::long_job() const {
  Lock lock(mutex_);
  return long_job_;
}

void Domain::set_long_job(LongJob job) {
  Lock lock(mutex_);
  long_job_ = job;
}

std::optional<Element> Domain::backup() const {
  Lock lock(mutex_);
  return backup_;
}

void Domain::set_backup(std::optional<Element> backup) {
  Lock lock(mutex_);
  backup_ = std::move(backup);
}

void Domain::expect_reboot(bool on) {
  Lock lock(mutex_);
  reboot_expected_ = on;
}

bool Domain::take_expected_reboot() {
  Lock lock(mutex_);
  return std::exchange(reboot_expected_, false);
}

}  // namespace atl::manage
