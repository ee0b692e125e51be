"""The q35 board and its root ports as a stock kernel sees them."""

import os
import re
import time
import unittest

from guest import boot, kernel_args
from test_control import Folder

PORTS = ["-device", "pcie-root-port,port=0x10,chassis=1,id=pci.1,bus=pcie.0,multifunction=on,addr=0x2",
         "-device", "pcie-root-port,port=0x11,chassis=2,id=pci.2,bus=pcie.0,addr=0x2.0x1"]


class Q35(unittest.TestCase):
    def test_bridges_disks_and_the_window_to_configuration_space(self):
        text = boot("cat /proc/bus/pci/devices; dmesg | grep -iE 'mmconfig|ecam|acpi.*err'", *PORTS,
                    "-device", "pcie-pci-bridge,id=pci.3,bus=pci.1,addr=0x0", "-device", "virtio-rng-pci,bus=pci.3,addr=0x1",
                    "-device", "virtio-balloon-pci,bus=pci.2,addr=0x0", machine="q35", append="loglevel=4")
        for wanted in ("0000\t808629c0", "00f8\t80862918", "0010\t1b36000c", "1af41005", "1af41045"):
            self.assertIn(wanted, text)
        self.assertRegex(text, r"(MMCONFIG|ECAM) .*0xb0000000")
        for trouble in ("ACPI Error", "ACPI BIOS Error"):
            self.assertNotIn(trouble, text)


class Seabios(unittest.TestCase):
    @unittest.skipUnless(os.path.exists("/usr/share/seabios/bios-256k.bin"), "no SeaBIOS")
    def test_the_kernel_finds_our_tables_and_enters_acpi_mode(self):
        text = boot("cd /sys/firmware/acpi/tables; ls; cat /proc/interrupts; test -e MCFG", "-bios", "bios-256k.bin",
                    suffix="-drivers", machine="q35")
        self.assertRegex(text, r"IO-APIC +9-fasteoi +acpi")


class Hotplug(Folder):
    def wait_for(self, pattern, seconds=180):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, text := self.said()):
            self.assertIsNone(self.process.poll(), text[-3000:])
            self.assertLess(time.monotonic(), deadline, f"{pattern} never came:\n{text[-3000:]}")
            time.sleep(0.2)

    def said(self):
        with open(self.path("serial"), errors="replace") as file:
            return file.read()

    def test_a_device_comes_and_goes_in_a_root_port(self):
        there = "[ -e /sys/bus/pci/devices/0000:02:00.0 ]"
        command = f"echo re''ady; until {there}; do sleep 1; done; echo arri''ved; while {there}; do sleep 1; done; echo le''ft; sleep 600"
        self.process, qmp = self.start_with_qmp("-accel", "soft", "-M", "q35", "-m", "256", "-cpu", "max", "-nodefaults", "-display", "none",
                                                "-serial", f"file:{self.path('serial')}", "-no-reboot", *PORTS, *kernel_args(command))
        self.wait_for("ready")
        qmp.command("device_add", driver="virtio-rng-pci", id="r", bus="pci.2")
        self.wait_for("arrived")
        qmp.command("device_del", id="r")
        self.wait_for("left")
        deadline = time.monotonic() + 60
        while not any(e["event"] == "DEVICE_DELETED" for e in qmp.events):
            self.assertLess(time.monotonic(), deadline)
            qmp.command("query-status")
            time.sleep(0.1)

    def test_the_root_bus_takes_nothing_while_the_guest_runs(self):
        self.process, qmp = self.start_with_qmp("-accel", "soft", "-M", "q35", "-nodefaults", "-display", "none")
        with self.assertRaisesRegex(Exception, "Bus 'pcie.0' does not support hotplugging"):
            qmp.command("device_add", driver="virtio-rng-pci", id="r")


if __name__ == "__main__":
    unittest.main()
