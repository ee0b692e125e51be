// One VM as its monitors see it: the machine, what may be changed while it runs, and news of it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/key_values.h"
#include "control/char_set.h"
#include "control/options.h"
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
  const machine::Config& config() const { return machine_->config(); }

  void add_listener(Listener listener) { listeners_.push_back(std::move(listener)); }
  /// Ends the program in order: tells the monitors why ("host-qmp-quit", "host-signal") and stops the loop.
  void quit(const std::string& reason);
  bool is_quitting() const { return quitting_; }

  // What monitors change. Option lists have the keys of the command line.
  Status add_device(KeyValues values);
  Status add_block_node(KeyValues values);
  Status remove_block_node(const std::string& node_name);
  Status add_network(KeyValues values);
  Status add_object(KeyValues values);

  // Descriptors that a client handed over.
  void keep_fd(const std::string& name, Fd fd) { named_fds_[name] = std::move(fd); }
  Status close_fd(const std::string& name);
  /// A new or given set; the result is its number and the descriptor's.
  std::pair<u64, int> add_to_fd_set(std::optional<u64> set, Fd fd);

 private:
  void on_event(const machine::Event& event);
  void tell(const machine::Event& event);
  Status stack_on_node(machine::DriveConfig drive, const std::string& below);

  Loop& loop_;
  CharSet& chars_;
  machine::Machine* machine_ = nullptr;
  std::vector<Listener> listeners_;
  bool quitting_ = false;
  /// Protocol nodes that a raw node may still be put on.
  std::map<std::string, machine::DriveConfig> protocol_nodes_;
  std::map<std::string, Fd> named_fds_;
  std::vector<Fd> set_fds_;
  std::map<u64, int> fd_sets_;
};

}  // namespace atl::control
