"""Stock Debian kernels boot to user space, and see the machine that the command line describes."""

import os
import re
import subprocess
import tempfile
import time
import unittest

from guest import GUESTS, VMM, boot, kernel_args, run


class Boot(unittest.TestCase):
    def test_64_bit_kernel_reaches_user_space_and_powers_off(self):
        self.assertIn("x86_64", boot("uname -m"))

    def test_32_bit_kernel_reaches_user_space_and_powers_off(self):
        self.assertIn("i686", boot("uname -m", suffix="32"))

    def test_translations_that_do_not_fit_into_their_memory(self):
        self.assertIn("x86_64", boot("uname -m", accelerator="soft,tb-size=1"))

    def test_microvm(self):
        self.assertIn("x86_64", boot("uname -m", machine="microvm"))

    def test_two_and_four_processors_are_online(self):
        self.assertIn("processors 2", boot("echo processors $(nproc)", "-smp", "2"))
        self.assertIn("processors 4", boot("echo processors $(nproc)", "-smp", "4,sockets=1,cores=2,threads=2"))

    def test_32_bit_kernel_on_two_processors(self):
        self.assertIn("processors 2", boot("echo processors $(nproc)", "-smp", "2", suffix="32"))

    def test_two_processors_on_microvm(self):
        self.assertIn("processors 2", boot("echo processors $(nproc)", "-smp", "2", machine="microvm"))

    def test_memory_below_and_above_4_gib(self):
        text = boot("grep MemTotal /proc/meminfo", memory="5G")
        kib = int(re.search(r"MemTotal:\s+(\d+)", text).group(1))
        self.assertGreater(kib, 4800 * 1024)
        self.assertLess(kib, 5 * 1024 * 1024)

    def test_named_cpu_models_and_features(self):
        text = boot("cat /proc/cpuinfo", cpu="qemu64,+ssse3,-sse3")
        self.assertIn(" ssse3", text)
        self.assertNotIn(" pni", text)
        self.assertNotIn(" avx", text)

    def test_avx512_is_the_hosts_and_can_be_switched_off(self):
        with open("/proc/cpuinfo", encoding="ascii") as info:
            if " avx512vl" not in info.read():
                self.skipTest("the host has no AVX-512")
        self.assertIn(" avx512vl", boot("cat /proc/cpuinfo"))
        self.assertNotIn(" avx512", boot("cat /proc/cpuinfo", cpu="max,-avx512f"))

    def test_firmware_tables_of_the_pc(self):
        text = boot("ls /sys/firmware/acpi/tables; for d in /sys/bus/pci/devices/*; do cat $d/vendor $d/device; done")
        for table in ("DSDT", "FACP", "APIC"):
            self.assertIn(table, text)
        self.assertIn("0x8086\r\n0x1237", text)

    def test_guest_clock_follows_the_host(self):
        text = boot("date +guest=%s; cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
        self.assertAlmostEqual(int(re.search(r"guest=(\d+)", text).group(1)), time.time(), delta=30)

    def test_reset_without_no_reboot_ends_at_the_second_power_off(self):
        marker = "if [ -e /dev/vda ] && ! grep -q again /dev/vda; then echo again >/dev/vda; sync; reboot -f; fi; echo second life"
        with tempfile.NamedTemporaryFile() as disk:
            disk.truncate(1 << 20)
            text = run(["-accel", "soft", "-M", "pc", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio",
                        *kernel_args(marker), "-drive", f"file={disk.name},format=raw,if=virtio"])
        self.assertEqual(text.count("second life"), 1)

    def test_panic_with_no_reboot_ends_the_program(self):
        run(["-accel", "soft", "-M", "pc", "-m", "256", "-nodefaults", "-display", "none", "-serial", "null", "-no-reboot",
             *kernel_args("true", append="rdinit=/nonexistent root=/dev/none")])

    def test_sandboxed_boot(self):
        boot("true", "-sandbox", "on", "-drive", f"file={GUESTS}/disk.raw,format=raw,if=virtio,readonly=on", "-nic", "user,model=virtio-net-pci")


class Firmware(unittest.TestCase):
    def seabios(self, accelerator):
        """Power-on until SeaBIOS looks for a boot device."""
        bios = "/usr/share/seabios/bios-256k.bin"
        if not os.path.exists(bios):
            self.skipTest("no seabios")
        process = subprocess.Popen([VMM, "-accel", accelerator, "-M", "pc", "-m", "64", "-nodefaults", "-display", "none", "-bios", bios,
                                    "-chardev", "stdio,id=dbg,signal=off", "-device", "isa-debugcon,iobase=0x402,chardev=dbg"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        seen = b""
        for line in process.stdout:
            seen += line
            if b"No bootable device" in line or b"Booting from" in line:
                return
        self.fail(f"SeaBIOS ended early: {seen.decode(errors='replace')}")

    def test_seabios_looks_for_a_boot_device(self):
        self.seabios("soft")

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm")
    def test_seabios_looks_for_a_boot_device_on_kvm(self):
        self.seabios("kvm")


if __name__ == "__main__":
    unittest.main()
