#include "manage/run_daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/background.h"
#include "base/log.h"
#include "base/strings.h"
#include "manage/daemon.h"
#include "manage/rpc/server.h"
#include "manage/sockets.h"

namespace atl::manage {

namespace {

constexpr char kVersion[] = "atolld (Atoll) 0.1.0\n";
constexpr char kHelp[] =
    "Usage: atolld [OPTION]...\n"
    "Manages virtual machines, networks and storage for libvirt's clients.\n\n"
    "  -f, --config FILE      settings (default /etc/atoll/atolld.conf)\n"
    "  -d, --daemon           go to the background\n"
    "  -p, --pid-file FILE    (default /run/atoll/atolld.pid)\n"
    "  -t, --timeout SECONDS  end after so long without clients and running domains\n"
    "      --root DIR         keep everything below DIR\n"
    "      --list-procedures  print which procedures of libvirt's protocol are served\n"
    "  -V, --version\n"
    "  -h, --help\n";

struct CommandLine {
  Config config;
  std::string config_file, pid_file, root;
  bool detaches = false;
  u64 timeout_s = 0;
  const char* prints = nullptr;
  bool lists_procedures = false;
};

Result<CommandLine> parse(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string option = arguments[i], joined;
    if (size_t equals = option.find('='); option.starts_with("--") && equals != option.npos) {
      joined = option.substr(equals + 1);
      option.resize(equals);
    }
    auto value = [&]() -> Result<std::string> {
      if (!joined.empty()) return joined;
      if (i + 1 == arguments.size()) return config_unsupported(option + " needs a value");
      return arguments[++i];
    };
    if (option == "-f" || option == "--config") {
      line.config_file = TRY(value());
    } else if (option == "-p" || option == "--pid-file") {
      line.pid_file = TRY(value());
    } else if (option == "--root") {
      line.root = TRY(value());
    } else if (option == "-t" || option == "--timeout") {
      auto seconds = parse_u64(TRY(value()));
      if (!seconds || *seconds == 0 || *seconds > 1'000'000)
        return config_unsupported("--timeout needs a number of seconds");
      line.timeout_s = *seconds;
    } else if (option == "-d" || option == "--daemon") {
      line.detaches = true;
    } else if (option == "--list-procedures") {
      line.lists_procedures = true;
    } else if (option == "-V" || option == "--version") {
      line.prints = kVersion;
    } else if (option == "-h" || option == "--help") {
      line.prints = kHelp;
    } else {
      return config_unsupported(fmt::format("unknown option '{}'; see --help", arguments[i]));
    }
  }
  return line;
}

/// The folders, then the file's settings.
Status configure(CommandLine& line) {
  if (!line.root.empty()) line.config.paths = Paths::below(line.root);
  const Paths& paths = line.config.paths;
  if (!line.root.empty() && ::mkdir(line.root.c_str(), 0755) < 0 && errno != EEXIST)
    return atl::Error(os_error("make folder " + line.root));
  for (const std::string& dir : {paths.config, paths.state, paths.run, paths.log})
    if (::mkdir(dir.c_str(), 0755) < 0 && errno != EEXIST) return atl::Error(os_error("make folder " + dir));
  std::string file = line.config_file.empty() ? paths.config + "/atolld.conf" : line.config_file;
  TRY(read_config(file, !line.config_file.empty(), line.config));
  if (line.pid_file.empty()) line.pid_file = paths.run + "/atolld.pid";
  return {};
}

/// Standard error becomes the file; also when it was moved away by a log rotation.
Status open_log(const std::string& path) {
  if (path.empty()) return {};
  Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0600));
  if (::dup2(file.get(), STDERR_FILENO) < 0) return atl::Error(os_error("log to " + path));
  return {};
}

/// SIGINT, SIGTERM, SIGQUIT and SIGHUP as a descriptor; SIGPIPE is ignored. Before other threads exist.
Result<Fd> signal_descriptor() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  ::sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGQUIT, SIGHUP}) ::sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return atl::Error(os_error("signalfd"));
  return fd;
}

/// Ends the loop after a time in which nobody needed us.
class IdleTimeout {
 public:
  IdleTimeout(Loop& loop, Daemon& daemon, rpc::Server& server, u64 seconds)
      : loop_(loop), daemon_(daemon), server_(server), ns_(seconds * 1'000'000'000), timer_(loop, [this] {
          expire();
        }) {
    if (ns_ == 0) return;
    server.on_clients_changed([this] { restart(); });
    restart();
  }

 private:
  void restart() {
    timer_.cancel();
    if (server_.client_count() == 0) timer_.arm_in(ns_);
  }
  void expire() {
    auto runs = [](const DomainPtr& domain) { return domain->active(); };
    if (std::ranges::none_of(daemon_.domains().all(), runs)) return loop_.stop();
    restart();
  }

  Loop& loop_;
  Daemon& daemon_;
  rpc::Server& server_;
  const u64 ns_;
  Loop::Timer timer_;
};

void take_signal(const Fd& fd, Loop& loop, const Config& config) {
  signalfd_siginfo info{};
  if (::read(fd.get(), &info, sizeof info) != sizeof info) return;
  if (info.ssi_signo != SIGHUP) return loop.stop();
  if (Status status = open_log(config.log_file); !status) log_error("{}", status.error().message());
}

Status serve(CommandLine& line, unsigned activated) {
  Background background;
  if (line.detaches) TRY(background.detach());
  TRY(configure(line));
  PidFile pid_file = TRY(PidFile::create(line.pid_file));
  TRY(open_log(line.config.log_file));
  set_log_timestamps(true);
  Fd signals = TRY(signal_descriptor());
  std::unique_ptr<Loop> loop = TRY(Loop::create());
  std::unique_ptr<Daemon> daemon = TRY(Daemon::create(*loop, line.config));
  std::unique_ptr<rpc::Server> server = TRY(rpc::Server::create(*loop, *daemon, line.config.limits));
  TRY(open_sockets(*server, line.config, activated));
  Loop::Watch watch(*loop, signals.get(), POLLIN, [&](u32) { take_signal(signals, *loop, line.config); });
  IdleTimeout idle(*loop, *daemon, *server, line.timeout_s);
  if (line.detaches) TRY(background.ready());
  log_info("ready");
  loop->run();
  return {};
}

}  // namespace

int run_daemon(const std::vector<std::string>& arguments) {
  unsigned activated = take_activation_fds();
  auto line = parse(arguments);
  if (line && line->prints) {
    fmt::print("{}", line->prints);
    return 0;
  }
  if (line && line->lists_procedures) {
    fmt::print("{}", procedure_page());
    return 0;
  }
  Status status = line ? serve(*line, activated) : Status(line.error());
  if (status) return 0;
  log_error("{}", status.error().detail());
  return 1;
}

}  // namespace atl::manage
