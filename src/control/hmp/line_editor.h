// A line being typed at a terminal: cursor, history, completion. Bytes in, bytes to echo out; no I/O.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace atl::control {

class LineEditor {
 public:
  using Completer = std::function<std::vector<std::string>(std::string_view line)>;

  LineEditor(std::string prompt, Completer completer) : prompt_(std::move(prompt)), completer_(std::move(completer)) {}

  /// Takes one byte; what must be shown is added to `echo`. A line when it is finished.
  std::optional<std::string> feed(u8 byte, std::string& echo);
  /// The prompt and what has been typed so far.
  std::string show() const;
  void reset();
  const std::vector<std::string>& history() const { return history_; }

 private:
  static constexpr size_t kMaxLine = 4096, kMaxHistory = 64;

  void control_key(u8 byte, std::string& echo);
  void escape_key(u8 byte, std::string& echo);
  void insert(char c);
  void erase(size_t from, size_t to);
  void recall(int direction);
  void complete(std::string& echo);
  std::string finish_line();
  std::string redraw() const;

  const std::string prompt_;
  Completer completer_;
  std::string line_;
  size_t cursor_ = 0;
  std::vector<std::string> history_;
  size_t history_at_ = 0;
  enum class Escape : u8 { None, Started, Bracket, Digit } escape_ = Escape::None;
  u8 digit_ = 0;
};

}  // namespace atl::control
