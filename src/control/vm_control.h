// One VM as its monitors see it: the machine, what may be changed while it runs, and news of it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/fd.h"
#include "base/key_values.h"
#include "control/announcements.h"
#include "control/char_set.h"
#include "control/guest_dump.h"
#include "control/options.h"
#include "control/screen/user_input.h"
#include "control/screen/vnc.h"
#include "machine/machine.h"

namespace atl::control {

class GdbStub;

/// Control thread only.
class VmControl {
 public:
  using Listener = std::function<void(const machine::Event&)>;

  VmControl(Loop& loop, const CommandLine& line, CharSet& chars);
  ~VmControl();

  /// Monitors exist before the machine, but carry out commands only once it is there.
  void set_machine(machine::Machine* machine);
  machine::Machine& machine() const { return *machine_; }
  bool has_machine() const { return machine_ != nullptr; }
  CharSet& chars() { return chars_; }
  UserInput& input() { return input_; }
  Announcements& announcements() { return announcements_; }
  /// nullptr without -vnc.
  RemoteScreen* remote_screen() const { return remote_screen_; }
  void set_remote_screen(RemoteScreen* screen) { remote_screen_ = screen; }
  const machine::Config& config() const { return machine_->config(); }

  /// A debugger connects there: "tcp::1234", "unix:path"; "none" ends it. In place of the one before.
  Status start_debugger(const std::string& place);
  void set_debugger(std::unique_ptr<GdbStub> debugger);

  GuestDump& dump() { return dump_; }
  /// Monitors do not let the guest go on while it is dumped.
  Status resume();

  /// News that are not the machine's own.
  void report(const machine::Event& event) { on_event(event); }
  void add_listener(Listener listener) { listeners_.push_back(std::move(listener)); }
  /// Ends the program in order: tells the monitors why ("host-qmp-quit", "host-signal") and stops the loop.
  void quit(const std::string& reason);
  bool is_quitting() const { return quitting_; }

  // What monitors change. Option lists have the keys of the command line.
  Status add_device(KeyValues values);
  Result<Chardev*> add_chardev(KeyValues values);
  /// Of the one with the same id.
  Result<Chardev*> change_chardev(KeyValues values);
  Status add_block_node(nlohmann::json tree);
  Status add_network(KeyValues values);
  Status remove_network(const std::string& id);
  Status add_object(KeyValues values);
  Status remove_object(const std::string& id);
  /// Memory that object-add brought: nothing of the machine uses it.
  struct SpareMemory {
    std::string type, id;
    memory::RamOptions options;
    std::shared_ptr<memory::RamBlock> block;
  };
  const std::vector<SpareMemory>& spare_memory() const { return spare_memory_; }

  // Descriptors that a client handed over.
  void keep_fd(const std::string& name, Fd fd) { named_fds_[name] = std::move(fd); }
  Status close_fd(const std::string& name);
  Result<Fd> take_fd(const std::string& name);
  const std::map<u64, int>& fd_sets() const { return fd_sets_; }
  /// Closes one descriptor of a set, or all.
  Status remove_from_fd_set(u64 set, std::optional<int> fd);
  /// A new or given set; the result is its number and the descriptor's.
  std::pair<u64, int> add_to_fd_set(std::optional<u64> set, Fd fd);

 private:
  /// Character back ends that a new device uses, by their names until claimed. On an error none stays claimed.
  Result<std::vector<machine::CharId>> claim_chardevs(machine::DeviceConfig& device);
  void on_event(const machine::Event& event);
  void tell(const machine::Event& event);
  Status add_memory(KeyValues values);
  void dump_ended(u64 completed, u64 total, const Status& status);

  Loop& loop_;
  const CommandLine& line_;
  CharSet& chars_;
  machine::Machine* machine_ = nullptr;
  RemoteScreen* remote_screen_ = nullptr;
  std::unique_ptr<GdbStub> debugger_;
  std::string debugger_chardev_;     // that start_debugger() made
  unsigned debuggers_ = 0;
  UserInput input_{loop_, [this] { return machine_; }};
  Announcements announcements_{loop_, [this](const std::vector<std::string>& cards) { machine_->announce_cards(cards); }};
  GuestDump dump_{loop_, [this](u64 completed, u64 total, const Status& status) { dump_ended(completed, total, status); }};
  std::vector<Listener> listeners_;
  bool quitting_ = false;
  std::multimap<std::string, machine::CharId> device_chars_;  // of devices that were added, by path
  std::map<std::string, machine::CharId> network_chars_;      // likewise of networks, by id
  std::vector<SpareMemory> spare_memory_;
  std::map<std::string, Fd> named_fds_;
  std::vector<Fd> set_fds_;
  std::map<u64, int> fd_sets_;
};

}  // namespace atl::control
