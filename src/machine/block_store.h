// The block nodes of one machine: those that options and monitors made, the drives that devices use, exports, dirty bitmaps and
// jobs. Control thread.
//
// Each I/O thread has a graph of its own. A node lives in the graph of the device that uses it: it is opened on the default
// thread, and anew on another one when a device there claims it. Node names are unique over all graphs.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/thread.h"
#include "block/dirty_bitmap.h"
#include "block/job/jobs.h"
#include "machine/config.h"

namespace atl::machine {

class BlockExports;

class BlockStore {
 public:
  /// One I/O thread's part.
  struct Place {
    explicit Place(LoopThread& t) : thread(t), graph(t.loop()) {}
    LoopThread& thread;
    block::Graph graph;
    block::Jobs jobs;
    struct Bitmap {
      std::weak_ptr<block::Node> node;
      std::shared_ptr<block::DirtyBitmap> bitmap;
      block::Observation observation;
    };
    std::list<Bitmap> bitmaps;

    block::DirtyBitmap* find_bitmap(const block::Node& node, const std::string& name);
    Bitmap* find_bitmap_entry(const block::Node& node, const std::string& name);
  };
  struct Drive {
    DriveConfig config;
    Place* place = nullptr;
    std::unique_ptr<block::Root> root;   // drives and claimed nodes
    std::string node_name;               // when opened
    std::string user;                    // the device
    bool io_error = false, no_space = false;   // what the machine was stopped for
  };
  /// What a name stands for.
  struct Located {
    Place* place = nullptr;
    block::NodePtr node;
    Drive* drive = nullptr;   // if it is a drive's id, or a node that a device uses
  };
  struct Claimed {
    block::Root* root = nullptr;
    const DriveConfig* config = nullptr;
  };

  explicit BlockStore(LoopThread& main);
  ~BlockStore();
  BlockStore(const BlockStore&) = delete;
  BlockStore& operator=(const BlockStore&) = delete;

  /// Called on the loop of the job.
  void set_job_listener(block::Job::Listener listener) { job_listener_ = std::move(listener); }
  block::Job::Listener job_listener() { return [this](const block::JobEvent& event) { if (job_listener_) job_listener_(event); }; }

  void add_secret(const SecretConfig& secret);
  Status add_throttle_group(const ThrottleGroupConfig& group);
  std::shared_ptr<block::ThrottleGroup> throttle_group(const std::string& id) const;
  bool remove_object(const std::string& id);

  Status add(const DriveConfig& config);
  /// blockdev-del, drive_del.
  Status remove(const std::string& name);
  /// For the device `user`, on the loop of `thread`. The error says who uses it already. `shared`: without locks.
  Result<Claimed> claim(const std::string& id, const std::string& user, LoopThread& thread, bool shared);
  void release(const std::string& user);
  /// The device has left for good: what -drive made for it goes too.
  void retire(const std::string& user);
  /// One drive or node alone.
  void release_drive(const std::string& id);
  /// Takes the medium out of a -drive, whose device holds on to it.
  void empty(const std::string& id);
  bool uses(const LoopThread& thread) const;
  /// The thread is going, and nothing lives there.
  void forget(const LoopThread& thread);

  Result<Located> locate(const std::string& name);
  /// A drive's id, if the node is its top.
  std::string drive_of(const block::Node& node);
  std::list<Drive>& drives() { return drives_; }
  Drive* find_drive(const std::string& id);
  std::vector<Place*> places();
  /// Brings a node and all that it stands on into the graph of `place`. It must not be used there.
  Status move(const std::string& node_name, Place& place);

  /// Applies new limits to a drive; none if there are none.
  Status set_throttle(Drive& drive, const block::ThrottleLimits& limits, const std::string& group);

  BlockExports& exports() { return *exports_; }

  Status flush();
  /// Ends jobs and closes all nodes: before the loops end.
  void close();

 private:
  Place& place_of(LoopThread& thread);
  Status open(Drive& drive, Place& place);
  void shut(Drive& drive);
  Task<Result<block::NodePtr>> open_tree(Place& place, const DriveConfig& config);
  Task<Result<block::NodePtr>> open_snapshot(Place& place, block::NodePtr below);
  bool is_name_taken(const std::string& node_name);
  std::vector<Drive*> closure(Drive& top);

  LoopThread& main_;
  std::vector<std::unique_ptr<Place>> places_;
  std::list<Drive> drives_;
  std::map<std::string, std::string> secrets_;
  std::map<std::string, std::shared_ptr<block::ThrottleGroup>> throttle_groups_;
  block::Job::Listener job_listener_;
  std::unique_ptr<BlockExports> exports_;
};

}  // namespace atl::machine
