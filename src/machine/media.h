// Disks and drives on controllers' buses as the monitors see them: their trays, and changing what is in them. QEMU's
// semantics of eject and blockdev-*-tray/-medium. Control thread.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/thread.h"
#include "devices/device.h"
#include "devices/storage/removable.h"
#include "machine/block_store.h"

namespace atl::machine {

struct DriveState {
  std::string drive;  // of -drive, "" if none
  std::string qdev;   // the device
  bool removable = false, tray_open = false, locked = false, has_medium = false;
};

class Media {
 public:
  struct Slot {
    std::string user;                     // the device: its id, or a path
    std::string home;                     // the -drive that belongs to it; "" if none
    std::string node;                     // the block node that is in it; "" if none, or if it is the drive's own
    bool owns_node = false;               // made for it alone: goes with the medium
    devices::RemovableDrive* drive = nullptr;  // nullptr: the medium stays
    LoopThread* thread = nullptr;
    const devices::Device* controller = nullptr;
    devices::Device* pausable = nullptr;  // a disk that pauses by itself, not with its controller
    devices::DiskIo* io = nullptr;
    std::function<void()> detach;         // takes it off its bus, on the loop; null: it cannot leave while the machine runs
  };

  explicit Media(BlockStore& blocks) : blocks_(blocks) {}

  void add(Slot slot) { slots_.push_back(std::move(slot)); }
  /// A controller leaves with all that is on it. The users, for their back ends to be released.
  std::vector<std::string> remove_all_of(const devices::Device& controller);
  bool has(const std::string& user) const {
    return std::ranges::find(slots_, user, &Slot::user) != slots_.end();
  }
  /// Those that pause by themselves.
  std::vector<devices::Device*> pausable() const;
  /// Takes a disk off its bus.
  Status remove(const std::string& user);
  /// Every disk, in the order of plugging.
  std::vector<DriveState> states() const;

  // `name` is a drive's or a device's. Errors have QEMU's texts.
  Status eject(const std::string& name, bool force);
  Status open_tray(const std::string& name, bool force);
  Status close_tray(const std::string& name);
  Status remove_medium(const std::string& name);
  Status insert_medium(const std::string& name, const std::string& node_name);
  Status change_medium(const std::string& name, const DriveConfig& medium, bool force);

 private:
  Result<Slot*> find(const std::string& name);
  /// False: locked, and the guest has been asked.
  bool try_open(Slot& slot, bool force);
  Status take(Slot& slot);
  Status put(Slot& slot, block::Node& medium);
  bool has_medium(const Slot& slot) const;

  BlockStore& blocks_;
  std::vector<Slot> slots_;
  unsigned made_ = 0;  // nodes of our own, for their names
};

}  // namespace atl::machine
