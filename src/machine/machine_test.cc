// Machines with guests of a few instructions, on the software CPU.
#include "machine/machine.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>

#include "base/endian.h"
#include "cpu/kvm/accelerator.h"

namespace atl::machine {
namespace {

using testing::HasSubstr;

constexpr u32 kGuestBase = 0x200000, kGuestCode = 0x40;
constexpr u64 kDeadline = 20'000'000'000;

// 32-bit instructions.
std::vector<u8> out8(u16 port, u8 value) {
  return {0xb0, value, 0x66, 0xba, static_cast<u8>(port), static_cast<u8>(port >> 8), 0xee};
}
std::vector<u8> out16(u16 port, u16 value) {
  return {0x66, 0xb8, static_cast<u8>(value), static_cast<u8>(value >> 8), 0x66, 0xba, static_cast<u8>(port),
          static_cast<u8>(port >> 8), 0x66, 0xef};
}
std::vector<u8> out32(u16 port, u32 value) {
  std::vector<u8> code = {0xb8, 0, 0, 0, 0, 0x66, 0xba, static_cast<u8>(port), static_cast<u8>(port >> 8), 0xef};
  store_le(&code[1], value);
  return code;
}
/// inc dword [0x300000]; jmp back
std::vector<u8> count_forever() { return {0xff, 0x05, 0x00, 0x00, 0x30, 0x00, 0xeb, 0xf8}; }
std::vector<u8> spin() { return {0xeb, 0xfe}; }
/// lidt of an empty table, then int3: a triple fault.
std::vector<u8> triple_fault() { return {0x0f, 0x01, 0x1d, 0x00, 0x00, 0x30, 0x00, 0xcc}; }
std::vector<u8> operator+(std::vector<u8> a, const std::vector<u8>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class MachineTest : public testing::Test {
 protected:
  MachineTest() : loop(MUST(Loop::create())) {  // a loop needs only io_uring
    config.accelerators = {{.kind = AcceleratorKind::Soft}};
    config.cpu.model = "qemu64";
    config.ram_bytes = 32 * kMiB;
  }
  ~MachineTest() override {
    machine.reset();
    for (const std::string& path : paths) ::unlink(path.c_str());
  }

  std::string file(const std::vector<u8>& contents) {
    char path[] = "/tmp/atoll-machine-XXXXXX";
    Fd fd(::mkstemp(path));
    MUST(write_all(fd, contents));  // a fresh file in /tmp
    paths.emplace_back(path);
    return path;
  }
  /// A multiboot image of the code.
  void set_guest(const std::vector<u8>& code) {
    std::vector<u8> image(kGuestCode);
    const u32 end = kGuestBase + kGuestCode + static_cast<u32>(code.size());
    const u32 fields[] = {0x1badb002, 0x10000, 0u - 0x1badb002 - 0x10000, kGuestBase, kGuestBase, end, end, kGuestBase + kGuestCode};
    std::memcpy(image.data(), fields, sizeof fields);
    config.boot.kernel = file(image + code);
  }
  void create() {
    machine = MUST(Machine::create(config, *loop, chars));  // the test's configuration is good
    machine->set_event_handler([this](const Event& event) { events.push_back(event); });
  }
  void run(const std::vector<u8>& code) {
    set_guest(code);
    create();
    MUST(machine->start());
  }
  std::string failure() {
    auto made = Machine::create(config, *loop, chars);
    return made ? "" : made.error().text();
  }
  const Event* find(Event::Kind kind) const {
    auto found = std::ranges::find(events, kind, &Event::kind);
    return found == events.end() ? nullptr : &*found;
  }
  template <class F>
  bool wait_until(F condition) {
    const u64 end = monotonic_ns() + kDeadline;
    while (!condition() && monotonic_ns() < end) loop->run_once(10'000'000);
    return condition();
  }
  bool wait_for(Event::Kind kind) {
    return wait_until([&] { return find(kind) != nullptr; });
  }
  u32 counter() {
    return load_le<u32>(MUST(machine->read_memory(true, 0, 0x300000, 4)).data());  // RAM
  }

  std::unique_ptr<Loop> loop;
  Config config;
  std::map<CharId, CharBackend*> chars;
  std::vector<Event> events;
  std::vector<std::string> paths;
  std::unique_ptr<Machine> machine;
};

TEST_F(MachineTest, DebugExitEndsTheProgramWithAStatus) {
  config.devices = {{.type = "isa-debug-exit"}};
  run(out8(0x501, 3) + spin());
  ASSERT_TRUE(wait_for(Event::Kind::Shutdown));
  EXPECT_EQ(machine->exit_code(), 7);
  EXPECT_EQ(machine->state(), RunState::Shutdown);
}

TEST_F(MachineTest, SleepStateFivePowersOff) {
  run(out16(0x604, 0x2000) + spin());
  ASSERT_TRUE(wait_for(Event::Kind::Shutdown));
  EXPECT_TRUE(find(Event::Kind::Shutdown)->guest);
  EXPECT_EQ(find(Event::Kind::Shutdown)->reason, "guest-shutdown");
  EXPECT_FALSE(machine->exit_code().has_value());
}

TEST_F(MachineTest, MicrovmPowersOffTheSameWay) {
  config.board = BoardKind::Microvm;
  run(out16(0x604, 0x2000) + spin());
  EXPECT_TRUE(wait_for(Event::Kind::Shutdown));
}

TEST_F(MachineTest, ResetRegisterRestartsTheGuest) {
  run(out8(0xcf9, 0x06) + spin());
  EXPECT_TRUE(wait_until([&] { return std::ranges::count_if(events, [](const Event& e) { return e.kind == Event::Kind::Reset; }) >= 3; }));
  EXPECT_TRUE(find(Event::Kind::Reset)->guest);
}

TEST_F(MachineTest, NoRebootTurnsResetIntoShutdown) {
  config.no_reboot = true;
  run(out8(0x64, 0xfe) + spin());
  ASSERT_TRUE(wait_for(Event::Kind::Shutdown));
  EXPECT_EQ(find(Event::Kind::Shutdown)->reason, "guest-reset");
}

TEST_F(MachineTest, TripleFaultResets) {
  config.no_reboot = true;
  run(triple_fault());
  ASSERT_TRUE(wait_for(Event::Kind::Shutdown));
  EXPECT_EQ(find(Event::Kind::Shutdown)->reason, "guest-reset");
}

TEST_F(MachineTest, PauseStopsTheGuestAndResumeGoesOn) {
  run(count_forever());
  ASSERT_TRUE(wait_until([&] { return counter() > 0; }));
  ASSERT_TRUE(machine->pause().has_value());
  EXPECT_EQ(machine->state(), RunState::Paused);
  const u32 before = counter();
  EXPECT_EQ(counter(), before);
  ASSERT_TRUE(machine->resume().has_value());
  EXPECT_TRUE(wait_until([&] { return counter() != before; }));
}

TEST_F(MachineTest, StartPausedWaitsForResume) {
  config.start_paused = true;
  run(count_forever());
  EXPECT_EQ(machine->state(), RunState::Prelaunch);
  EXPECT_EQ(counter(), 0u);
  ASSERT_TRUE(machine->resume().has_value());
  EXPECT_TRUE(wait_until([&] { return counter() > 0; }));
}

TEST_F(MachineTest, ResetOnRequestReloadsTheKernel) {
  run(count_forever());
  ASSERT_TRUE(wait_until([&] { return counter() > 0; }));
  ASSERT_TRUE(machine->reset().has_value());
  EXPECT_EQ(machine->state(), RunState::Running);
  EXPECT_TRUE(find(Event::Kind::Reset));
}

TEST_F(MachineTest, AfterShutdownOnlyResetHelps) {
  run(out16(0x604, 0x2000) + spin());
  ASSERT_TRUE(wait_for(Event::Kind::Shutdown));
  EXPECT_FALSE(machine->resume().has_value());
  ASSERT_TRUE(machine->reset().has_value());
  EXPECT_EQ(machine->state(), RunState::Paused);
}

TEST_F(MachineTest, TwoDevicesOnOneSlotAreBothNamed) {
  config.devices = {{.type = "virtio-rng-pci", .properties = {{"addr", "5"}}},
                    {.type = "virtio-balloon-pci", .properties = {{"addr", "5"}}}};
  set_guest(spin());
  EXPECT_THAT(failure(), testing::AllOf(HasSubstr("slot 5 function 0"), HasSubstr("virtio-balloon-pci"), HasSubstr("in use by virtio-rng-pci")));
}

TEST_F(MachineTest, UnknownBackEndsAreNamed) {
  set_guest(spin());
  config.devices = {{.type = "virtio-blk-pci", .properties = {{"drive", "nodrive"}}}};
  EXPECT_THAT(failure(), HasSubstr("'nodrive'"));
  config.devices = {{.type = "virtio-net-pci", .properties = {{"netdev", "nonet"}}}};
  EXPECT_THAT(failure(), HasSubstr("'nonet'"));
  config.devices = {{.type = "virtio-blk-pci"}};
  EXPECT_THAT(failure(), HasSubstr("drive property not set"));
}

TEST_F(MachineTest, OneDriveServesOneDevice) {
  set_guest(spin());
  DriveConfig drive{.id = "d0"};
  drive.tree = std::make_shared<nlohmann::json>(
      nlohmann::json{{"driver", "raw"}, {"file", {{"driver", "file"}, {"filename", file(std::vector<u8>(4096))}}}});
  config.drives = {drive};
  config.devices = {{.type = "virtio-blk-pci", .id = "a", .properties = {{"drive", "d0"}}},
                    {.type = "virtio-blk-pci", .properties = {{"drive", "d0"}}}};
  EXPECT_THAT(failure(), HasSubstr("already in use by device 'a'"));
}

TEST_F(MachineTest, LegacyVirtioIsRefusedWhereThereIsNone) {
  set_guest(spin());
  config.devices = {{.type = "virtio-gpu-pci", .properties = {{"disable-legacy", "off"}}}};
  EXPECT_THAT(failure(), HasSubstr("device is modern-only, use disable-legacy=on"));
  config.devices = {{.type = "virtio-rng-pci", .properties = {{"disable-modern", "on"}, {"disable-legacy", "on"}}}};
  EXPECT_THAT(failure(), HasSubstr("neither modern nor legacy"));
}

TEST_F(MachineTest, PluggedDeviceIsSeenAndLeavesWhenTheGuestEjectsIt) {
  // The guest writes the eject register for slot 6 over and over: it counts once the slot holds something.
  std::vector<u8> code = out32(0xae08, 1u << 6);
  const auto back = static_cast<u8>(-static_cast<int>(code.size()) - 2);
  run(code + std::vector<u8>{0xeb, back});
  ASSERT_TRUE(machine->add_device({.type = "virtio-rng-pci", .id = "r1", .properties = {{"addr", "6"}}}).has_value());
  ASSERT_TRUE(wait_for(Event::Kind::DeviceDeleted));
  EXPECT_EQ(find(Event::Kind::DeviceDeleted)->device, "r1");
  EXPECT_EQ(machine->state(), RunState::Running);
  EXPECT_FALSE(machine->remove_device("r1").has_value());
}

TEST_F(MachineTest, HotplugRefusesWhatCannotBe) {
  run(spin());
  EXPECT_THAT(machine->add_device({.type = "isa-debug-exit"}).error().text(), HasSubstr("does not support hotplugging"));
  EXPECT_THAT(machine->add_device({.type = "nothing"}).error().text(), HasSubstr("'nothing'"));
  ASSERT_TRUE(machine->add_device({.type = "virtio-rng-pci", .id = "r"}).has_value());
  EXPECT_THAT(machine->add_device({.type = "virtio-rng-pci", .id = "r"}).error().text(), HasSubstr("Duplicate device ID 'r'"));
  EXPECT_FALSE(machine->set_balloon(kMiB).has_value());
}

TEST_F(MachineTest, DescriptionsNameWhatIsThere) {
  config.devices = {{.type = "virtio-rng-pci", .id = "rng0"}};
  run(spin());
  EXPECT_THAT(MUST(machine->describe("registers", 0)), HasSubstr("RIP="));
  EXPECT_THAT(MUST(machine->describe("mtree", 0)), HasSubstr("pci-hotplug"));
  EXPECT_THAT(MUST(machine->describe("qtree", 0)), HasSubstr("rng0"));
  EXPECT_EQ(MUST(machine->describe("mem", 0)), "PG disabled\n");
  EXPECT_FALSE(machine->describe("registers", 7).has_value());
  EXPECT_FALSE(machine->describe("nonsense", 0).has_value());
  EXPECT_FALSE(machine->read_memory(true, 0, 0xf0000000, 4).has_value());
}

TEST_F(MachineTest, SecondProcessorWaitsForItsStartup) {
  config.topology = {.cpus = 2, .sockets = 2, .max_cpus = 2};
  run(count_forever());
  ASSERT_TRUE(wait_until([&] { return counter() > 0; }));
  EXPECT_EQ(machine->cpus().size(), 2u);
  EXPECT_NE(machine->cpus()[0].thread_id, machine->cpus()[1].thread_id);
  EXPECT_EQ(MUST(machine->cpu_state(1)).mp_state, cpu::MpState::Uninitialized);
}

/// The same guests on the host's KVM, where there is one.
class KvmMachineTest : public MachineTest {
 protected:
  void SetUp() override {
    if (auto usable = cpu::kvm_usable(true); !usable) GTEST_SKIP() << usable.error().text();
    config.accelerators = {{.kind = AcceleratorKind::Kvm, .any_kvm_backend = true}};
  }
};

TEST_F(KvmMachineTest, DebugExitEndsTheProgramWithAStatus) {
  config.devices = {{.type = "isa-debug-exit"}};
  run(out8(0x501, 3) + spin());
  EXPECT_EQ(machine->accelerator(), "kvm");
  ASSERT_TRUE(wait_for(Event::Kind::Shutdown));
  EXPECT_EQ(machine->exit_code(), 7);
}

TEST_F(KvmMachineTest, ResetRegisterRestartsTheGuest) {
  run(out8(0xcf9, 0x06) + spin());
  EXPECT_TRUE(wait_until([&] { return std::ranges::count_if(events, [](const Event& e) { return e.kind == Event::Kind::Reset; }) >= 2; }));
}

TEST_F(KvmMachineTest, PauseStopsTheGuestAndResumeGoesOn) {
  run(count_forever());
  ASSERT_TRUE(wait_until([&] { return counter() > 0; }));
  ASSERT_TRUE(machine->pause().has_value());
  const u32 before = counter();
  EXPECT_EQ(counter(), before);
  ASSERT_TRUE(machine->resume().has_value());
  EXPECT_TRUE(wait_until([&] { return counter() != before; }));
}

TEST_F(KvmMachineTest, MicrovmPowersOff) {
  config.board = BoardKind::Microvm;
  run(out16(0x604, 0x2000) + spin());
  EXPECT_TRUE(wait_for(Event::Kind::Shutdown));
}

TEST_F(MachineTest, FirmwareIsNamedWhenItIsMissingOrOdd) {
  config.boot.firmware = "/nonexistent/bios.bin";
  EXPECT_THAT(failure(), HasSubstr("firmware /nonexistent/bios.bin"));
  config.boot.firmware = file(std::vector<u8>(1000));
  EXPECT_THAT(failure(), HasSubstr("multiple of 64 KiB"));
}

}  // namespace
}  // namespace atl::machine
