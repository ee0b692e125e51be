#include "control/hmp/execute.h"

#include <gmock/gmock.h>

#include "control/fake_vm.h"
#include "control/hmp/expression.h"
#include "cpu/spec.h"

namespace atl::control {
namespace {

class HmpTest : public testing::Test {
 protected:
  HmpTest() {
    for (size_t i = 0; i < machine.memory.size(); ++i) machine.memory[i] = static_cast<u8>(i);
  }
  std::string run(std::string_view text) { return hmp_execute(vm, text, cpu); }

  FakeVm fake;
  VmControl& vm = fake.control;
  FakeMachine& machine = fake.machine;
  u32 cpu = 0;
};

// The expected texts were taken from QEMU 7.2.
TEST_F(HmpTest, MemoryDumpsLookAsQemus) {
  EXPECT_EQ(run("xp /4wx 0"), "0000000000000000: 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c\r\n");
  EXPECT_EQ(run("xp/2gx 0x10"), "0000000000000010: 0x1716151413121110 0x1f1e1d1c1b1a1918\r\n");
  EXPECT_EQ(run("xp /10bx 0"), "0000000000000000: 0x00 0x01 0x02 0x03 0x04 0x05 0x06 0x07\r\n0000000000000008: 0x08 0x09\r\n");
  EXPECT_EQ(run("xp /2wd 0xfc"), "00000000000000fc:     -66052   50462976\r\n");
  EXPECT_EQ(run("xp /1wo 0"), "0000000000000000:  0300400400\r\n");
  EXPECT_EQ(run("xp /3bc 0x41"), "0000000000000041: 'A' 'B' 'C'\r\n");
  EXPECT_EQ(run("xp /2hu 0x10"), "0000000000000010:  4368  4882\r\n");
}

TEST_F(HmpTest, InstructionsAreThoseOfTheProcessorsMode) {
  const std::vector<u8> code = {0x48, 0x89, 0xd8, 0x0f, 0xff};
  std::ranges::copy(code, machine.memory.begin() + 0x100);
  machine.cpu.efer = cpu::kEferLMA;
  machine.cpu.seg[cpu::kCs].attributes = 0x2000;
  EXPECT_EQ(run("xp /1i 0x100"), "0x00000100:  48 89 d8                 mov %rbx, %rax\r\n");
  machine.cpu.efer = 0;
  machine.cpu.seg[cpu::kCs].attributes = 0x4000;
  EXPECT_EQ(run("x/2i 0x100"), "0x00000100:  48                       dec %eax\r\n0x00000101:  89 d8                    mov %ebx, %eax\r\n");
  EXPECT_EQ(run("xp /1i 0x100000"), "0x00100000: unable to read memory\r\n");
}

TEST_F(HmpTest, ExpressionsKnowRegisters) {
  machine.cpu.gpr[cpu::kRax] = 0x1234;
  machine.cpu.gpr[cpu::kR8] = 8;
  EXPECT_EQ(run("print $rax"), "0x1234\r\n");
  EXPECT_EQ(run("p /d $rax"), "4660\r\n");
  EXPECT_EQ(run("p /x ($rax + 0x10) * 2 - $r8"), "0x2480\r\n");
  EXPECT_EQ(run("print $nope"), "Error: unknown register 'nope'\r\n");
}

TEST_F(HmpTest, ErrorsAreText) {
  EXPECT_NE(run("screendump /nowhere/picture"), "Error: a file name is expected\r\n");  // a path, not a format
  EXPECT_EQ(run("foo"), "unknown command: 'foo'\r\n");
  EXPECT_EQ(run("info foo"), "unknown command: 'info foo'\r\n");
  EXPECT_EQ(run("x"), "Error: unexpected end of expression\r\n");
  EXPECT_EQ(run("x /4zx 0"), "Error: invalid char in format: 'z'\r\n");
  EXPECT_EQ(run("stop 3"), "Error: extraneous characters at the end of line\r\n");
  EXPECT_EQ(run("device_del x"), "Error: Device 'x' not found\r\n");
  EXPECT_EQ(run("xp 0x100000"), "Error: Cannot access memory: address 0x100000\r\n");
  EXPECT_EQ(run("p 1/0"), "Error: division by zero\r\n");
}

TEST_F(HmpTest, CommandsReachTheMachine) {
  run("stop");
  run("c");
  run("system_reset");
  run("nmi");
  EXPECT_THAT(machine.log, testing::ElementsAre("pause", "resume", "reset", "nmi"));
  run("q");
  EXPECT_TRUE(vm.is_quitting());
}

TEST_F(HmpTest, InfoShowsStateAndMachineTexts) {
  EXPECT_EQ(run("info cpus"), "* CPU #0: thread_id=42\r\n");
  EXPECT_EQ(run("info registers"), "text of registers\r\n");
  EXPECT_THAT(run("info accelerator"), testing::HasSubstr("exits"));
  EXPECT_THAT(run("help"), testing::HasSubstr("quit|q  -- quit the emulator"));
}

TEST(Expression, DeepNestingIsRefused) {
  std::string deep(100000, '(');
  std::string_view text = deep;
  EXPECT_FALSE(take_expression(text, {}));
  std::string minus(100000, '-');
  text = minus;
  EXPECT_FALSE(take_expression(text, {}));
}

TEST(Expression, PrecedenceIsAsInC) {
  std::string_view text = "2+3*4-1 rest";
  EXPECT_EQ(*take_expression(text, {}), 13u);
  EXPECT_EQ(text, "rest");
}

TEST_F(HmpTest, LinesAreCompletedByWhatTheirCommandTakes) {
  EXPECT_THAT(hmp_completions(vm, "sys"), testing::ElementsAre("system_powerdown", "system_reset", "system_wakeup"));
  EXPECT_THAT(hmp_completions(vm, "info bal"), testing::ElementsAre("balloon"));
  EXPECT_THAT(hmp_completions(vm, "device_add virtio-rng-d"), testing::ElementsAre("virtio-rng-device"));
  machine.present = {{{.type = "virtio-rng-pci", .id = "rng7"}, "/machine/peripheral/rng7"}};
  EXPECT_THAT(hmp_completions(vm, "device_del r"), testing::ElementsAre("rng7"));
  EXPECT_THAT(hmp_completions(vm, "object_add io"), testing::ElementsAre("iothread"));
  EXPECT_THAT(hmp_completions(vm, "device_add e1000 x"), testing::IsEmpty());
  EXPECT_THAT(hmp_completions(vm, ""), testing::IsEmpty());
}

TEST_F(HmpTest, PortsAreReadAndWrittenByWidth) {
  EXPECT_EQ(run("i /b 0x60"), "portb[0x0060] = 0x88\r\n");
  EXPECT_EQ(run("i/h 0x10060"), "portw[0x0060] = 0x7788\r\n");
  EXPECT_EQ(run("i 0x60"), "portl[0x0060] = 0x55667788\r\n");
  EXPECT_EQ(run("i /b 0x70 10"), "portb[0x0071] = 0x88\r\n");
  EXPECT_EQ(run("o /b 0x80 0x12"), "");
  EXPECT_EQ(run("i /g 0"), "Error: one port of 1, 2 or 4 bytes is expected: /b, /h or /w\r\n");
  EXPECT_EQ(run("o /b 0x80"), "Error: a value is expected\r\n");
  EXPECT_THAT(machine.log, testing::ElementsAre("read port 0x60 1", "read port 0x60 2", "read port 0x60 4", "write port 0x70 1 0xa", "read port 0x71 1",
                                                "write port 0x80 1 0x12"));
}

TEST_F(HmpTest, BootOrderIsChecked) {
  EXPECT_EQ(run("boot_set dnc"), "boot device list now set to dnc\r\n");
  EXPECT_EQ(run("boot_set xyz"), "Error: Invalid boot device 'x'\r\n");
  EXPECT_EQ(run("boot_set cc"), "Error: Boot device 'c' was given twice\r\n");
}

TEST_F(HmpTest, WordsBecomeQmpArguments) {
  EXPECT_EQ(run("block_job_pause nothing"), "Error: Block job 'nothing' not found\r\n");
  EXPECT_EQ(run("block_job_pause"), "Error: device is missing\r\n");
  EXPECT_EQ(run("block_job_pause a b"), "Error: extraneous characters at the end of line\r\n");
  EXPECT_EQ(run("block_resize disk lots"), "Error: invalid number 'lots' for size\r\n");
  EXPECT_EQ(run("block_job_cancel -x disk"), "Error: extraneous characters at the end of line\r\n");
  EXPECT_EQ(run("drive_mirror -nx disk file"), "Error: unsupported option -x\r\n");
}

TEST_F(HmpTest, ObjectsAreListedAsATree) {
  EXPECT_THAT(run("info qom-tree /machine"), testing::HasSubstr("  /peripheral (container)\r\n"));
  EXPECT_THAT(run("qom-list /machine"), testing::HasSubstr("type (string)\r\n"));
  EXPECT_EQ(run("qom-get /nothing x"), "Error: Device '/nothing' not found\r\n");
}

TEST_F(HmpTest, SumIsBsds) {
  machine.memory = {'a', 'b', 'c'};
  EXPECT_EQ(run("sum 0 3"), "16556\r\n");
}

}  // namespace
}  // namespace atl::control
