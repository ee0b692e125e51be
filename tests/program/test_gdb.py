"""Debian's gdb against -gdb: break- and watchpoints, single steps, registers, memory, threads."""

import os
import subprocess
import tempfile
import unittest

from guest import BUILD, VMM

GUEST = BUILD + "/tests/guest/smp.elf"


class Gdb(unittest.TestCase):
    accelerator = "soft"

    def debug(self, *commands):
        """Runs the guest up to the debugger's commands, then ends it; returns what gdb printed."""
        with tempfile.TemporaryDirectory() as folder:
            socket = folder + "/gdb"
            vmm = subprocess.Popen(
                [VMM, "-accel", self.accelerator, "-M", "pc", "-smp", "2", "-m", "64", "-display", "none", "-nodefaults",
                 "-S", "-gdb", f"unix:{socket}", "-kernel", GUEST, "-pidfile", folder + "/pid"], stdin=subprocess.DEVNULL)
            try:
                while not os.path.exists(folder + "/pid"):
                    self.assertIsNone(vmm.poll(), "atoll-vmm ended early")
                script = ["set pagination off", "set confirm off", "set architecture i386:x86-64", f"target remote {socket}",
                          *commands, "kill"]
                gdb = subprocess.run(["gdb", "-nx", "-batch", GUEST + "64", *(w for c in script for w in ("-ex", c))],
                                     stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
                self.assertEqual(vmm.wait(timeout=20), 0)
            finally:
                if vmm.poll() is None:
                    vmm.kill()
                    vmm.wait()
        return gdb.stdout + gdb.stderr

    def test_breakpoint_stops_before_the_function(self):
        text = self.debug("hbreak main", "continue", 'printf "at %d\\n", $pc == (long)&main')
        self.assertIn("at 1", text, text)

    def test_several_breakpoints_and_continues(self):
        text = self.debug("hbreak main", "hbreak start_ap", "continue", "continue",
                          'printf "at %d\\n", $pc == (long)&start_ap')
        self.assertIn("at 1", text, text)

    def test_single_steps_move_by_one_instruction(self):
        text = self.debug("hbreak main", "continue", "stepi", "stepi", "stepi", "x/i $pc",
                          'printf "moved %d\\n", $pc > (long)&main && $pc < (long)&main + 64')
        self.assertIn("moved 1", text, text)

    def test_watchpoint_tells_old_and_new_value(self):
        text = self.debug("hbreak main", "continue", "watch *(int*)&ap_alive", "continue")
        self.assertIn("Old value = 0", text, text)
        self.assertIn("New value = 1", text, text)

    def test_registers_and_memory_can_be_changed(self):
        text = self.debug("hbreak main", "continue", "set $rbx = 0x1234567887654321", "set {long}&counter = 0x55aa",
                          'printf "rbx %lx\\n", $rbx', 'printf "counter %lx\\n", {long}&counter')
        self.assertIn("rbx 1234567887654321", text, text)
        self.assertIn("counter 55aa", text, text)

    def test_vcpus_are_threads(self):
        text = self.debug("info threads", "thread 2", "info registers rip")
        self.assertIn("Thread 2", text, text)

    def test_code_runs_on_when_points_are_gone(self):
        text = self.debug("hbreak main", "continue", "delete", "hbreak report", "continue",
                          'printf "at %d\\n", $pc == (long)&report')
        self.assertIn("at 1", text, text)


def hardware_kvm():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return os.path.exists("/dev/kvm") and any(word in file.read() for word in (" vmx", " svm"))


@unittest.skipUnless(hardware_kvm(), "no KVM with hardware behind it, which breakpoint registers need")
class GdbOnKvm(Gdb):
    accelerator = "kvm"


if __name__ == "__main__":
    unittest.main()
