// What the sub-commands share: the loop, the block graph, messages, opening of images, progress and interruption.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>

#include "base/loop.h"
#include "base/task.h"
#include "block/driver.h"
#include "img/arguments.h"

namespace atl::img {

using block::Json;
using block::NodePtr;

/// -t and -T: how the host's cache is used.
struct CacheMode {
  bool direct = false, no_flush = false;
  bool writethrough = false;  // every write on stable storage before it counts as done
};
std::optional<CacheMode> parse_cache_mode(std::string_view name);

struct OpenRequest {
  std::string name;
  std::string format;        // "": probed
  bool image_opts = false;   // `name` holds options, not a name
  bool writable = false;
  bool force_share = false;  // -U
  bool no_backing = false, no_io = false, check = false;
  bool quiet = false;
  CacheMode cache;
  Json more_options = Json::object();  // besides a name
};

block::OpenMode mode_of(const OpenRequest& request);

/// A share of long work, shown as "(12.34/100%)" on a line that is overwritten, or told on SIGUSR1.
class ProgressMeter {
 public:
  void enable(double step_percent = 1.0) { shown_ = true, step_ = step_percent; }
  bool shown() const { return shown_; }
  void set(double share);
  void end();
  void tell(std::FILE* to, char line_end) const;

 private:
  bool shown_ = false;
  double step_ = 1.0, percent_ = 0, printed_ = 0;
};

class Tool {
 public:
  /// `program`: the name it was called by.
  static Result<std::unique_ptr<Tool>> create(std::string program);
  ~Tool();

  const std::string& program() const { return program_; }
  Loop& loop() { return *loop_; }
  block::Graph& graph() { return *graph_; }
  ProgressMeter& progress() { return progress_; }
  /// SIGINT or SIGTERM has arrived: end cleanly, soon. The signal's number, or 0.
  int interrupted() const { return interrupted_; }
  /// What long work of the block layer calls: shows the share, and stops it when interrupted.
  block::Progress progress_function();

  /// A form feed in the text begins another message.
  template <class... A>
  void error(fmt::format_string<A...> format, A&&... args) {
    error_text(fmt::format(format, std::forward<A>(args)...));
  }
  template <class... A>
  int fail(fmt::format_string<A...> format, A&&... args) {
    error_text(fmt::format(format, std::forward<A>(args)...));
    return 1;
  }
  /// A wrong command line: the hint at --help follows. Gives the exit status 1.
  int usage_error(std::string_view text);
  template <class... A>
  void print(fmt::format_string<A...> format, A&&... args) {
    if (!quiet_) fmt::print(format, std::forward<A>(args)...);
  }
  void set_quiet(bool on) { quiet_ = on; }
  bool quiet() const { return quiet_; }

  /// Errors are complete ("Could not open 'x': ...").
  Task<Result<NodePtr>> open(OpenRequest request);
  /// --object secret,... and tls-creds-...
  Status add_object(std::string_view text);
  Status add_objects(const Arguments& arguments);

 private:
  explicit Tool(std::string program) : program_(std::move(program)) {}
  Status catch_signals();
  void take_signals();
  void error_text(std::string_view text);

  const std::string program_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<block::Graph> graph_;
  Fd signals_;
  std::unique_ptr<Loop::Watch> signal_watch_;
  ProgressMeter progress_;
  bool quiet_ = false;
  int interrupted_ = 0;
};

/// Runs the loop until the task is done.
template <class T>
T wait_for(Loop& loop, Task<T> task) {
  std::optional<T> result;
  start(std::move(task), [&](T value) { result.emplace(std::move(value)); });
  while (!result) loop.run_once(1'000'000'000);
  return std::move(*result);
}

}  // namespace atl::img
