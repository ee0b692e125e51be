"""The command that everybody remembers, as it stands, in a network namespace of its own: tap, card, CD and remote screen."""

import os
import shutil
import subprocess
import time
import unittest

from guest import VMM
from qmp_client import Qmp
from test_disks import Files as DiskFiles
from test_screen import read_png


@unittest.skipIf(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), "needs root and /dev/net/tun")
class ByHand(DiskFiles):
    def start(self, *options):
        inside = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        socket = self.folder / "qmp"
        process = subprocess.Popen([*inside, VMM, *options, "-qmp", f"unix:{socket},server=on,wait=off"], stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.qmp = Qmp(str(socket), process=process)
        self.addCleanup(self.qmp.close)
        return process

    def monitor(self, line):
        return self.qmp.command("human-monitor-command", command_line=line)

    def test_everything_is_where_the_command_says(self):
        script = self.folder / "qemu-ifup"
        script.write_text(f"#!/bin/sh\nip link set $1 up && echo $1 is up >{self.folder}/up\n")
        script.chmod(0o755)
        process = self.start("-m", "512", "-k", "en-us", "-M", "pc", "-hda", self.disk("gtes11.img"), "-cdrom", self.iso("disc1.iso"),
                             "-net", "nic,vlan=1,model=rtl8139,macaddr=00:00:00:00:99:01", "-net", f"tap,vlan=1,ifname=tap0,script={script}",
                             "-vnc", "localhost:1", "-boot", "d")
        self.assertEqual((self.folder / "up").read_text(), "tap0 is up\n")
        deadline = time.monotonic() + 120
        while "No bootable device" not in (text := self.monitor("info screen")):
            self.assertLess(time.monotonic(), deadline, text)
            time.sleep(0.2)
        self.assertLess(text.index("Could not read from CDROM"), text.index("Booting from Hard Disk"))  # -boot d
        self.assertIn("net0: 00:00:00:00:99:01 using rtl8139", text)
        self.assertEqual(self.qmp.command("query-vnc")["service"], "5901")
        self.assertIn("ifname=tap0", self.monitor("info network"))
        blocks = {b["device"]: b for b in self.qmp.command("query-block")}
        self.assertEqual(blocks["ide0-hd0"]["inserted"]["file"], str(self.folder / "gtes11.img"))
        self.assertEqual(blocks["ide1-cd0"]["inserted"]["file"], str(self.folder / "disc1.iso"))
        self.expect_viewer(process.pid)

    def expect_viewer(self, pid):
        """A viewer on that machine sees the screen at localhost:1."""
        if not shutil.which("gvnccapture"):
            return
        picture, dump = self.folder / "viewer.png", self.folder / "dump.png"
        subprocess.run(["nsenter", "-t", str(pid), "-n", "gvnccapture", "localhost:1", picture], check=True, timeout=60, capture_output=True)
        self.qmp.command("screendump", filename=str(dump), format="png")
        size = subprocess.run(["identify", "-format", "%wx%h", picture], check=True, capture_output=True, text=True).stdout
        self.assertEqual(size, "{}x{}".format(*read_png(str(dump))[:2]))


if __name__ == "__main__":
    unittest.main()
