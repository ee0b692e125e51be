"""What a stock kernel learns of the machine from its tables, and the TPM that they announce."""

import os
import shutil
import subprocess
import tempfile
import time
import unittest

from guest import boot


class Tables(unittest.TestCase):
    def test_fields_of_smbios_and_further_acpi_tables_reach_the_kernel(self):
        with tempfile.NamedTemporaryFile() as data:
            data.write(b"what the table says")
            data.flush()
            text = boot("cd /sys/class/dmi/id; cat product_name product_serial board_vendor chassis_asset_tag; tail -c 19 /sys/firmware/acpi/tables/OEM1",
                        "-smbios", "type=1,serial=SERIAL-7", "-smbios", "type=2,manufacturer=BOARDS", "-smbios", "type=3,asset=TAG-3",
                        "-acpitable", f"sig=OEM1,rev=2,data={data.name}", machine="q35")
        for wanted in ("Standard PC (Q35 + ICH9, 2009)", "SERIAL-7", "BOARDS", "TAG-3", "what the table says"):
            self.assertIn(wanted, text)


@unittest.skipUnless(shutil.which("swtpm"), "package swtpm is missing")
class Tpm(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.socket = f"{folder.name}/socket"
        swtpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder.name}", "--ctrl", f"type=unixio,path={self.socket}"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(swtpm.wait)
        self.addCleanup(swtpm.kill)
        deadline = time.monotonic() + 60
        while not os.path.exists(self.socket):
            self.assertLess(time.monotonic(), deadline, "swtpm does not listen")
            time.sleep(0.05)

    def test_the_kernel_drives_swtpm(self):
        for board in ("pc", "q35"):
            with self.subTest(board=board):
                if board == "q35":
                    self.doCleanups()
                    self.setUp()
                text = boot("cat /sys/class/tpm/tpm0/tpm_version_major /sys/class/tpm/tpm0/pcr-sha256/0", "-chardev", f"socket,id=c,path={self.socket}",
                            "-tpmdev", "emulator,id=t,chardev=c", "-device", "tpm-crb,tpmdev=t", machine=board)
                self.assertRegex(text, r"(?m)^2\s")
                self.assertIn("0" * 64, text)


if __name__ == "__main__":
    unittest.main()
