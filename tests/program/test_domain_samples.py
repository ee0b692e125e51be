"""Definitions as libvirt's users have them: what virt-install composes for many systems is defined, validates against libvirt's schema, comes
back the same when it is defined again, and starts."""

import os
import subprocess
import unittest

import managed
from managed import Managed

# As Debian 12's list of systems calls them.
SYSTEMS = ("debian11", "rhel9.0", "centos7.0", "freebsd13.1", "win10", "generic")
MORE = (("--boot", "uefi"), ("--machine", "pc"), ("--cpu", "host-passthrough"), ("--watchdog", "i6300esb,action=poweroff"), ("--panic", "default"),
        ("--iothreads", "2"),
        ("--controller", "scsi,model=virtio-scsi", "--disk", "{root}/disk2.raw,format=raw,bus=scsi"), ("--input", "tablet,bus=virtio"),
        ("--sysinfo", "system.serial=abc"), ("--boot", "menu=on,useserial=on"), ("--video", "vga"))


class Samples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "virt-install", "virt-xml-validate")
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)
        for name in ("disk.raw", "disk2.raw"):
            with open(f"{cls.d.root}/{name}", "wb") as file:
                file.truncate(1 << 20)

    def compose(self, system, *more):
        words = ["virt-install", "--connect", self.d.uri, "--virt-type", "qemu", "--name", "sample", "--memory", "64", "--vcpus", "2", "--import",
                 "--disk", f"path={self.d.root}/disk.raw,format=raw", "--network", "user", "--graphics", "vnc", "--noautoconsole", "--osinfo", system,
                 "--check", "all=off", "--print-xml", "1", *[word.format(root=self.d.root) for word in more]]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=managed.PATIENCE,
                              env={**os.environ, "HOME": self.d.root})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def check(self, xml):
        self.addCleanup(self.forget)
        self.forget()
        self.d.define(xml)
        stored = self.d.virsh("dumpxml", "sample")
        path = self.d.write("stored.xml", stored)
        done = subprocess.run(["virt-xml-validate", path, "domain"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + stored)
        self.d.define(stored)
        self.assertEqual(self.d.virsh("dumpxml", "sample"), stored)
        self.d.virsh("start", "sample")
        running = self.d.write("running.xml", self.d.virsh("dumpxml", "sample"))
        done = subprocess.run(["virt-xml-validate", running, "domain"], capture_output=True, text=True, timeout=60)
        self.d.virsh("destroy", "sample")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def forget(self):
        subprocess.run(["virsh", "-c", self.d.uri, "destroy", "sample"], capture_output=True, timeout=60)
        subprocess.run(["virsh", "-c", self.d.uri, "undefine", "--nvram", "sample"], capture_output=True, timeout=60)

    def test_every_system(self):
        for system in SYSTEMS:
            with self.subTest(system=system):
                self.check(self.compose(system))

    def test_every_option(self):
        for more in MORE:
            with self.subTest(more=more):
                self.check(self.compose("debian11", *more))


if __name__ == "__main__":
    unittest.main()
