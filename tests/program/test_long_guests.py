"""Guests that take minutes: memtest86+'s whole pass, and an installation onto a blank disk. scripts/test-long sets ATOLL_LONG."""

import os
import re
import shutil
import subprocess
import time
import unittest

from boot_disk import uefi_cd
from guest import GUESTS
from test_firmware import OVMF, Screens

MEMTEST = "/usr/lib/memtest86+/memtest86+x64.iso"
CD = f"{GUESTS}/installer.iso"
IMAGES = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"


@unittest.skipUnless(os.environ.get("ATOLL_LONG"), "takes minutes: ATOLL_LONG=1 runs it")
class Long(Screens):
    @unittest.skipUnless(os.path.exists(MEMTEST), "package memtest86+ is missing")
    def test_memtest_finds_no_error_in_one_pass_over_64_megabytes(self):
        self.start_vm("-m", "64", "-vga", "std", "-cdrom", MEMTEST)
        self.wait_for("<Enter> to start testing", self.screen)
        self.qmp.command("send-key", keys=[{"type": "qcode", "data": "ret"}])
        deadline = time.monotonic() + 3000
        while not re.search(r"Pass: +1 ", text := self.screen()):
            self.assertRegex(text, r"Errors: *(0\b|\r?\n)")
            self.assertLess(time.monotonic(), deadline, text)
            time.sleep(2)
        self.assertIn("Memory  :   64MB", text)
        self.assertRegex(text, r"Pass: +1 +Errors: 0\b")

    @unittest.skipUnless(os.path.exists(CD), "no CD that installs: scripts/make-guest installer")
    def test_debian_installs_itself_onto_a_blank_disk_and_starts_from_it(self):
        disk = self.path("disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "4G"], check=True)
        board = ["-M", "pc", "-m", "1024", "-vga", "std", "-serial", f"file:{self.path('serial')}"]
        self.start_vm(*board, "-hda", disk, "-cdrom", CD, "-boot", "d", "-no-reboot")
        self.wait_for("installation ended well", self.serial, seconds=5400)
        self.assertEqual(self.process.wait(300), 0)
        self.start_vm(*board, "-hda", disk)
        self.wait_for("installed login:", self.screen, seconds=900)
        for key in "root\n":
            self.press("ret" if key == "\n" else key)
        self.wait_for("Password:", self.screen)
        for key in "atoll\n":
            self.press("ret" if key == "\n" else key)
        self.wait_for("root@installed:~#", self.screen)

    @unittest.skipUnless(os.path.isdir(IMAGES) and os.path.exists(f"{OVMF}/OVMF_CODE_4M.fd"), "no installer or no OVMF")
    def test_installer_asks_its_first_question_on_uefi(self):
        shutil.copy(f"{OVMF}/OVMF_VARS_4M.fd", self.path("vars.fd"))
        config = "linux /linux console=tty0 console=ttyS0 TERM=linux ---\ninitrd /initrd.gz\nboot\n"
        cd = uefi_cd(self.folder, config, [f"{IMAGES}/linux", f"{IMAGES}/initrd.gz"])
        self.start_vm("-M", "q35", "-m", "1024", "-vga", "std", "-cdrom", cd, "-boot", "d", "-serial", f"file:{self.path('serial')}",
                      "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                      "-drive", f"if=pflash,unit=1,format=raw,file={self.path('vars.fd')}")
        self.wait_for("Select a language", self.characters, seconds=1800)

    def characters(self):
        """What was written to the serial port, without what only moves and colours it."""
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[78=>])|[\x0e\x0f]", "", self.serial())

    def press(self, key):
        self.qmp.command("send-key", keys=[{"type": "qcode", "data": key}], hold_time=20)


if __name__ == "__main__":
    unittest.main()
