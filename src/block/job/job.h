// Long work on a graph: states, progress, speed, pausing and cancelling, as QEMU's jobs have them. What a kind of job does
// stands in its own file (stream, commit, mirror, backup).
//
// A job lives on the loop of its graph; every call is made there. Its users hear of it through events.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/job/copy.h"
#include "block/job/job_filter.h"
#include "block/root.h"

namespace atl::block {

enum class JobState : u8 { Created, Running, Paused, Ready, Standby, Waiting, Pending, Aborting, Concluded, Null };
const char* job_state_name(JobState state);

struct JobOptions {
  std::string id;
  std::string filter_name;     // of a node that stands above what the job works on meanwhile; "": none
  u64 speed = 0;               // bytes a second; 0: no limit
  bool auto_finalize = true;   // false: waits for finalize() before the graph changes
  bool auto_dismiss = true;    // false: stays concluded until dismiss()
  /// What a failed read of the source and a failed write of the target lead to.
  ErrorPolicy on_source_error = ErrorPolicy::Report, on_target_error = ErrorPolicy::Report;
};

struct JobInfo {
  std::string id, type;        // "stream", "commit", "mirror", "backup"
  std::string device;          // as its starter named what it works on
  JobState state = JobState::Created;
  u64 done = 0, total = 0, speed = 0;
  bool busy = false, paused = false, ready = false, cancelled = false;
  bool auto_finalize = true, auto_dismiss = true;
  enum class IoStatus : u8 { Ok, Failed, NoSpace } io_status = IoStatus::Ok;   // since it was started or resumed last
  std::string error;           // "" while all is well
};

struct JobEvent {
  enum Kind : u8 { StatusChange, Ready, Pending, Completed, Cancelled, IoError } kind;
  JobInfo job;
  // IoError: what failed, and what is done about it (Report, Ignore or Stop).
  bool is_read = false;
  ErrorPolicy action = ErrorPolicy::Report;
};

class Job : public std::enable_shared_from_this<Job> {
 public:
  using Listener = std::function<void(const JobEvent&)>;

  Job(Graph& graph, std::string type, std::string device, JobOptions options);
  virtual ~Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// What must happen while the graph is drained, before start(): observers, access modes. On an error nothing has changed.
  virtual Task<Status> attach() { co_return Status{}; }
  /// Puts the filter in, if there is to be one. Drained.
  Status insert_filter();
  void start(Listener listener);
  JobInfo info() const;
  const std::string& id() const { return options_.id; }
  bool is_over() const { return state_ == JobState::Concluded || state_ == JobState::Null; }

  // What a user may ask. Errors say why it does not fit the job's state.
  Status pause();
  Status resume();
  Status set_speed(u64 bytes_per_second);
  /// `force`: a ready mirror is given up too (else it just ends with the target as it is).
  Status cancel(bool force);
  Status complete();
  Status finalize();
  Status dismiss();
  /// The node that the job works on, and others that must not go or be used by another job meanwhile.
  virtual std::vector<const Node*> nodes() const = 0;
  /// Others that must be there when it ends, but may be used meanwhile.
  virtual std::vector<const Node*> pinned() const { return {}; }
  const std::string& type() const { return type_; }
  const Node* filter() const { return filter_.get(); }
  /// Its filter's name; without one that of the first of its nodes.
  std::string top_name() const { return filter_.get() ? filter_.get()->info().node_name : nodes().front()->info().node_name; }

 protected:
  /// The long part. An error, or being cancelled, ends in undo().
  virtual Task<Status> work() = 0;
  /// The graph changes that make the result count. The graph is drained.
  virtual Task<Status> settle() { co_return Status{}; }
  /// Whatever work() changed that must not stay. Not drained.
  virtual Task<Status> undo() { co_return Status{}; }
  virtual bool can_complete() const { return false; }
  /// What the filter stands above, and the driver as which it shows itself.
  struct Filtered {
    NodePtr node;
    const char* driver = "";
  };
  virtual Filtered filtered() const { return {}; }

  /// Before each piece: waits while paused and as the speed limit says; false if the job is to end.
  Task<bool> checkpoint(u64 bytes);
  bool is_cancelled() const { return cancelled_; }
  void set_progress(u64 done, u64 total);
  void advance(u64 bytes) { set_progress(done_ + bytes, total_); }
  u64 done() const { return done_; }
  /// The target is as the source is; from now on the user may complete.
  void become_ready();
  bool wants_completion() const { return completing_; }
  /// Whether the target is to take the source's place then: not if a ready job was cancelled.
  bool wants_switch() const { return switches_; }
  /// A read of the source or a write of the target has failed: does as the user chose, and tells. Comes back when the job may
  /// go on, with what was done. After Stop and Ignore most jobs try again.
  Task<ErrorPolicy> on_error(bool is_read, Error error);
  /// The same for copies: whether to try again.
  Task<bool> wants_retry(bool is_read, Error error);
  /// Sleeps at most `ns`, shorter if somebody asks for something.
  Task<bool> nap(u64 ns);
  /// Tells those that watch a node which the job has written by itself, such as dirty bitmaps.
  void wrote(Node& target, u64 offset, u64 bytes);
  /// Copies with this job's pausing, speed and progress.
  CopyOptions copy_options(Node& source, Node& target);

  Graph& graph_;

 private:
  Task<Status> run();
  Task<Status> end(Status result);
  Task<Status> settle_drained();
  Task<Status> undo_all();
  Task<Status> wait_while_paused();
  void set_state(JobState state);
  void tell(JobEvent::Kind kind);
  void poke();

  struct Sleep;
  const std::string type_, device_;
  JobOptions options_;
  Listener listener_;
  JobState state_ = JobState::Created;
  u64 done_ = 0, total_ = 0;
  bool paused_ = false, cancelled_ = false, ready_ = false, completing_ = false, finalized_ = false, switches_ = true;
  std::string error_;
  RateLimit rate_;
  JobFilter filter_;
  std::unique_ptr<Loop::Timer> timer_;
  std::vector<std::coroutine_handle<>> sleepers_;
  JobInfo::IoStatus io_status_ = JobInfo::IoStatus::Ok;
};

/// The jobs of one graph.
class Jobs {
 public:
  /// Whether the job's id is new and its nodes are free of other jobs.
  Status check(const Job& job) const;
  /// Attaches and starts. Drained or not.
  Task<Status> add(Graph& graph, std::shared_ptr<Job> job, Job::Listener listener);
  std::shared_ptr<Job> find(const std::string& id) const;
  const std::vector<std::shared_ptr<Job>>& list() const { return jobs_; }
  /// Forgets those that have come to their end.
  void reap();
  /// The job that works with the node; nullptr: none does.
  std::shared_ptr<Job> user_of(const Node& node) const;
  /// The one that the node must not go before; nullptr: none.
  std::shared_ptr<Job> holder_of(const Node& node) const;

 private:
  std::vector<std::shared_ptr<Job>> jobs_;
};

}  // namespace atl::block
