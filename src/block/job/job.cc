#include "block/job/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace atl::block {
namespace {

constexpr const char* kStateNames[] = {"created", "running", "paused",   "ready",     "standby",
                                       "waiting", "pending", "aborting", "concluded", "null"};
constexpr u64 kRetryNs = 10'000'000;          // between attempts at a request whose error is ignored
constexpr u64 kPieceBytes = 512 * kKiB;      // that a speed limit lets through at once
constexpr u64 kLongestNap = 100'000'000;  // of speed limits, so that requests are heard soon

Error refused(const std::string& id, JobState state, std::string_view verb) {
  return Error(ErrorKind::Invalid,
               fmt::format("Job '{}' in state '{}' cannot accept command verb '{}'", id, job_state_name(state), verb));
}

/// What monitors tell of an error: of a failed request its errno alone, as QEMU does; the log has the rest.
std::string told(const Error& error, const std::string& job) {
  if (!error.os_errno() || error.kind() == ErrorKind::Invalid || error.kind() == ErrorKind::Unsupported) return error.text();
  log_warning("job '{}': {}", job, error.text());
  return std::strerror(error.os_errno());
}

}  // namespace

const char* job_state_name(JobState state) { return kStateNames[static_cast<u8>(state)]; }

Job::Job(Graph& graph, std::string type, std::string device, JobOptions options)
    : graph_(graph), type_(std::move(type)), device_(std::move(device)), options_(std::move(options)), rate_(options_.speed) {
  timer_ = std::make_unique<Loop::Timer>(graph.loop(), [this] { poke(); });
}

JobInfo Job::info() const {
  JobInfo info;
  info.id = options_.id;
  info.type = type_;
  info.device = device_;
  info.state = state_;
  info.done = done_;
  info.total = total_;
  info.speed = rate_.rate();
  info.busy = state_ == JobState::Running && sleepers_.empty();
  info.io_status = io_status_;
  info.paused = paused_;
  info.ready = ready_;
  info.cancelled = cancelled_;
  info.auto_finalize = options_.auto_finalize;
  info.auto_dismiss = options_.auto_dismiss;
  info.error = error_;
  return info;
}

void Job::tell(JobEvent::Kind kind) {
  if (listener_) listener_({kind, info()});
}

void Job::set_state(JobState state) {
  if (state_ == state) return;
  state_ = state;
  tell(JobEvent::StatusChange);
}

void Job::start(Listener listener) {
  listener_ = std::move(listener);
  tell(JobEvent::StatusChange);  // "created"
  set_state(JobState::Running);
  // The job keeps itself until it has ended.
  auto self = shared_from_this();
  auto task = run();
  ::atl::start(std::move(task), [self](Status) {});
}

// --- what users ask ---

void Job::poke() {
  timer_->cancel();
  for (auto sleeper : std::exchange(sleepers_, {}))
    graph_.loop().post([self = shared_from_this(), sleeper] { sleeper.resume(); });
}

Status Job::pause() {
  if (is_over() || state_ == JobState::Pending || state_ == JobState::Waiting || state_ == JobState::Aborting)
    return refused(id(), state_, "pause");
  if (paused_) return Error(ErrorKind::Invalid, "Job is already paused");
  paused_ = true;
  return {};
}

Status Job::resume() {
  if (!paused_) return Error(ErrorKind::Invalid, "Can't resume a job that was not paused");
  paused_ = false;
  io_status_ = JobInfo::IoStatus::Ok;
  poke();
  return {};
}

Status Job::set_speed(u64 bytes_per_second) {
  if (is_over()) return refused(id(), state_, "set-speed");
  rate_.set_rate(bytes_per_second);
  poke();
  return {};
}

Status Job::cancel(bool force) {
  if (is_over() || state_ == JobState::Aborting) return refused(id(), state_, "cancel");
  if (ready_ && !force && can_complete()) {
    completing_ = true;  // ends in order, but nothing is put into place
    switches_ = false;
  } else {
    cancelled_ = true;
  }
  paused_ = false;
  poke();
  return {};
}

Status Job::complete() {
  if (!can_complete() || !ready_ || is_over() || cancelled_) {
    if (!ready_ && can_complete() && !is_over())
      return Error(ErrorKind::Invalid, fmt::format("The active block job '{}' cannot be completed", id()));
    return refused(id(), state_, "complete");
  }
  if (paused_) return Error(ErrorKind::Invalid, fmt::format("The active block job '{}' cannot be completed", id()));
  completing_ = true;
  poke();
  return {};
}

Status Job::finalize() {
  if (state_ != JobState::Pending || finalized_) return refused(id(), state_, "finalize");
  finalized_ = true;
  poke();
  return {};
}

Status Job::dismiss() {
  if (state_ != JobState::Concluded) return refused(id(), state_, "dismiss");
  set_state(JobState::Null);
  return {};
}

// --- what jobs call ---

struct Job::Sleep {
  Job& job;
  u64 ns;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    job.sleepers_.push_back(waiter);
    if (ns) job.timer_->arm_in(ns);
  }
  void await_resume() const {}
};

Task<bool> Job::nap(u64 ns) {
  if (!cancelled_ && !completing_) {
    Sleep sleep{*this, std::min<u64>(std::max<u64>(ns, 1), 1'000'000'000)};
    co_await sleep;
  }
  co_return !cancelled_;
}

Task<Status> Job::wait_while_paused() {
  while (paused_ && !cancelled_) {
    set_state(ready_ ? JobState::Standby : JobState::Paused);
    Sleep sleep{*this, 0};
    co_await sleep;
  }
  if (state_ == JobState::Paused) set_state(JobState::Running);
  if (state_ == JobState::Standby) set_state(JobState::Ready);
  co_return Status{};
}

Task<ErrorPolicy> Job::on_error(bool is_read, Error error) {
  const bool no_space = error.os_errno() == ENOSPC;
  ErrorPolicy action = is_read ? options_.on_source_error : options_.on_target_error;
  if (action == ErrorPolicy::StopOnNoSpace) action = no_space ? ErrorPolicy::Stop : ErrorPolicy::Report;
  JobEvent event{.kind = JobEvent::IoError, .job = info(), .is_read = is_read, .action = action};
  if (listener_) listener_(event);
  if (action != ErrorPolicy::Stop) co_return action;
  paused_ = true;
  io_status_ = no_space ? JobInfo::IoStatus::NoSpace : JobInfo::IoStatus::Failed;
  static_cast<void>(co_await wait_while_paused());
  co_return action;
}

Task<bool> Job::wants_retry(bool is_read, Error error) {
  const ErrorPolicy action = co_await on_error(is_read, std::move(error));
  if (action == ErrorPolicy::Ignore) co_await graph_.loop().sleep(kRetryNs);
  co_return action != ErrorPolicy::Report && !cancelled_;
}

Task<bool> Job::checkpoint(u64 bytes) {
  static_cast<void>(co_await wait_while_paused());
  u64 wait_ns = rate_.delay_ns(bytes, monotonic_ns());
  while (wait_ns && !cancelled_ && rate_.rate()) {
    u64 ns = std::min(wait_ns, kLongestNap);
    Sleep sleep{*this, ns};
    co_await sleep;
    wait_ns -= ns;
  }
  co_return !cancelled_;
}

void Job::set_progress(u64 done, u64 total) {
  done_ = done;
  total_ = std::max(total, done);
}

void Job::become_ready() {
  if (ready_) return;
  ready_ = true;
  set_state(JobState::Ready);
  tell(JobEvent::Ready);
}

void Job::wrote(Node& target, u64 offset, u64 bytes) {
  for (Node* at = &target; at; at = at->is_filter() ? at->children().front().node.get() : nullptr) {
    const Observers observers = *graph_.observers(*at);
    for (WriteObserver* observer : observers) observer->written(offset, bytes);
  }
}

CopyOptions Job::copy_options(Node& source, Node& target) {
  CopyOptions options;
  options.source = &source;
  options.chunk_bytes = kPieceBytes;
  options.target = &target;
  options.written = [this, &target](u64 offset, u64 bytes) { wrote(target, offset, bytes); };
  options.before_piece = [this](u64 bytes) { return checkpoint(bytes); };
  options.on_error = [this](bool is_read, const Error& error) { return wants_retry(is_read, error); };
  options.progress = [this](u64, u64) { return !cancelled_; };
  return options;
}

// --- the course of a job ---

Task<Status> Job::settle_drained() {
  static_cast<void>(co_await graph_.drain());
  Status status = filter_.remove(graph_);
  if (status) status = co_await settle();
  graph_.resume();
  co_return status;
}

Task<Status> Job::undo_all() {
  if (filter_.get()) {
    static_cast<void>(co_await graph_.drain());
    static_cast<void>(filter_.remove(graph_));   // goes on where it has been before
    graph_.resume();
  }
  co_return co_await undo();
}

Status Job::insert_filter() {
  const Filtered above = filtered();
  if (!above.node) return {};
  return filter_.insert(graph_, above.node, options_.filter_name, above.driver);
}

Task<Status> Job::run() {
  Status status = co_await work();
  if (status && cancelled_) status = Error(ErrorKind::Cancelled, "Operation was cancelled", ECANCELED);
  if (status) {
    set_state(JobState::Waiting);
    set_state(JobState::Pending);
    if (!options_.auto_finalize) {
      tell(JobEvent::Pending);
      while (!finalized_ && !cancelled_) {
        Sleep sleep{*this, 0};
        co_await sleep;
      }
      if (!finalized_) status = Error(ErrorKind::Cancelled, "Operation was cancelled", ECANCELED);
    }
  }
  if (status) status = co_await settle_drained();
  co_return co_await end(std::move(status));
}

Task<Status> Job::end(Status result) {
  if (!result) {
    if (result.error().kind() != ErrorKind::Cancelled) error_ = told(result.error(), id());
    set_state(JobState::Aborting);
    Status undone = co_await undo_all();
    if (!undone && error_.empty()) error_ = undone.error().text();
  }
  const bool cancelled = !result && error_.empty();
  tell(cancelled ? JobEvent::Cancelled : JobEvent::Completed);
  set_state(JobState::Concluded);
  if (options_.auto_dismiss) set_state(JobState::Null);
  co_return result;
}

// --- lists ---

Status Jobs::check(const Job& job) const {
  if (find(job.id())) return Error(ErrorKind::Exists, fmt::format("Job ID '{}' already in use", job.id()));
  for (const Node* node : job.nodes()) {  // null where there is none, such as the base of a whole chain
    std::shared_ptr<Job> user = node ? user_of(*node) : nullptr;
    if (user)
      return Error(ErrorKind::Busy,
                   fmt::format("Node '{}' is busy: block device is in use by block job: {}", node->info().node_name, user->type()));
  }
  return {};
}

Task<Status> Jobs::add(Graph& graph, std::shared_ptr<Job> job, Job::Listener listener) {
  CO_TRY(check(*job));
  static_cast<void>(co_await graph.drain());
  Status attached = co_await job->attach();
  if (attached) attached = job->insert_filter();
  graph.resume();
  CO_TRY(std::move(attached));
  jobs_.push_back(job);
  job->start(std::move(listener));
  co_return Status{};
}

std::shared_ptr<Job> Jobs::find(const std::string& id) const {
  auto found = std::ranges::find_if(jobs_, [&](const auto& job) { return job->id() == id && job->info().state != JobState::Null; });
  return found == jobs_.end() ? nullptr : *found;
}

void Jobs::reap() {
  std::erase_if(jobs_, [](const auto& job) { return job->info().state == JobState::Null; });
}

std::shared_ptr<Job> Jobs::user_of(const Node& node) const {
  auto found = std::ranges::find_if(jobs_, [&](const auto& job) {
    const std::vector<const Node*> nodes = job->nodes();
    return !job->is_over() && (job->filter() == &node || std::ranges::find(nodes, &node) != nodes.end());
  });
  return found == jobs_.end() ? nullptr : *found;
}

std::shared_ptr<Job> Jobs::holder_of(const Node& node) const {
  if (auto user = user_of(node)) return user;
  auto found = std::ranges::find_if(jobs_, [&](const auto& job) {
    const std::vector<const Node*> pinned = job->pinned();
    return !job->is_over() && std::ranges::find(pinned, &node) != pinned.end();
  });
  return found == jobs_.end() ? nullptr : *found;
}

}  // namespace atl::block
