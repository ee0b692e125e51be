// All character back ends of a VM by name, with a mux before each one that several users share.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "control/chardev/mux.h"
#include "control/options.h"

namespace atl::control {

/// Control thread.
class CharSet {
 public:
  /// Opens everything in order. On an error, which names the back end, what was opened is closed again.
  static Result<std::unique_ptr<CharSet>> create(Loop& loop, const ProgramOptions& options, std::function<void()> on_exit_key);

  /// By the ids that users know (ProgramOptions::ports).
  const std::map<machine::CharId, CharBackend*>& users() const { return users_; }
  CharBackend* find_user(const machine::CharId& id) const;
  /// In the order of the command line.
  std::vector<Chardev*> all() const;
  Chardev* find(std::string_view id) const;
  /// Every user is attached: muxes begin to deliver input.
  void start();
  /// Whether a server still lacks its first client.
  bool is_waiting() const;
  void drain(u64 timeout_ns);

 private:
  struct Entry {
    std::unique_ptr<Chardev> plain;  // or
    std::unique_ptr<Mux> mux;
    Chardev* chardev = nullptr;
  };
  Status add(Loop& loop, const ChardevConfig& config, u8 escape, const std::function<void()>& on_exit_key);
  void add_user(const machine::CharId& user, const std::string& chardev);

  std::vector<Entry> entries_;
  std::map<machine::CharId, CharBackend*> users_;
};

}  // namespace atl::control
