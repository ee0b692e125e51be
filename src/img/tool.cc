#include "img/tool.h"

#include <sys/signalfd.h>

#include <algorithm>
#include <poll.h>

#include <csignal>
#include <cstdio>

#include "base/key_values.h"
#include "base/log.h"
#include "base/strings.h"
#include "img/objects.h"

namespace atl::img {

std::optional<CacheMode> parse_cache_mode(std::string_view name) {
  static constexpr struct {
    std::string_view name;
    CacheMode mode;
  } kModes[] = {
      {"none", {.direct = true}},
      {"off", {.direct = true}},
      {"directsync", {.direct = true, .writethrough = true}},
      {"writeback", {}},
      {"unsafe", {.no_flush = true}},
      {"writethrough", {.writethrough = true}},
  };
  for (const auto& row : kModes)
    if (row.name == name) return row.mode;
  return std::nullopt;
}

// --- progress ---

void ProgressMeter::set(double share) {
  percent_ = std::min(share * 100, 100.0);
  bool moved = percent_ > printed_ + step_ || percent_ < printed_ - step_;
  if (!moved && percent_ != 100 && percent_ != 0) return;
  printed_ = percent_;
  if (shown_) tell(stdout, '\r');
}

void ProgressMeter::end() {
  if (!shown_) return;
  std::putchar('\n');
  std::fflush(stdout);
}

void ProgressMeter::tell(std::FILE* to, char line_end) const {
  fmt::print(to, "    ({:3.2f}/100%){}", percent_, line_end);
  std::fflush(to);
}

// --- signals ---

Result<std::unique_ptr<Tool>> Tool::create(std::string program) {
  std::unique_ptr<Tool> tool(new Tool(std::move(program)));
  tool->loop_ = TRY(Loop::create());
  tool->graph_ = std::make_unique<block::Graph>(*tool->loop_);
  TRY(tool->catch_signals());
  return tool;
}

Tool::~Tool() {
  signal_watch_.reset();
  graph_.reset();
}

Status Tool::catch_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) sigaddset(&set, number);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_.valid()) return os_error("signalfd");
  signal_watch_ = std::make_unique<Loop::Watch>(*loop_, signals_.get(), POLLIN, [this](u32) { take_signals(); });
  return {};
}

void Tool::take_signals() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGUSR1) {
      progress_.tell(stderr, '\n');
    } else if (interrupted_) {
      ::_exit(128 + static_cast<int>(info.ssi_signo));  // asked twice: at once
    } else {
      interrupted_ = static_cast<int>(info.ssi_signo);
    }
  }
}

block::Progress Tool::progress_function() {
  return [this](double share) {
    progress_.set(share);
    return interrupted_ == 0;
  };
}

// --- messages ---

void Tool::error_text(std::string_view text) {
  std::fflush(stdout);
  for (std::string_view message : split(text, '\f')) fmt::print(stderr, "{}: {}\n", program_, message);
}

int Tool::usage_error(std::string_view text) {
  error_text(text);
  fmt::print(stderr, "Try '{} --help' for more information\n", program_);
  return 1;
}

// --- images ---

block::OpenMode mode_of(const OpenRequest& request) {
  block::OpenMode mode;
  mode.readonly = !request.writable;
  mode.cache_direct = request.cache.direct;
  mode.cache_no_flush = request.cache.no_flush;
  mode.write_through = request.cache.writethrough;
  mode.discard = request.writable;
  mode.locking = !request.force_share;
  mode.no_backing = request.no_backing;
  mode.check = request.check;
  mode.no_io = request.no_io;
  return mode;
}

namespace {

/// "driver=qcow2,file.filename=x" as a flat tree of texts.
Result<Json> image_options(std::string_view text) {
  KeyValues list = TRY(KeyValues::parse(text));
  Json options = Json::object();
  for (const auto& entry : list.entries()) options[entry.key] = entry.value;
  return options;
}

void warn_of_probed_raw(const std::string& name) {
  fmt::print(stderr,
             "WARNING: Image format was not specified for '{}' and probing guessed raw.\n"
             "         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be "
             "restricted.\n"
             "         Specify the 'raw' format explicitly to remove the restrictions.\n",
             name);
}

}  // namespace

Task<Result<NodePtr>> Tool::open(OpenRequest request) {
  std::string context = fmt::format("Could not open '{}'", request.name);
  block::OpenMode mode = mode_of(request);
  if (request.image_opts) {
    if (!request.format.empty())
      co_return Error(ErrorKind::Invalid, "--image-opts and --format are mutually exclusive");
    Json options = CO_TRY(image_options(request.name));
    auto node = co_await graph_->open(std::move(options), mode);
    co_return std::move(node).context(context);
  }
  if (!request.format.empty() && !block::find_driver(request.format))
    co_return Error(ErrorKind::Invalid, fmt::format("{}: Unknown driver '{}'", context, request.format));
  Result<NodePtr> node = NodePtr();
  if (request.more_options.empty()) {
    node = co_await graph_->open_name(request.name, request.format, mode);
  } else {
    Json options = std::move(request.more_options);
    options["file"] = CO_TRY(block::parse_image_name(request.name));
    if (!request.format.empty()) options["driver"] = request.format;
    node = co_await graph_->open(std::move(options), mode);
  }
  if (node && request.format.empty() && request.writable && (*node)->info().driver == "raw") warn_of_probed_raw(request.name);
  co_return std::move(node).context(context);
}

Status Tool::add_object(std::string_view text) { return img::add_object(*graph_, text); }

Status Tool::add_objects(const Arguments& arguments) {
  for (const std::string& text : arguments.values("object")) TRY(add_object(text));
  return {};
}

}  // namespace atl::img
