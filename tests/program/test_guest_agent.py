"""Debian's qemu-guest-agent in a guest, asked through virsh."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

import managed
from guest import GUESTS
from managed import Managed, guest_xml, wait_until

AGENT = "/usr/sbin/qemu-ga"
DEVICES = """<serial type='file'><source path='{log}'/></serial><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<disk type='file'><driver type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>"""
# There is no udev: the port has its kernel's name. The agent ends a guest with the program "shutdown".
RUN = """#!/bin/sh
mkdir -p /var/run /tmp
while ! port=$(ls /dev/vport*p1 2>/dev/null); do sleep 1; done
mount -t ext4 /dev/vda /mnt
cd /ga && exec ./ld.so --library-path /ga ./qemu-ga -m virtio-serial -p $port -t /var/run
"""
SHUTDOWN = "#!/bin/sh\nsync\nexec /bin/busybox poweroff -f\n"


def make_initrd(folder):
    """The guest's initrd, with the agent and its libraries behind it."""
    root = f"{folder}/root"
    os.makedirs(root + "/ga")
    os.makedirs(root + "/sbin")
    shutil.copy(AGENT, root + "/ga/qemu-ga")
    for line in subprocess.run(["ldd", AGENT], check=True, capture_output=True, text=True).stdout.splitlines():
        path = re.search(r"(/\S+)", line)
        if path:
            name = "ld.so" if "ld-linux" in path[1] else os.path.basename(path[1])
            shutil.copy(path[1], f"{root}/ga/{name}")
    for name, text in (("ga/run", RUN), ("sbin/shutdown", SHUTDOWN)):
        with open(f"{root}/{name}", "w") as file:
            file.write(text)
        os.chmod(f"{root}/{name}", 0o755)
    initrd = f"{folder}/initrd"
    shutil.copy(GUESTS + "/initrd", initrd)
    with open(initrd, "ab") as file:
        file.write(b"\0" * (-os.path.getsize(initrd) % 4))
        file.flush()
        listing = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        file.write(subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=listing, check=True, capture_output=True).stdout)
    return initrd


class GuestAgent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "cpio", AGENT)
        folder = tempfile.TemporaryDirectory(prefix="agent-")
        cls.addClassCleanup(folder.cleanup)
        os.chmod(folder.name, 0o711)
        disk = f"{folder.name}/disk.raw"
        shutil.copy(GUESTS + "/disk.raw", disk)
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)
        xml = guest_xml("g", devices=DEVICES.format(log=cls.d.root + "/serial.log", disk=disk), append='atoll.run="sh /ga/run"')
        cls.d.define(xml.replace(f"{GUESTS}/initrd", make_initrd(folder.name)))
        cls.d.virsh("start", "g")

    def ping(self):
        done = subprocess.run(["virsh", "-c", self.d.uri, "qemu-agent-command", "g", '{"execute":"guest-ping"}'], capture_output=True, text=True,
                              timeout=managed.PATIENCE)
        return done.returncode == 0 and "return" in done.stdout

    def test_the_agent_answers_virsh(self):
        wait_until(self.ping, "the agent answers", 300)
        wait_until(lambda: "state='connected'" in self.d.virsh("dumpxml", "g"), "the channel is told to be open")
        self.assertRegex(self.d.virsh("domtime", "g"), r"Time: \d+")
        self.assertIn("guest", self.d.virsh("domhostname", "g", "--source", "agent"))
        self.assertRegex(self.d.virsh("domfsinfo", "g"), r"/mnt +vda +ext4 +vda")
        self.assertIn("Froze 1 filesystem", self.d.virsh("domfsfreeze", "g"))
        self.assertIn("Thawed 1 filesystem", self.d.virsh("domfsthaw", "g"))
        self.assertRegex(self.d.virsh("domifaddr", "g", "--source", "agent"), r"lo .*127\.0\.0\.1/8")
        self.assertRegex(self.d.virsh("guestinfo", "g", "--hostname", "--filesystem"), r"(?s)hostname *: guest.*fs\.0\.mountpoint *: /mnt")
        self.assertRegex(self.d.virsh("vcpucount", "g", "--guest"), r"^1\n")
        self.assertIn("unable to execute QEMU agent command 'guest-nonsense'", self.d.virsh("qemu-agent-command", "g", '{"execute":"guest-nonsense"}', fails=True))
        self.d.virsh("shutdown", "g", "--mode", "agent")
        wait_until(lambda: self.d.state("g") == "shut off", "the agent ends the guest")


if __name__ == "__main__":
    unittest.main()
