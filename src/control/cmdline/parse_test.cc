#include "control/cmdline/parse.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>

#include "base/strings.h"

namespace atl::control {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// Words separated by blanks; quoting is not needed here.
Result<CommandLine> parse(std::string_view text) {
  std::vector<std::string> words;
  for (auto word : split(text, ' '))
    if (!word.empty()) words.emplace_back(word);
  return parse_command_line(words);
}

CommandLine parsed(std::string_view text) {
  auto line = parse(text);
  EXPECT_TRUE(line) << text << ": " << line.error().text();
  return line ? *std::move(line) : CommandLine();
}

std::string error_of(std::string_view text) {
  auto line = parse(text);
  return line ? "no error" : line.error().text();
}

std::vector<std::string> device_types(const machine::Config& config) {
  std::vector<std::string> types;
  for (const auto& device : config.devices) types.push_back(device.type);
  return types;
}

TEST(CommandLine, NothingGivesAPcWithDefaults) {
  auto line = parsed("");
  EXPECT_EQ(line.machine.board, machine::BoardKind::Pc);
  EXPECT_EQ(line.machine.ram_bytes, 128 * kMiB);
  ASSERT_EQ(line.machine.accelerators.size(), 2u);
  EXPECT_EQ(line.machine.accelerators[0].kind, machine::AcceleratorKind::Kvm);
  EXPECT_FALSE(line.machine.accelerators[0].any_kvm_backend);
  EXPECT_THAT(device_types(line.machine), testing::ElementsAre("VGA", "e1000", "ide-cd", "floppy"));
  ASSERT_EQ(line.machine.drives.size(), 2u);
  EXPECT_EQ(line.machine.drives[0].id, "ide1-cd0");
  EXPECT_EQ(line.machine.drives[0].tree, nullptr);
  EXPECT_EQ(line.machine.drives[1].id, "floppy0");
}

TEST(CommandLine, Q35HasItsOwnDefaultDevices) {
  EXPECT_THAT(device_types(parsed("-M q35").machine), testing::ElementsAre("VGA", "e1000e", "ide-cd"));
  EXPECT_THAT(device_types(parsed("-M q35 -nodefaults").machine), testing::IsEmpty());
}

TEST(CommandLine, EmptyMachineHasNothing) {
  const auto line = parsed("-S -no-user-config -nodefaults -nographic -machine none,accel=kvm:tcg -daemonize");
  EXPECT_EQ(line.machine.board, machine::BoardKind::None);
  EXPECT_THAT(device_types(line.machine), testing::IsEmpty());
  EXPECT_THAT(error_of("-nographic -daemonize"), HasSubstr("-nographic cannot be used with -daemonize"));
}

TEST(CommandLine, GlobalsOfBoardPartsTakeWhatIsTrueHere) {
  EXPECT_FALSE(parsed("-global kvm-pit.lost_tick_policy=discard").machine.pit_makes_up_ticks);
  EXPECT_TRUE(parsed("-global PIIX4_PM.disable_s3=1").machine.pit_makes_up_ticks);
  EXPECT_FALSE(parsed("-global PIIX4_PM.disable_s3=1").machine.suspend_to_ram);
  EXPECT_TRUE(parsed("-global ICH9-LPC.disable_s3=0 -global ICH9-LPC.disable_s4=1").machine.suspend_to_ram);
  EXPECT_THAT(error_of("-global PIIX4_PM.disable_s3=2"), HasSubstr("Property 'PIIX4_PM.disable_s3' cannot be '2' here"));
}

TEST(CommandLine, DisksOfTheBoardGoToTheirPlaces) {
  auto config = parsed("-nodefaults -hdb /b -cdrom /c -drive file=/x,format=raw -drive file=/y,if=ide,bus=1,unit=1,media=cdrom").machine;
  ASSERT_EQ(config.devices.size(), 4u);
  using testing::ElementsAre;
  EXPECT_EQ(config.devices[0].type, "ide-hd");
  EXPECT_THAT(config.devices[0].properties, ElementsAre(std::pair("bus", "ide.0"), std::pair("unit", "1"), std::pair("drive", "ide0-hd1")));
  EXPECT_EQ(config.devices[1].type, "ide-cd");
  EXPECT_THAT(config.devices[1].properties, ElementsAre(std::pair("bus", "ide.1"), std::pair("unit", "0"), std::pair("drive", "ide1-cd0")));
  EXPECT_THAT(config.devices[2].properties, ElementsAre(std::pair("bus", "ide.0"), std::pair("unit", "0"), std::pair("drive", "ide0-hd0")));
  EXPECT_EQ(config.devices[3].type, "ide-cd");
  EXPECT_TRUE(config.drives[3].mode.readonly);
}

struct ErrorCase {
  const char* line;
  const char* error;
};
class CommandLineErrors : public testing::TestWithParam<ErrorCase> {};
TEST_P(CommandLineErrors, NameTheCulprit) { EXPECT_EQ(error_of(GetParam().line), GetParam().error); }

INSTANTIATE_TEST_SUITE_P(AsQemu, CommandLineErrors, testing::Values(
    ErrorCase{"-foo", "-foo: invalid option"},
    ErrorCase{"-m", "-m: requires an argument"},
    ErrorCase{"-accel foo", "-accel foo: invalid accelerator foo"},
    ErrorCase{"-accel tcg,tb-size=0", "-accel tcg,tb-size=0: 'tb-size' must be between 1 and 1024 (MiB)"},
    ErrorCase{"-accel tcg,foo=1", "-accel tcg,foo=1: Property 'soft-accel.foo' not found"},
    ErrorCase{"-M pc,foo=on", "-M pc,foo=on: Property 'pc-i440fx-7.2-machine.foo' not found"},
    ErrorCase{"-device foo", "-device foo: 'foo' is not a valid device model name"},
    ErrorCase{"-device virtio-rng-pci,foo=1", "-device virtio-rng-pci,foo=1: Property 'virtio-rng-pci.foo' not found"},
    ErrorCase{"-drive foo=bar", "-drive foo=bar: Must specify either driver or file"},
    ErrorCase{"-drive if=foo", "-drive if=foo: unsupported bus type 'foo'"},
    ErrorCase{"-netdev foo,id=x", "-netdev foo,id=x: Parameter 'type' does not accept value 'foo'"},
    ErrorCase{"-netdev user", "-netdev user: Parameter 'id' is missing"},
    ErrorCase{"-chardev foo,id=x", "-chardev foo,id=x: 'foo' is not a valid char driver name"},
    ErrorCase{"-chardev stdio", "-chardev stdio: chardev: no id specified"},
    ErrorCase{"-mon chardev=foo", "-monitor: chardev \"foo\" not found"},
    ErrorCase{"-boot order=z", "-boot order=z: Invalid boot device 'z'"},
    ErrorCase{"-uuid foo", "-uuid foo: failed to parse UUID string: wrong format"},
    ErrorCase{"-name foo=bar", "-name foo=bar: Invalid parameter 'foo'"},
    ErrorCase{"-append x", "-append only allowed with -kernel option"},
    ErrorCase{"-smp foo=1", "-smp foo=1: Parameter 'smp.foo' is unexpected"},
    ErrorCase{"-object rng-random", "-object rng-random: Parameter 'id' is missing"},
    ErrorCase{"-object foo,id=x", "-object foo,id=x: Parameter 'qom-type' does not accept value 'foo'"},
    ErrorCase{"-blockdev foo,node-name=x", "-blockdev foo,node-name=x: Parameter 'driver' does not accept value 'foo'"},
    ErrorCase{"-blockdev node-name=x", "-blockdev node-name=x: Parameter 'driver' is missing"},
    ErrorCase{"-blockdev driver=raw,file=y", "-blockdev driver=raw,file=y: 'node-name' must be specified for the root node"},
    ErrorCase{"-drive file=x,format=foo", "-drive file=x,format=foo: Unknown driver 'foo'"},
    ErrorCase{"-drive file=x,bps=1,bps_rd=1",
              "-drive file=x,bps=1,bps_rd=1: bps/iops/max total values and read/write values cannot be used at the same time"},
    ErrorCase{"-object secret,id=s", "-object secret,id=s: secret s: Must provide 'file' or 'data'"},
    ErrorCase{"-action reboot=foo", "-action reboot=foo: Parameter 'reboot' does not accept value 'foo'"},
    ErrorCase{"-daemonize -nographic", "-nographic cannot be used with -daemonize"},
    ErrorCase{"-sandbox on,foo=1", "-sandbox on,foo=1: Invalid parameter 'foo'"},
    ErrorCase{"-serial stdio -monitor stdio", "-serial stdio: cannot use stdio by multiple character devices"},
    ErrorCase{"-chardev null,id=a -serial chardev:a -monitor chardev:a", "-serial chardev:a: Device 'a' is in use"}));

class Refusals : public testing::TestWithParam<const char*> {};
TEST_P(Refusals, AreOneLineThatBeginsWithTheOption) {
  std::string error = error_of(GetParam());
  EXPECT_THAT(error, StartsWith("-"));
  EXPECT_NE(error, "no error");
  EXPECT_EQ(error.find('\n'), std::string::npos);
}
INSTANTIATE_TEST_SUITE_P(ByName, Refusals, testing::Values(
    "-hda a -drive file=b,index=0", "-M microvm -hda x", "-drive file=x,index=4", "-drive file=x,bus=0,unit=2", "-drive file=x,index=1,unit=1",
    "-drive file=x,if=sd", "-fda a -drive if=floppy,file=b,index=0", "-drive file=x,media=tape",
    "-drive file=x,if=virtio,media=cdrom", "-m 128,slots=2,maxmem=1G", "-smp 2,maxcpus=4", "-smp 300", "-M isapc",
    "-M microvm,smm=on", "-M q35,smm=perhaps", "-accel kvm -M pc,kernel_irqchip=split", "-global driver=cfi.pflash01,property=secure,value=2",
    "-accel kvm,kernel-irqchip=off", "-vga qxl", "-display gtk", "-vnc nowhere", "-vnc :1,sasl=on", "-readconfig x", "-boot splash=x.bmp",
    "-netdev tap,id=n,vhost=on", "-chardev socket,id=s,path=x,telnet=on", "-rtc clock=rt", "-overcommit cpu-pm=on",
    "-object memory-backend-ram,id=m,size=1G", "-numa cpu,node-id=0,socket-id=0", "-numa node -numa node", "-numa node,nodeid=1",
    "-numa node,memdev=x", "-numa node,cpus=a", "-numa node,mem=64M", "-global foo.bar=1", "-global virtio-net-pci.foo=1", "-parallel stdio",
    "-d cpu", "-device isa-serial,foo=1", "-device isa-serial,index=2", "-serial telnet::4444", "-device virtio-net-pci,id=1x"));

TEST(CommandLine, MemorySizeTakesMegabytesAndSuffixes) {
  EXPECT_EQ(parsed("-m 512").machine.ram_bytes, 512 * kMiB);
  EXPECT_EQ(parsed("-m size=2G").machine.ram_bytes, 2 * kGiB);
  EXPECT_EQ(parsed("-m 1.5G").machine.ram_bytes, 1536 * kMiB);
}

TEST(CommandLine, TopologyFillsCoresFirst) {
  auto t = parsed("-smp 4").machine.topology;
  EXPECT_EQ(std::tuple(t.cpus, t.sockets, t.cores, t.threads), std::tuple(4u, 1u, 4u, 1u));
  t = parsed("-smp 8,sockets=2,threads=2").machine.topology;
  EXPECT_EQ(std::tuple(t.cpus, t.sockets, t.cores, t.threads), std::tuple(8u, 2u, 2u, 2u));
  t = parsed("-smp sockets=2,cores=3").machine.topology;
  EXPECT_EQ(std::tuple(t.cpus, t.sockets, t.cores, t.threads), std::tuple(6u, 2u, 3u, 1u));
}

TEST(CommandLine, AcceleratorsKeepTheirOrder) {
  auto list = parsed("-accel tcg,translate=off -accel kvm").machine.accelerators;
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].kind, machine::AcceleratorKind::Soft);
  EXPECT_EQ(list[1].kind, machine::AcceleratorKind::Kvm);
  EXPECT_EQ(parsed("-M pc,accel=kvm:tcg").machine.accelerators.size(), 2u);
  EXPECT_TRUE(parsed("-enable-kvm").machine.accelerators[0].any_kvm_backend);
  EXPECT_EQ(list[0].translate.translation, cpu::Translation::Off);
  EXPECT_EQ(parsed("-M pc").machine.accelerators[1].translate.translation, cpu::Translation::On);
  EXPECT_EQ(parsed("-accel tcg,tb-size=32").machine.accelerators[0].translate.cache_bytes, 32 * kMiB);
}

TEST(CommandLine, CpuFeaturesKeepTheirOrder) {
  auto cpu = parsed("-cpu qemu64,+avx2,-sse4a,x2apic=off,level=7").machine.cpu;
  EXPECT_EQ(cpu.model, "qemu64");
  EXPECT_THAT(cpu.features, testing::ElementsAre(std::pair("avx2", true), std::pair("sse4a", false), std::pair("x2apic", false)));
  EXPECT_THAT(cpu.properties, testing::ElementsAre(std::pair("level", "7")));
}

TEST(CommandLine, VirtioDriveBecomesADeviceBehindTheOthers) {
  auto config = parsed("-nodefaults -drive file=/x,format=raw,if=virtio,cache=none,discard=unmap -device virtio-rng-pci").machine;
  ASSERT_EQ(config.drives.size(), 1u);
  EXPECT_EQ(config.drives[0].id, "virtio0");
  EXPECT_TRUE(config.drives[0].mode.cache_direct);
  EXPECT_TRUE(config.drives[0].mode.discard);
  ASSERT_EQ(config.devices.size(), 2u);
  EXPECT_EQ(config.devices[1].type, "virtio-blk-pci");
  EXPECT_THAT(config.devices[1].properties, testing::ElementsAre(std::pair("drive", "virtio0")));
}

TEST(CommandLine, BlockNodesStayInOrder) {
  auto config = parsed("-nodefaults -blockdev driver=file,node-name=f,filename=/x,cache.direct=on -blockdev "
                       "driver=raw,node-name=d,file=f -device virtio-blk-pci,drive=d").machine;
  ASSERT_EQ(config.drives.size(), 2u);
  EXPECT_EQ(config.drives[0].id, "f");
  EXPECT_EQ((*config.drives[0].tree)["cache"]["direct"], "on");
  EXPECT_EQ((*config.drives[1].tree)["file"], "f");
}

TEST(CommandLine, DriveTakesLimitsAndNestedOptions) {
  auto config = parsed("-nodefaults -drive file.driver=file,file.filename=/x,format=qcow2,if=none,id=d,iops=100,throttling.bps-total=4096,"
                       "throttling.bps-total-max=8192,snapshot=on,lazy-refcounts=on").machine;
  ASSERT_EQ(config.drives.size(), 1u);
  const auto& drive = config.drives[0];
  EXPECT_TRUE(drive.snapshot);
  EXPECT_EQ(drive.throttle.buckets[block::ThrottleLimits::IopsTotal].average, 100u);
  EXPECT_EQ(drive.throttle.buckets[block::ThrottleLimits::BytesTotal].max, 8192u);
  EXPECT_EQ((*drive.tree)["file"]["filename"], "/x");
  EXPECT_EQ((*drive.tree)["lazy-refcounts"], "on");
}

TEST(CommandLine, JsonMeansTheSameAsDottedKeys) {
  auto config = parsed(R"(-nodefaults -blockdev {"driver":"raw","node-name":"d","file":{"driver":"file","filename":"/x"}})"
                       R"( -device {"driver":"virtio-blk-pci","drive":"d","num-queues":2})").machine;
  ASSERT_EQ(config.drives.size(), 1u);
  EXPECT_EQ((*config.drives[0].tree)["file"]["filename"], "/x");
  EXPECT_THAT(config.devices[0].properties, testing::UnorderedElementsAre(std::pair("drive", "d"), std::pair("num-queues", "2")));
}

TEST(CommandLine, MicrovmPutsDevicesOnMmio) {
  auto config = parsed("-M microvm -nodefaults -drive file=/x,format=raw -nic user").machine;
  ASSERT_EQ(config.devices.size(), 2u);
  EXPECT_EQ(config.devices[0].type, "virtio-net-device");
  EXPECT_EQ(config.devices[1].type, "virtio-blk-device");
}

TEST(CommandLine, OldNetOptionsPairCardsAndBackEndsByVlan) {
  auto config = parsed("-vga none -net nic,vlan=1,model=virtio,macaddr=00:00:00:00:99:01 -net user,vlan=1").machine;
  ASSERT_EQ(config.networks.size(), 1u);
  EXPECT_THAT(device_types(config), testing::ElementsAre("virtio-net-pci", "ide-cd", "floppy"));
  EXPECT_THAT(config.devices[0].properties, testing::Contains(std::pair("netdev", config.networks[0].id)));
  EXPECT_THAT(error_of("-net user -net nic,vlan=1"), HasSubstr("-net user: no card is left"));
  EXPECT_THAT(error_of("-net nic"), HasSubstr("no back end is left"));
}

TEST(CommandLine, MoreThanTwoOfOneVlanMeetAtAHub) {
  auto config = parsed("-vga none -net nic,vlan=2 -net nic,vlan=2 -net user,vlan=2").machine;
  ASSERT_EQ(config.networks.size(), 4u);
  const auto& held = std::get<net::HubPortOptions>(config.networks[1].options);
  EXPECT_EQ(held.netdev, config.networks[0].id);
  EXPECT_EQ(held.hub, 2u);
  EXPECT_THAT(config.devices[0].properties, testing::Contains(std::pair("netdev", config.networks[2].id)));
  EXPECT_THAT(config.devices[1].properties, testing::Contains(std::pair("netdev", config.networks[3].id)));
}

TEST(CommandLine, WiresBetweenPrograms) {
  auto wire = [](const std::string& line) { return std::get<net::SocketOptions>(parsed(line).machine.networks[0].options); };
  using Kind = net::SocketOptions::Kind;
  EXPECT_EQ(wire("-netdev socket,id=w,listen=:1234").kind, Kind::Listen);
  EXPECT_EQ(wire("-netdev socket,id=w,connect=[::1]:1234").remote.host, "::1");
  EXPECT_EQ(wire("-netdev socket,id=w,mcast=230.0.0.1:1234").kind, Kind::Multicast);
  EXPECT_EQ(wire("-netdev socket,id=w,udp=127.0.0.1:2,localaddr=127.0.0.1:3").local.port, "3");
  EXPECT_EQ(wire("-netdev stream,id=w,server=on,addr.type=unix,addr.path=/x").local.path, "/x");
  EXPECT_EQ(wire("-netdev stream,id=w,addr.type=inet,addr.host=h,addr.port=5,reconnect=2").reconnect_s, 2u);
  EXPECT_EQ(wire("-netdev dgram,id=w,remote.type=inet,remote.host=230.0.0.1,remote.port=5").kind, Kind::Multicast);
  EXPECT_EQ(wire("-netdev dgram,id=w,local.type=unix,local.path=/a,remote.type=unix,remote.path=/b").remote.path, "/b");
  EXPECT_THAT(error_of("-netdev socket,id=w"), HasSubstr("exactly one of"));
  EXPECT_THAT(error_of("-netdev socket,id=w,udp=127.0.0.1:2"), HasSubstr("localaddr"));
  EXPECT_THAT(error_of("-netdev dgram,id=w"), HasSubstr("requires"));
  EXPECT_THAT(error_of("-netdev hubport,id=w"), HasSubstr("hubid"));
  EXPECT_THAT(error_of("-netdev user,id=u,guestfwd=tcp:10.0.2.9:80-tcp:127.0.0.1:1"), HasSubstr("cmd:"));
}

TEST(CommandLine, HostForwardingRules) {
  auto config = parsed("-nodefaults -netdev user,id=n,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:53-10.0.2.15:5353").machine;
  const auto& user = std::get<net::UserOptions>(config.networks[0].options);
  ASSERT_EQ(user.forwards.size(), 2u);
  EXPECT_EQ(user.forwards[0].host_port, 2222);
  EXPECT_TRUE(user.forwards[1].udp);
  EXPECT_EQ(user.forwards[1].guest_address, "10.0.2.15");
  EXPECT_THAT(error_of("-netdev user,id=n,hostfwd=tcp::2222"), HasSubstr("Invalid host forwarding rule"));
}

TEST(CommandLine, NographicMuxesSerialPortAndMonitor) {
  auto line = parsed("-nographic");
  ASSERT_EQ(line.program.chardevs.size(), 1u);
  EXPECT_TRUE(line.program.chardevs[0].mux);
  EXPECT_FALSE(line.program.chardevs[0].signal);
  ASSERT_EQ(line.program.monitors.size(), 1u);
  ASSERT_EQ(line.machine.serial.size(), 1u);
  EXPECT_NE(line.machine.serial[0], line.program.monitors[0].chardev) << "each has a port of its own";
}

TEST(CommandLine, NographicWithAQmpSocketLeavesTheTerminalToTheSerialPort) {
  auto line = parsed("-nographic -qmp unix:/x,server=on,wait=off");
  ASSERT_EQ(line.program.monitors.size(), 1u);
  EXPECT_TRUE(line.program.monitors[0].qmp);
  ASSERT_EQ(line.program.chardevs.size(), 2u);
  const auto& socket = line.program.chardevs[0];
  EXPECT_EQ(socket.path, "/x");
  EXPECT_TRUE(socket.server);
  EXPECT_FALSE(socket.wait);
}

TEST(CommandLine, SerialPortWithItsMonitorReplacesTheDefaults) {
  auto line = parsed("-nographic -serial mon:stdio");
  EXPECT_EQ(line.program.chardevs.size(), 1u);
  EXPECT_EQ(line.program.monitors.size(), 1u);
}

TEST(CommandLine, SerialPortMayBeADevice) {
  auto line = parsed("-nodefaults -chardev null,id=c -device isa-serial,chardev=c,id=serial0,index=0 "
                     "-chardev null,id=d -mon chardev=d,id=monitor,mode=control -msg timestamp=on");
  EXPECT_EQ(line.machine.serial, std::vector<std::string>{"c"});
  EXPECT_TRUE(line.program.log_timestamps);
}

TEST(CommandLine, SerialPortsMayBeLeftOut) {
  auto line = parsed("-serial none -serial null");
  ASSERT_EQ(line.machine.serial.size(), 2u);
  EXPECT_EQ(line.machine.serial[0], "");
  EXPECT_EQ(line.machine.serial[1], "serial1");
}

TEST(CommandLine, GlobalsReachDevicesThatDoNotSetThem) {
  auto config = parsed("-nodefaults -global e1000.mac=52:54:00:00:00:01 -nic user -nic user,mac=52:54:00:00:00:02").machine;
  EXPECT_THAT(config.devices[0].properties, testing::Contains(std::pair("mac", "52:54:00:00:00:01")));
  EXPECT_THAT(config.devices[1].properties, testing::Contains(std::pair("mac", "52:54:00:00:00:02")));
  EXPECT_THAT(config.devices[1].properties, testing::Not(testing::Contains(std::pair("mac", "52:54:00:00:00:01"))));
}

TEST(CommandLine, SystemManagementModeAndSecureFlash) {
  EXPECT_EQ(parsed("-M q35").machine.smm, std::nullopt);
  EXPECT_EQ(parsed("-M q35,smm=auto").machine.smm, std::nullopt);
  EXPECT_EQ(parsed("-M q35,smm=on").machine.smm, true);
  EXPECT_EQ(parsed("-M pc,smm=off").machine.smm, false);
  EXPECT_FALSE(parsed("-M q35").machine.boot.flash_secure);
  EXPECT_TRUE(parsed("-global driver=cfi.pflash01,property=secure,value=on").machine.boot.flash_secure);
}

TEST(CommandLine, WithoutKvmItDoesNotMatterWhereItsInterruptControllersAre) {
  EXPECT_EQ(parsed("-accel soft -M pc,kernel_irqchip=split").machine.board, machine::BoardKind::Pc);
  EXPECT_EQ(parsed("-M pc,accel=tcg,kernel-irqchip=off").machine.board, machine::BoardKind::Pc);
}

TEST(CommandLine, MachineUsesItsMemoryBackend) {
  auto config = parsed("-object memory-backend-memfd,id=m,size=256M -M pc,memory-backend=m").machine;
  EXPECT_EQ(config.ram_bytes, 256 * kMiB);
  EXPECT_EQ(config.ram.backing, memory::RamOptions::Backing::Memfd);
  EXPECT_TRUE(config.ram.shared);
}

TEST(CommandLine, FirmwareIsToldTheOrderOfBootDevices) {
  EXPECT_EQ(parsed("-m 64").machine.boot.order, "cad");
  EXPECT_EQ(parsed("-boot order=").machine.boot.order, "");
  EXPECT_TRUE(parsed("-m 64").machine.boot.floppy_check);
  EXPECT_FALSE(parsed("-no-fd-bootchk").machine.boot.floppy_check);
}

TEST(CommandLine, OptionsOfTheProtocolGoWithAFilesName) {
  const auto line = parsed("-drive if=none,id=d,format=raw,file=null-co://,file.read-zeroes=on");
  EXPECT_EQ(line.machine.drives.at(0).tree->dump(), R"({"driver":"raw","file":{"filename":"null-co://","read-zeroes":"on"}})");
}

TEST(CommandLine, HelpAsksForTextAndNothingElse) {
  EXPECT_THAT(parsed("-help -foo").text.value_or(""), HasSubstr("-drive"));
  EXPECT_THAT(parsed("-version").text.value_or(""), HasSubstr("QEMU emulator version 7.2"));
  EXPECT_THAT(parsed("-M help").text.value_or(""), HasSubstr("microvm"));
  EXPECT_THAT(parsed("-device help").text.value_or(""), HasSubstr("name \"virtio-blk-pci\", bus PCI"));
  EXPECT_THAT(parsed("-device virtio-blk-pci,help").text.value_or(""), HasSubstr("drive=<str>"));
  EXPECT_THAT(parsed("-cpu help").text.value_or(""), HasSubstr("qemu64"));
}

TEST(CommandLine, FlashChipsComeFromDrivesOptionsAndNodes) {
  auto line = parsed("-M q35 -drive if=pflash,unit=1,file=/b,format=raw -pflash /a");
  EXPECT_EQ(line.machine.board, machine::BoardKind::Q35);
  EXPECT_EQ(line.machine.boot.flash[0], line.machine.drives[1].id);
  EXPECT_EQ(line.machine.boot.flash[1], line.machine.drives[0].id);
  EXPECT_EQ(parsed("-M pc,pflash0=n -blockdev file,node-name=n,filename=/a").machine.boot.flash[0], "n");
  EXPECT_THAT(error_of("-drive if=pflash,unit=1,file=/b"), HasSubstr("pflash1 requires pflash0"));
  EXPECT_THAT(error_of("-M microvm -pflash /a"), HasSubstr("no flash chips"));
}

TEST(CommandLine, BootTakesTheFirstStartAloneAndTimes) {
  auto line = parsed("-boot order=c,once=d,menu=on,splash-time=500,reboot-timeout=-1");
  EXPECT_EQ(line.machine.boot.order, "c");
  EXPECT_EQ(line.machine.boot.once, "d");
  EXPECT_EQ(line.machine.boot.menu_wait_ms, 500u);
  EXPECT_EQ(line.machine.boot.fail_wait_ms, 0xffffffffu);
  EXPECT_THAT(error_of("-boot splash=x"), HasSubstr("'splash'"));
}

TEST(CommandLine, SmbiosFieldsAreChecked) {
  auto line = parsed("-smbios type=1,serial=a,uuid=00112233-4455-6677-8899-aabbccddeeff -smbios type=11,value=x,value=y");
  EXPECT_EQ(line.machine.uuid, "00112233-4455-6677-8899-aabbccddeeff");
  ASSERT_EQ(line.machine.smbios.size(), 2u);
  EXPECT_EQ(line.machine.smbios[1].fields.size(), 2u);
  EXPECT_THAT(error_of("-smbios type=1,foo=x"), HasSubstr("foo"));
  EXPECT_THAT(error_of("-smbios type=42"), HasSubstr("SMBIOS type 42"));
  EXPECT_THAT(error_of("-acpitable sig=OEM1"), HasSubstr("'data' or 'file'"));
}

TEST(CommandLine, WatchdogAndPanicActionsAreNamed) {
  auto line = parsed("-watchdog-action pause -action panic=none");
  EXPECT_EQ(line.machine.watchdog_action, machine::WatchdogAction::Pause);
  EXPECT_EQ(line.machine.panic_action, machine::PanicAction::None);
  EXPECT_THAT(error_of("-watchdog-action foo"), HasSubstr("'foo'"));
}

TEST(CommandLine, RtcBases) {
  EXPECT_EQ(parsed("-rtc base=2006-06-17T16:01:21").machine.rtc.fixed_seconds, 1150560081);
  EXPECT_EQ(parsed("-rtc base=localtime,clock=vm,driftfix=slew").machine.rtc.base, machine::RtcConfig::Base::LocalTime);
}

TEST(CommandLine, FilesForFirmware) {
  const auto boot = parsed("-fw_cfg name=opt/a,string=x -fw_cfg opt/b,file=/tmp/f -option-rom /x/rom.bin").machine.boot;
  ASSERT_EQ(boot.files.size(), 2u);
  EXPECT_EQ(boot.files[0].text, "x");
  EXPECT_EQ(boot.files[1].path, "/tmp/f");
  EXPECT_THAT(boot.option_roms, testing::ElementsAre("/x/rom.bin"));
  EXPECT_THAT(error_of("-fw_cfg opt/a"), HasSubstr("one of 'file' and 'string'"));
  EXPECT_THAT(error_of("-fw_cfg opt/a,string=1 -fw_cfg opt/a,string=2"), HasSubstr("duplicate fw_cfg file name"));
}

TEST(CommandLine, SnapshotIsForEveryWritableDrive) {
  const auto drives = parsed("-snapshot -hda /x -drive file=/y,if=virtio,readonly=on -nodefaults").machine.drives;
  ASSERT_EQ(drives.size(), 2u);
  EXPECT_TRUE(drives[0].snapshot);
  EXPECT_FALSE(drives[1].snapshot);
}

TEST(CommandLine, OptionsFromAFile) {
  char name[] = "/tmp/atoll-config-XXXXXX";
  Fd file(::mkstemp(name));
  const std::string_view text = "# a VM\n[drive \"disk\"]\n  file = \"/a,b.raw\"\n  if = \"none\"\n\n[smp-opts]\n cpus = \"2\"\n";
  ASSERT_TRUE(write_all(file, {reinterpret_cast<const u8*>(text.data()), text.size()}));
  const auto config = parsed(std::string("-readconfig ") + name).machine;
  EXPECT_EQ(config.topology.cpus, 2u);
  ASSERT_FALSE(config.drives.empty());
  EXPECT_EQ(config.drives[0].id, "disk");
  ASSERT_TRUE(write_all(file, {reinterpret_cast<const u8*>("nonsense\n"), 9}));
  EXPECT_THAT(error_of(std::string("-readconfig ") + name), HasSubstr(":8: a line is key"));
  ::unlink(name);
}

TEST(CommandLine, OtherUsersAreNamedOrNumbered) {
  EXPECT_EQ(parsed("-runas 12:34").program.run_as, (std::pair<u32, u32>(12, 34)));
  EXPECT_EQ(parsed("-runas root").program.run_as, (std::pair<u32, u32>(0, 0)));
  EXPECT_THAT(error_of("-runas nobody-of-that-name"), HasSubstr("doesn't exist"));
}

TEST(CommandLine, SetAddsAValueToAnOptionBeforeIt) {
  const auto line = parsed("-nodefaults -netdev user,id=u -device virtio-net-pci,netdev=u,id=n -set device.n.mac=52:54:00:00:00:09");
  const auto& properties = line.machine.devices.back().properties;
  EXPECT_THAT(properties, testing::Contains(std::pair<std::string, std::string>("mac", "52:54:00:00:00:09")));
  EXPECT_THAT(error_of("-set device.n.mac=x"), HasSubstr("there is no device \"n\" defined"));
  EXPECT_THAT(error_of("-set nonsense"), HasSubstr("group.id.key=value is expected"));
  EXPECT_THAT(error_of("-set"), HasSubstr("requires an argument"));
}

TEST(CommandLine, WhatIsAbsentSaysWhy) {
  EXPECT_EQ(error_of("-spice port=1"), "-spice: not supported: there is no SPICE; -vnc shows the screen");
  EXPECT_EQ(error_of("-frobnicate"), "-frobnicate: invalid option");
  EXPECT_THAT(error_of("-compat deprecated-input=reject"), HasSubstr("'deprecated-input=reject' is not supported"));
  EXPECT_EQ(error_of("-compat deprecated-input=accept -trace nothing -D /nonexistent/log -d none -audio none"), "no error");
}

TEST(CommandLine, NodesShareMemoryAndProcessors) {
  const std::string two = "-object memory-backend-ram,id=a,size=64M -object memory-backend-ram,id=b,size=64M -smp 4,sockets=2,cores=2 ";
  auto config = parsed(two + "-numa node,memdev=a -numa node,memdev=b -numa dist,src=0,dst=1,val=31").machine;
  ASSERT_EQ(config.numa.size(), 2u);
  EXPECT_EQ(config.ram_bytes, 128 * kMiB);
  EXPECT_THAT(config.numa[0].cpus, testing::ElementsAre(0, 1)) << "sockets go to nodes";
  EXPECT_THAT(config.numa[1].distances, testing::ElementsAre(31, 10));
  config = parsed(two + "-numa node,memdev=a,cpus=0 -numa node,memdev=b -numa cpu,node-id=1,socket-id=1").machine;
  EXPECT_THAT(config.numa[0].cpus, testing::ElementsAre(0, 1)) << "who is in no node is in the first";
  EXPECT_THAT(config.numa[1].cpus, testing::ElementsAre(2, 3));
  EXPECT_THAT(error_of(two + "-numa node,memdev=a"), HasSubstr("does not use memory backend 'b'"));
}

TEST(CommandLine, NodesThatCannotBeAreRefused) {
  EXPECT_THAT(error_of("-numa node"), HasSubstr("total memory for NUMA nodes (0x0) should equal RAM size (0x8000000)"));
  EXPECT_THAT(error_of("-numa node,mem=64M"), HasSubstr("Use -numa node,memdev instead"));
  EXPECT_THAT(error_of("-numa node,nodeid=3"), HasSubstr("Node ID missing: 0"));
  EXPECT_THAT(error_of("-numa node,cpus=0-9"), HasSubstr("should be smaller than maxcpus (1)"));
  EXPECT_THAT(error_of("-numa foo"), HasSubstr("Parameter 'type' does not accept value 'foo'"));
  EXPECT_THAT(error_of("-numa hmat-lb,initiator=0"), HasSubstr("'hmat-lb' is not supported"));
  EXPECT_THAT(error_of("-numa dist,src=0,dst=1,val=20"), HasSubstr("NUMA node is missing"));
}

}  // namespace
}  // namespace atl::control
