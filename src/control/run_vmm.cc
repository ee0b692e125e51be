#include "control/run_vmm.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/background.h"
#include "base/log.h"
#include "control/cmdline/parse.h"
#include "control/qtest.h"
#include "control/gdb/machine_target.h"
#include "control/hmp/monitor.h"
#include "control/qmp/monitor.h"
#include "control/sandbox.h"
#include "control/signals.h"
#include "control/vm_control.h"
#include "machine/block_store.h"

namespace atl::control {
namespace {

constexpr u64 kForever = ~u64{0};
constexpr u64 kLastOutput_ns = 500'000'000;  // how long queued output may take to leave at the end

/// Errors are one line, whatever the names in them; a hint that stands on a line of its own elsewhere follows as a sentence.
void print_error(const Error& error) {
  std::string text;
  for (char c : error.text()) {
    if (c == '\n') text += ". ";
    else text += static_cast<unsigned char>(c) < 32 ? '?' : c;
  }
  log_info("{}", text);
}

/// Everything of the process, in the order of construction.
class VmProcess {
 public:
  explicit VmProcess(CommandLine line) : line_(std::move(line)) {}
  ~VmProcess();

  Status set_up();
  /// Runs until the VM ends; the result is the exit status.
  int run();

 private:
  Status create_monitors();
  Status create_machine();
  Status create_device_test();
  Status harden();

  const CommandLine line_;
  Background daemon_;
  PidFile pid_file_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Signals> signals_;
  std::unique_ptr<CharSet> chars_;
  std::unique_ptr<VmControl> control_;
  std::unique_ptr<machine::Machine> machine_;
  std::vector<std::unique_ptr<QmpMonitor>> qmp_monitors_;
  std::vector<std::unique_ptr<HmpMonitor>> hmp_monitors_;
  std::unique_ptr<DeviceTestServer> device_test_;
  std::unique_ptr<RemoteScreen> remote_screen_;
};

VmProcess::~VmProcess() {
  if (chars_) chars_->drain(kLastOutput_ns);
  // Monitors and debuggers look at the machine, and the machine writes to the back ends.
  device_test_.reset();
  if (control_) control_->set_debugger(nullptr);
  remote_screen_.reset();
  hmp_monitors_.clear();
  qmp_monitors_.clear();
  if (control_) control_->set_machine(nullptr);
  machine_.reset();
  control_.reset();
  chars_.reset();
}

Status VmProcess::set_up() {
  const auto& options = line_.program;
  set_log_timestamps(options.log_timestamps);
  if (options.log_guest_name && !line_.machine.name.empty()) set_log_program(fmt::format("{} atoll-vmm", line_.machine.name));
  if (options.daemonize) TRY(daemon_.detach());
  if (!options.process_name.empty()) ::prctl(PR_SET_NAME, options.process_name.c_str());
  if (!options.pidfile.empty()) pid_file_ = TRY(PidFile::create(options.pidfile));
  loop_ = TRY(Loop::create());
  signals_ = TRY(Signals::create(*loop_, [this] { control_->quit("host-signal"); }));
  chars_ = TRY(CharSet::create(*loop_, options, [this] { control_->quit("host-ui"); }));
  control_ = std::make_unique<VmControl>(*loop_, line_, *chars_);
  TRY(create_monitors());
  loop_->run_once(0);  // clients that wait already are greeted before the machine is built
  // Terminated while it waits, the process ends before there is a machine.
  while (chars_->is_waiting() && !control_->is_quitting()) loop_->run_once(kForever);
  if (control_->is_quitting()) return {};
  TRY(create_machine());
  chars_->start();
  TRY(harden());
  return daemon_.ready();
}

Status VmProcess::create_monitors() {
  for (const auto& monitor : line_.program.monitors) {
    CharBackend* chars = chars_->find_user(monitor.chardev);
    CHECK(chars);  // the parser resolved the name
    Chardev* connection = chars_->find(monitor.chardev);
    if (connection != chars) connection = nullptr;
    if (monitor.qmp) qmp_monitors_.push_back(std::make_unique<QmpMonitor>(*control_, *chars, connection, monitor.pretty));
    else hmp_monitors_.push_back(std::make_unique<HmpMonitor>(*control_, *chars));
  }
  return {};
}

Status VmProcess::create_machine() {
  machine_ = TRY(machine::Machine::create(line_.machine, *loop_, chars_->users()));
  control_->set_machine(machine_.get());
  // For NBD: servers of monitors, and clients that they add.
  for (machine::BlockStore::Place* place : machine_->blocks().places())
    place->thread.run_on([&] {
      for (const auto& [id, credentials] : line_.program.tls_credentials) place->graph.add_tls_credentials(id, credentials);
    });
  if (line_.program.vnc) {
    remote_screen_ = TRY(RemoteScreen::create(*loop_, *line_.program.vnc, *control_).context("-vnc"));
    control_->set_remote_screen(remote_screen_.get());
  }
  if (!line_.program.gdb.empty()) control_->set_debugger(std::make_unique<GdbStub>(*control_, *chars_->find_user(line_.program.gdb)));
  TRY(create_device_test());
  // Input that came in meanwhile was held back.
  for (const auto& [id, chars] : chars_->users()) chars->accept_input();
  return {};
}

Status VmProcess::create_device_test() {
  const ProgramOptions& program = line_.program;
  if (program.qtest.empty()) return {};
  Fd log;
  if (!program.qtest_log.empty()) log = TRY(open_file(program.qtest_log, O_WRONLY | O_CREAT | O_TRUNC).context("-qtest-log"));
  device_test_ = std::make_unique<DeviceTestServer>(*machine_, *chars_->find_user(program.qtest), *loop_, std::move(log));
  return {};
}

/// What is open stays open; what is opened later is opened as the other user, below the other root.
Status leave_privileges(const ProgramOptions& options) {
  if (!options.chroot.empty() && (::chroot(options.chroot.c_str()) < 0 || ::chdir("/") < 0)) return os_error("-chroot " + options.chroot);
  if (!options.run_as) return {};
  const auto [user, group] = *options.run_as;
  const gid_t groups[] = {group};
  if (::setgroups(1, groups) < 0 || ::setresgid(group, group, group) < 0 || ::setresuid(user, user, user) < 0) return os_error("-runas");
  return {};
}

Status VmProcess::harden() {
  if (line_.program.lock_memory && ::mlockall(MCL_CURRENT | MCL_FUTURE) < 0) return os_error("locking memory failed");
  TRY(leave_privileges(line_.program));
  return install_sandbox(line_.program.sandbox);
}

int VmProcess::run() {
  if (!machine_) return 0;
  if (Status started = machine_->start(); !started) {
    print_error(started.error());
    return 1;
  }
  loop_->run();
  machine_->shut_down();
  return machine_->exit_code().value_or(0);
}

int print_text(const std::string& text) {
  Fd out(::dup(STDOUT_FILENO));
  Status written = write_all(out, std::span<const u8>(reinterpret_cast<const u8*>(text.data()), text.size()));
  return written ? 0 : 1;
}

}  // namespace

int run_vmm(std::span<const std::string> arguments) {
  auto line = parse_command_line(arguments);
  if (!line) {
    print_error(line.error());
    return 1;
  }
  if (line->text) return print_text(*line->text);
  Status ready;
  {
    VmProcess process(std::move(*line));
    ready = process.set_up();
    if (ready) return process.run();
  }
  // By now the terminal is as it was found, so that the message is readable.
  print_error(ready.error());
  return 1;
}

}  // namespace atl::control
