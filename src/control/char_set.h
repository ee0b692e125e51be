// All character back ends of a VM by name, with a mux before each one that several users share.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "control/chardev/mux.h"
#include "control/chardev/slot.h"
#include "control/options.h"

namespace atl::control {

/// Control thread.
class CharSet {
 public:
  /// Opens everything in order. On an error, which names the back end, what was opened is closed again.
  static Result<std::unique_ptr<CharSet>> create(Loop& loop, const ProgramOptions& options, std::function<void()> on_exit_key);

  /// By the ids that users know (ProgramOptions::ports); it grows with claim() and stays where it is.
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

  // While the VM runs.
  /// Opens one more; Exists if the name is taken.
  Result<Chardev*> add(const ChardevConfig& config);
  /// NotFound, or Busy while somebody uses it.
  Status remove(std::string_view id);
  /// Puts another back end in its place; its user stays. The new one has the same id.
  Status exchange(const ChardevConfig& config);
  /// Its user sees a break.
  Status send_break(std::string_view id);
  /// The id of a further user of a back end. NotFound, or Busy if it serves another one and is no mux.
  Result<machine::CharId> claim(const std::string& chardev);
  /// The user has gone.
  void release(const machine::CharId& user) { idle_users_.insert(user); }

 private:
  struct Entry {
    std::unique_ptr<ChardevSlot> plain;  // or
    std::unique_ptr<Mux> mux;
    ChardevSlot* chardev = nullptr;
    std::vector<machine::CharId> users = {};
  };
  CharSet(Loop& loop, u8 escape, std::function<void()> on_exit_key)
      : loop_(loop), escape_(escape), on_exit_key_(std::move(on_exit_key)) {}
  Status open(const ChardevConfig& config);
  void add_user(Entry& entry, const machine::CharId& user);
  Entry* find_entry(std::string_view id);

  Loop& loop_;
  const u8 escape_;
  const std::function<void()> on_exit_key_;
  std::set<std::string> settled_;   // back ends of users that cannot do with another one
  bool started_ = false;
  std::vector<Entry> entries_;
  std::map<machine::CharId, CharBackend*> users_;
  std::set<machine::CharId> idle_users_;  // those that were released
};

}  // namespace atl::control
