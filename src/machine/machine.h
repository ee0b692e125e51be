// A running virtual machine: builds the board and its devices from a Config, runs its vCPU threads, and offers what the
// monitors ask for. Calls come from the control thread unless said otherwise.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/char_backend.h"
#include "base/loop.h"
#include "base/result.h"
#include "cpu/vm.h"
#include "display/input.h"
#include "display/screen.h"
#include "machine/config.h"
#include "machine/machine_info.h"

namespace atl::block {
struct JobEvent;
}

namespace atl::display::vnc {
struct ViewerChange;
}

namespace atl::machine {

/// QEMU's run states, as far as they occur here.
enum class RunState : u8 { Prelaunch, Running, Paused, Debug, Shutdown, IoError, InternalError, GuestPanicked, Watchdog, Suspended };
std::string_view run_state_name(RunState state);  // "running", "io-error" ...

/// Where a vCPU met what a debugger asked for.
struct DebugStop {
  u32 cpu = 0;
  std::optional<cpu::DebugRequest::Point> point;  // none: a single step has been done
};

class BlockStore;
class Media;

/// What happened, for the monitors. Delivered on the control loop.
struct Event {
  enum class Kind : u8 {
    Stop, Resume, Reset, Shutdown, Powerdown, BlockIoError, BalloonChange, DeviceDeleted, NicRxFilterChanged, RtcChange,
    DeviceUnplugError, BlockJob, BlockWriteThreshold, BlockExportDeleted, DumpCompleted, GuestPanicked, GuestCrashLoaded, Watchdog, TrayMoved,
    RemoteViewer, SerialPortChange, Suspend, SuspendDisk, Wakeup,
  };
  Kind kind;
  bool guest = false;               // Reset, Shutdown: the guest asked for it
  std::string reason;               // Shutdown, Reset: "guest-shutdown", "host-signal" ...; BlockIoError: text
  std::string device, node, path;   // DeviceDeleted, BlockIoError
  std::string operation, action;    // BlockIoError: "read"/"write", "report"/"stop"/"ignore"
  bool nospace = false;
  i64 value = 0;                    // BalloonChange: bytes; BlockWriteThreshold: bytes above it; DumpCompleted: bytes; TrayMoved, SerialPortChange: 1 if open now
  u64 threshold = 0;
  std::shared_ptr<const block::JobEvent> job;  // BlockJob
  std::shared_ptr<const display::vnc::ViewerChange> viewer;  // RemoteViewer
  std::optional<DebugStop> debug;   // Stop: by a break- or watchpoint, or after a single step
};

struct BlockInfo {
  std::string drive;        // "" for a -blockdev without drive
  std::string qdev;         // device id or QOM-like path, "" if no device uses it
  bool io_error = false;    // paused by this drive
  block::NodeInfo node;     // the top node
};

/// A device that -device or device_add brought and that is there now.
struct DeviceInfo {
  DeviceConfig config;
  std::string path;   // in the object model: "/machine/peripheral/net0"
};

/// What the balloon's driver told last about the guest's memory (VIRTIO 1.2 section 5.5.6.3).
struct MemoryStatistics {
  i64 update_s = 0;                // since the epoch; 0: never
  std::map<u16, u64> values;       // by the specification's tag
};

class Machine {
 public:
  /// `chars` maps CharIds to back ends; it and what is in it outlive the machine. `control` is the loop that runs on the calling thread.
  /// Nothing runs yet; on an error nothing is left behind and the text names the culprit.
  static Result<std::unique_ptr<Machine>> create(const Config& config, Loop& control,
                                                 const std::map<CharId, CharBackend*>& chars);
  virtual ~Machine() = default;

  virtual const Config& config() const = 0;
  virtual std::string_view accelerator() const = 0;

  virtual void set_event_handler(std::function<void(const Event&)> handler) = 0;
  /// News from other threads wait for their turn on the control loop. Those that a command has caused are told before it is
  /// answered: of all that have come since the start, the first `count`.
  virtual void tell_news(u64 count = ~u64{0}) { static_cast<void>(count); }
  /// How many have come. Any thread.
  virtual u64 news_so_far() { return 0; }
  /// Starts the vCPU threads; the machine runs unless config.start_paused.
  virtual Status start() = 0;
  virtual RunState state() const = 0;
  virtual Status pause() = 0;    // returns once every vCPU has stopped
  virtual Status resume() = 0;
  virtual Status reset() = 0;
  virtual Status powerdown() = 0;  // presses the power button
  /// S3: the guest can fall asleep, and is woken by this, the power button, or its clock.
  virtual bool can_suspend() const = 0;
  virtual Status wake_up() = 0;
  virtual Status inject_nmi() = 0;
  /// What a watchdog that was not fed, and a guest that crashed, lead to.
  virtual void set_watchdog_action(WatchdogAction action) = 0;
  virtual void set_panic_action(PanicAction action) = 0;
  /// Stops vCPUs and I/O for good, flushes disks. Called before destruction.
  virtual void shut_down() = 0;
  /// Set when the guest ended through isa-debug-exit; the program's exit status.
  virtual std::optional<int> exit_code() const = 0;

  virtual Status add_device(const DeviceConfig& device) = 0;
  /// Asks the guest to let go; DeviceDeleted tells the end.
  virtual Status remove_device(const std::string& id) = 0;
  /// Drives, block nodes and their jobs.
  virtual BlockStore& blocks() = 0;
  /// The disks on controllers' buses, and their media.
  virtual Media& media() = 0;
  /// A write has gone past a node's threshold. Any thread.
  virtual void report_write_threshold(std::string node_name, u64 exceeded, u64 threshold) = 0;
  virtual Status add_network(const NetConfig& network) = 0;
  virtual Status remove_network(const std::string& id) = 0;
  /// Plugs a card's cable in or out; `name` is that of the card or of its network.
  virtual Status set_link(const std::string& name, bool up) = 0;
  /// A port of the host that leads to the guest comes or goes; `id` "" is the first user-mode network.
  virtual Status change_forward(const std::string& id, const net::HostForward& rule, bool add) = 0;
  virtual Status add_rng(const RngConfig& rng) = 0;
  virtual Status add_iothread(const IoThreadConfig& thread) = 0;
  virtual Status remove_object(const std::string& id) = 0;
  virtual Status set_balloon(u64 target_bytes) = 0;
  virtual Result<u64> balloon_bytes() const = 0;
  virtual Result<MemoryStatistics> memory_statistics() const = 0;
  /// How often the balloon's driver is asked for them; 0: never.
  virtual Status set_statistics_interval(u32 seconds) = 0;

  /// Of the vmgenid device; nothing without one.
  virtual std::optional<std::string> generation_id() const { return std::nullopt; }
  virtual std::vector<CpuInfo> cpus() const = 0;
  /// In the order of their coming.
  virtual std::vector<DeviceInfo> devices() const = 0;
  /// The first vCPU's CPUID, and what the accelerator could offer.
  virtual const cpu::CpuidTable& cpuid() const = 0;
  virtual cpu::CpuidLimits cpuid_limits() const = 0;
  virtual std::vector<BlockInfo> block_devices() const = 0;
  virtual std::vector<NetworkInfo> networks() const = 0;
  /// Of the network cards that have one.
  virtual std::vector<CardInfo> receive_filters() const { return {}; }
  /// Network cards tell the network where they are; no ids: all of them.
  virtual void announce_cards(const std::vector<std::string>& ids) { static_cast<void>(ids); }
  /// Of the root bus, with what is behind bridges.
  virtual std::vector<devices::PciFunctionInfo> pci_functions() const { return {}; }
  virtual std::vector<IoThreadInfo> iothreads() const { return {}; }
  /// The types of the board's own devices, in the order they were built.
  virtual std::vector<std::string> board_parts() const { return {}; }
  /// What the accelerator measures of a vCPU, or of the VM as a whole.
  virtual std::vector<Statistic> statistics(std::optional<u32> cpu) const { static_cast<void>(cpu); return {}; }
  /// Guest linear to physical, by a vCPU's page tables; nothing where nothing is mapped.
  virtual Result<std::optional<GuestAddr>> translate(u32 cpu, u64 linear) { static_cast<void>(cpu); return std::optional<GuestAddr>(linear); }
  /// Where firmware looks for a system at the next starts, until a reset chooses -boot's order anew.
  virtual Status set_boot_order(const std::string& order) { static_cast<void>(order); return {}; }
  /// Ticks of the clock that the guest was too slow for will not come later.
  virtual void drop_missed_ticks() {}
  virtual cpu::Counters counters() const = 0;
  /// Monitor text: what = "registers" (arg: vCPU index), "mem" and "tlb" (page
  /// tables), "mtree", "ramblock", "roms", "qtree", "pic", "lapic", "irq".
  virtual Result<std::string> describe(const std::string& what, u32 arg) = 0;
  /// Guest memory by linear (of vCPU `cpu_index`) or physical address; the error names the address.
  virtual Result<std::vector<u8>> read_memory(bool physical, u32 cpu_index, u64 address, u64 size_bytes) = 0;
  virtual Result<cpu::VcpuState> cpu_state(u32 index) = 0;
  /// For reading all of it; the vCPUs are stopped meanwhile.
  virtual std::shared_ptr<const memory::GuestMemory> guest_memory() const = 0;

  /// What the display adapters show.
  virtual const display::ScreenList& screens() const = 0;
  /// The user's hands.
  virtual display::InputRouter& input() = 0;

  // For a debugger.
  virtual Status set_cpu_state(u32 index, const cpu::VcpuState& state) = 0;
  /// By linear address of a vCPU; ROM too. The error names the first address that could not be written.
  virtual Status write_memory(u32 cpu_index, u64 address, std::span<const u8> data) = 0;
  /// Break- and watchpoints of every vCPU, in place of the earlier ones.
  virtual Status set_debug_points(const std::vector<cpu::DebugRequest::Point>& points) = 0;
  /// Lets one vCPU alone execute a single instruction; a Stop event with `debug` follows.
  virtual Status step_cpu(u32 index) = 0;

  // For programs that test devices (-qtest).
  /// An access of 1, 2, 4 or 8 bytes as a vCPU makes it, to an I/O port or to memory.
  virtual u64 read_bus(bool port, u64 address, unsigned width) = 0;
  virtual void write_bus(bool port, u64 address, u64 value, unsigned width) = 0;
  /// Puts guest time forward, without a number to the next alarm of a device; the new time. On a machine whose vCPUs run nothing
  /// (-accel qtest) alarms on the way have rung when this returns.
  virtual u64 advance_clock(std::optional<u64> ns) = 0;
  /// Each change of an interrupt line, told by the thread that makes it. On a machine whose vCPUs run nothing; once.
  virtual Status watch_interrupt_lines(std::function<void(u32 gsi, bool level)> listener) = 0;
};

}  // namespace atl::machine
