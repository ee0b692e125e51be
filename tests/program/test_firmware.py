"""Firmware from Debian's packages, unmodified, and what it starts: SeaBIOS and OVMF on both boards, GRUB on disks made here."""

import os
import shutil
import time
import unittest

from boot_disk import bios_disk, signed_disk, uefi_disk
from test_control import Folder

OVMF = "/usr/share/OVMF"
BARE = ["-accel", "soft", "-nodefaults", "-display", "none"]
HELLO = 'echo "GRUB was here"\nsleep 600\n'


class Screens(Folder):
    def start_vm(self, *args):
        self.process, self.qmp = self.start_with_qmp(*BARE, *args)

    def screen(self):
        return self.qmp.command("human-monitor-command", command_line="info screen")

    def serial(self):
        with open(self.path("serial"), errors="replace") as file:
            return file.read()

    def wait_for(self, wanted, read, seconds=120):
        deadline = time.monotonic() + seconds
        while wanted not in (text := read()):
            self.assertIsNone(self.process.poll(), f"the VMM ended; it had shown:\n{text[-3000:]}")
            self.assertLess(time.monotonic(), deadline, f"{wanted!r} never came; there is:\n{text[-3000:]}")
            time.sleep(0.2)
        return text


class Seabios(Screens):
    def test_grub_starts_from_the_boot_record_of_a_disk_on_both_boards(self):
        disk = bios_disk(self.folder, HELLO)
        for board in ("pc", "q35"):
            with self.subTest(board=board):
                self.start_vm("-M", board, "-m", "128", "-vga", "std", "-drive", f"file={disk},format=raw,if=virtio,readonly=on")
                self.wait_for("GRUB was here", self.screen)
                self.qmp.command("quit")
                self.process.wait(60)

    def test_a_disk_behind_a_root_port_starts(self):
        disk = bios_disk(self.folder, HELLO)
        self.start_vm("-M", "q35", "-m", "128", "-vga", "std", "-device", "pcie-root-port,id=pci.1,chassis=1,multifunction=on,addr=0x2",
                      "-device", "pcie-root-port,id=pci.2,chassis=2,addr=0x2.0x1", "-drive", f"file={disk},format=raw,if=none,id=d,readonly=on",
                      "-device", "virtio-blk-pci,drive=d,bus=pci.2,addr=0x0,bootindex=1")
        self.wait_for("GRUB was here", self.screen)

    def test_the_menu_lists_disks_in_the_order_of_bootindex(self):
        disk = bios_disk(self.folder, HELLO)
        self.start_vm("-m", "128", "-vga", "std", "-boot", "menu=on,splash-time=60000", "-drive", f"file={disk},format=raw,if=none,id=a,readonly=on",
                      "-drive", f"file={disk},format=raw,if=none,id=b,readonly=on",
                      "-device", "virtio-blk-pci,drive=a,addr=5,bootindex=2", "-device", "virtio-blk-pci,drive=b,addr=6,bootindex=1")
        self.wait_for("Press ESC for boot menu", self.screen)
        self.qmp.command("send-key", keys=[{"type": "qcode", "data": "esc"}])
        text = self.wait_for("PCI:00:05.0", self.screen)
        self.assertLess(text.index("PCI:00:06.0"), text.index("PCI:00:05.0"))


class Uefi(Screens):
    def setUp(self):
        super().setUp()
        if not os.path.exists(f"{OVMF}/OVMF_CODE_4M.fd"):
            self.skipTest("package ovmf is missing")
        shutil.copy(f"{OVMF}/OVMF_VARS_4M.fd", self.path("vars.fd"))

    def flash(self):
        return ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                "-drive", f"if=pflash,unit=1,format=raw,file={self.path('vars.fd')}", "-serial", f"file:{self.path('serial')}"]

    def vars(self):
        with open(self.path("vars.fd"), "rb") as file:
            return file.read()

    def test_the_shell_comes_up_and_variables_are_written_on_both_boards(self):
        for board in ("pc", "q35"):
            with self.subTest(board=board):
                before = self.vars()
                self.start_vm("-M", board, "-m", "256", "-vga", "std", *self.flash())
                self.wait_for("UEFI Interactive Shell", self.serial)
                self.qmp.command("quit")
                self.process.wait(60)
                self.assertNotEqual(self.vars(), before)

    def test_grub_starts_from_a_fat_disk(self):
        disk = uefi_disk(self.folder, HELLO)
        self.start_vm("-M", "q35", "-m", "256", *self.flash(), "-drive", f"file={disk},format=raw,if=virtio,readonly=on")
        self.wait_for("GRUB was here", self.serial)


class SecureBoot(Screens):
    """OVMF's build for system management mode, with Microsoft's keys."""

    def setUp(self):
        super().setUp()
        if not os.path.exists(f"{OVMF}/OVMF_CODE_4M.ms.fd"):
            self.skipTest("package ovmf is missing")
        shutil.copy(f"{OVMF}/OVMF_VARS_4M.ms.fd", self.path("vars.fd"))

    def start_from(self, disk, *more):
        self.start_vm("-M", "q35,smm=on", "-m", "256", "-global", "driver=cfi.pflash01,property=secure,value=on",
                      "-global", "ICH9-LPC.disable_s3=1", "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.ms.fd",
                      "-drive", f"if=pflash,unit=1,format=raw,file={self.path('vars.fd')}", "-serial", f"file:{self.path('serial')}",
                      "-drive", f"file={disk},format=raw,if=virtio,readonly=on", *more)

    def test_an_unsigned_loader_is_refused(self):
        self.start_from(uefi_disk(self.folder, HELLO))
        self.wait_for("Access Denied", self.serial)
        self.assertNotIn("GRUB was here", self.serial())

    def test_debians_signed_loaders_start_with_one_and_two_processors(self):
        disk = signed_disk(self.folder, 'echo "GRUB was here, lockdown=$lockdown"\nsleep 600\n')
        for cpus in ("1", "2"):
            with self.subTest(cpus=cpus):
                self.start_from(disk, "-smp", cpus)
                self.wait_for("GRUB was here, lockdown=y", self.serial)
                self.qmp.command("quit")
                self.process.wait(60)


class Refusals(Folder):
    def test_wrong_flash_and_machine_properties_are_refused_by_name(self):
        with open(self.path("odd.fd"), "wb") as file:
            file.truncate(5000)
        with open(self.path("big.fd"), "wb") as file:
            file.truncate(9 << 20)
        for options, wanted in [
            (["-drive", f"if=pflash,format=raw,file={self.path('odd.fd')}"], "not a multiple of 4096"),
            (["-drive", f"if=pflash,format=raw,file={self.path('big.fd')}"], "combined size of system firmware exceeds"),
            (["-drive", f"if=pflash,unit=1,format=raw,file={self.path('odd.fd')}"], "pflash1 requires pflash0"),
            (["-M", "microvm,smm=on"], "smm=on"),
            (["-M", "q35,smm=maybe"], "'smm' takes on, off or auto"),
            (["-global", "driver=cfi.pflash01,property=secure,value=maybe"], "Property 'cfi.pflash01.secure' cannot be 'maybe'"),
            (["-boot", "splash=x.bmp"], "splash"),
            (["-smbios", "type=99"], "SMBIOS type 99"),
            (["-smbios", "file=/nonexistent/table"], "/nonexistent/table"),
            (["-acpitable", "file=/nonexistent/table"], "/nonexistent/table"),
            (["-device", "virtio-rng-pci,bus=pci.7"], "Bus 'pci.7' not found"),
        ]:
            with self.subTest(options=options):
                run = self.run_out(*BARE, *options)
                self.assertEqual(run.returncode, 1)
                self.assertIn(wanted, run.stderr)


if __name__ == "__main__":
    unittest.main()
