// One VM as its monitors see it: the machine, what may be changed while it runs, and news of it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/fd.h"
#include "base/key_values.h"
#include "control/char_set.h"
#include "control/options.h"
#include "control/screen/user_input.h"
#include "control/screen/vnc.h"
#include "machine/machine.h"

namespace atl::control {

/// Control thread only.
class VmControl {
 public:
  using Listener = std::function<void(const machine::Event&)>;

  VmControl(Loop& loop, const CommandLine& line, CharSet& chars);

  /// Monitors exist before the machine, but carry out commands only once it is there.
  void set_machine(machine::Machine* machine);
  machine::Machine& machine() const { return *machine_; }
  bool has_machine() const { return machine_ != nullptr; }
  CharSet& chars() { return chars_; }
  UserInput& input() { return input_; }
  /// nullptr without -vnc.
  RemoteScreen* remote_screen() const { return remote_screen_; }
  void set_remote_screen(RemoteScreen* screen) { remote_screen_ = screen; }
  const machine::Config& config() const { return machine_->config(); }

  /// News that are not the machine's own.
  void report(const machine::Event& event) { on_event(event); }
  void add_listener(Listener listener) { listeners_.push_back(std::move(listener)); }
  /// Ends the program in order: tells the monitors why ("host-qmp-quit", "host-signal") and stops the loop.
  void quit(const std::string& reason);
  bool is_quitting() const { return quitting_; }

  // What monitors change. Option lists have the keys of the command line.
  Status add_device(KeyValues values);
  Result<Chardev*> add_chardev(KeyValues values);
  Status add_block_node(nlohmann::json tree);
  Status add_network(KeyValues values);
  Status remove_network(const std::string& id);
  Status add_object(KeyValues values);

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

  Loop& loop_;
  CharSet& chars_;
  machine::Machine* machine_ = nullptr;
  RemoteScreen* remote_screen_ = nullptr;
  UserInput input_{loop_, [this] { return machine_; }};
  std::vector<Listener> listeners_;
  bool quitting_ = false;
  std::multimap<std::string, machine::CharId> device_chars_;  // of devices that were added, by path
  std::map<std::string, machine::CharId> network_chars_;      // likewise of networks, by id
  std::map<std::string, Fd> named_fds_;
  std::vector<Fd> set_fds_;
  std::map<u64, int> fd_sets_;
};

}  // namespace atl::control
