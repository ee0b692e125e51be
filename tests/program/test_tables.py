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


    CLOCKS = "cat /sys/devices/system/clocksource/clocksource0/available_clocksource; grep -c hpet /proc/timer_list"

    def test_the_kernel_finds_the_event_timers_and_the_generation_id(self):
        guid = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
        text = boot(self.CLOCKS + "; grep -a -o HPET /sys/firmware/acpi/tables/HPET; cd /sys/bus/acpi/drivers/vmgenid && ls | grep ^ATOL0001",
                    "-device", f"vmgenid,guid={guid}", suffix="-drivers", append="clocksource=hpet")
        self.assertRegex(text, r"(?m)^.*\bhpet\b.*acpi_pm")
        self.assertRegex(text, r"(?m)^HPET")
        self.assertRegex(text, r"(?m)^ATOL0001:00")

    def test_the_event_timers_can_be_left_out(self):
        for options in (("-M", "hpet=off"), ("-no-hpet",)):
            with self.subTest(options):
                text = boot(self.CLOCKS.replace("grep -c", "! grep -q"), *options)
                self.assertNotIn("hpet", text)

    def test_a_kernel_without_a_local_timer_ticks_by_the_event_timers(self):
        text = boot("for i in 1 2 3; do usleep 300000; done; grep timer /proc/interrupts; grep 'Clock Event Device: hpet' /proc/timer_list",
                    append="nolapic_timer clocksource=hpet")
        self.assertIn("Clock Event Device: hpet", text)
        self.assertRegex(text, r"(?m)^ *0: +[1-9][0-9]+ ")


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
        for board, device in (("pc", "tpm-crb"), ("q35", "tpm-crb"), ("pc", "tpm-tis")):
            with self.subTest(board=board, device=device):
                self.doCleanups()
                self.setUp()
                text = boot("cat /sys/class/tpm/tpm0/tpm_version_major /sys/class/tpm/tpm0/pcr-sha256/0", "-chardev", f"socket,id=c,path={self.socket}",
                            "-tpmdev", "emulator,id=t,chardev=c", "-device", f"{device},tpmdev=t", machine=board)
                self.assertRegex(text, r"(?m)^2\s")
                self.assertIn("0" * 64, text)


if __name__ == "__main__":
    unittest.main()
