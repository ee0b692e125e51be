"""What python3-libvirt is told while a domain is worked on."""

import re
import socket
import subprocess
import unittest

import managed
from managed import Managed, guest_xml

PYTHON = "/usr/bin/python3"  # Debian's, which has its modules

# Prints a line for each event: its name, and what it holds.
LISTENER = """
import libvirt, sys
libvirt.virEventRegisterDefaultImpl()
connection = libvirt.open(sys.argv[1])
def told(connection, domain, *rest):
    print(rest[-1], *rest[:-1], flush=True)
for name in ("LIFECYCLE", "REBOOT", "GRAPHICS", "TRAY_CHANGE", "BALLOON_CHANGE", "DEVICE_ADDED", "DEVICE_REMOVED", "TUNABLE", "AGENT_LIFECYCLE",
             "JOB_COMPLETED", "METADATA_CHANGE", "BLOCK_JOB_2"):
    connection.domainEventRegisterAny(None, getattr(libvirt, "VIR_DOMAIN_EVENT_ID_" + name), told, name)
print("listening", flush=True)
while True:
    libvirt.virEventRunDefaultImpl()
"""
DEVICES = """<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' port='-1' listen='127.0.0.1'/><disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>"""


class DomainEvents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "qemu-img")
        if subprocess.run([PYTHON, "-c", "import libvirt"], stderr=subprocess.DEVNULL, timeout=60).returncode:
            raise unittest.SkipTest("python3-libvirt is not installed")
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)
        cls.listener = subprocess.Popen([PYTHON, "-c", LISTENER, cls.d.uri], stdout=subprocess.PIPE, text=True)
        for clean in (cls.listener.stdout.close, cls.listener.wait, cls.listener.kill):
            cls.addClassCleanup(clean)
        assert cls.listener.stdout.readline().strip() == "listening"
        cls.d.define(guest_xml("g", devices=DEVICES))
        cls.d.virsh("start", "g")

    def hear(self, pattern):
        """Reads on to the event that matches; what comes before it is other tests'."""
        for line in self.listener.stdout:
            if re.search(pattern, line):
                return
        self.fail(f"the listener ended before {pattern}")

    def test_a_start_tells_of_the_agent_and_the_life(self):
        self.d.define(guest_xml("s", devices=DEVICES))
        self.d.virsh("start", "s")
        for pattern in (r"LIFECYCLE 0 0", r"AGENT_LIFECYCLE 2 1", r"LIFECYCLE 2 0"):  # disconnected, as the domain starts
            self.hear(pattern)
        self.assertIn("state='disconnected'", self.d.virsh("dumpxml", "s"))
        self.assertNotIn("state='disconnected'", self.d.virsh("dumpxml", "--inactive", "s"))
        self.d.virsh("destroy", "s")
        self.hear("LIFECYCLE 5 1")

    def test_changes_are_told(self):
        path = f"{self.d.root}/a.img"
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        self.d.virsh("schedinfo", "g", "--live", "--set", "cpu_shares=500")
        self.hear(r"TUNABLE \{'cputune.cpu_shares': 500\}")
        self.d.virsh("desc", "g", "--live", "--title", "--new-desc", "words")
        self.hear("METADATA_CHANGE 1")
        self.d.virsh("attach-device", "g", self.d.write("a.xml", f"<disk type='file'><source file='{path}'/><target dev='vda'/></disk>"))
        self.hear("DEVICE_ADDED virtio-disk0")
        self.d.virsh("dump", "g", f"{self.d.root}/core", "--memory-only")
        self.hear("JOB_COMPLETED .*'operation': 8")
        self.d.virsh("change-media", "g", "hdc", path.replace("a.img", "core"), "--insert")
        self.hear("TRAY_CHANGE ide0-1-0 1")
        self.d.virsh("reset", "g")
        self.hear("REBOOT")

    def test_viewers_come_and_go(self):
        port = 5900 + int(self.d.virsh("vncdisplay", "g").strip().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as viewer:
            self.assertTrue(viewer.recv(12).startswith(b"RFB"))
            self.hear(rf"GRAPHICS 0 .*'service': '{port}'")
        self.hear("GRAPHICS 2")


if __name__ == "__main__":
    unittest.main()
