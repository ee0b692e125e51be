"""Snapshots and checkpoints through virsh: inside of images and beside them, taken, gone back to and deleted."""

import os
import re
import subprocess
import unittest

import managed
from managed import Managed, guest_xml

DISK = "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda'/></disk>"


def image_tool(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


class DomainSnapshots(unittest.TestCase):
    def setUp(self):
        managed.need("virsh", "qemu-img", "qemu-io", "virt-xml-validate")
        self.d = Managed()
        self.addCleanup(self.d.close)
        self.path = f"{self.d.root}/disk.qcow2"
        image_tool("qemu-img", "create", "-q", "-f", "qcow2", self.path, "8M")
        self.d.define(guest_xml("g", devices="<serial type='pty'/>" + DISK.format(path=self.path)))

    def source(self):
        return next(line.split()[1] for line in self.d.virsh("domblklist", "g").splitlines() if line.strip().startswith("vda"))

    def fill(self, byte):
        image_tool("qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 64k", self.source())

    def holds(self, byte):
        return "failed" not in image_tool("qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {byte} 0 64k", self.source())

    def validate(self, kind, *command):
        path = self.d.write("checked.xml", self.d.virsh(*command))
        done = subprocess.run(["virt-xml-validate", path, kind], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_snapshots_of_a_stopped_domain_are_inside_of_its_images(self):
        self.fill(1)
        self.d.virsh("snapshot-create-as", "g", "one")
        self.validate("domainsnapshot", "snapshot-dumpxml", "g", "one")
        self.assertIn("one", image_tool("qemu-img", "snapshot", "-l", self.path))
        self.assertEqual(self.d.virsh("snapshot-list", "g", "--internal", "--inactive", "--name").strip(), "one")
        self.fill(2)
        self.d.virsh("snapshot-revert", "g", "one")
        self.assertTrue(self.holds(1))
        self.assertEqual(self.d.virsh("domstate", "g", "--reason").strip(), "shut off (from snapshot)")
        self.d.virsh("start", "g")
        self.d.virsh("snapshot-revert", "g", "one", "--running")
        self.assertEqual(self.d.state("g"), "running")
        self.d.virsh("snapshot-delete", "g", "one")
        self.d.virsh("destroy", "g")
        self.assertNotIn("one", image_tool("qemu-img", "snapshot", "-l", self.path))

    def test_overlays_of_a_stopped_domain_are_merged_or_left_behind(self):
        self.d.virsh("snapshot-create-as", "g", "e1", "--disk-only")
        self.assertEqual(self.source(), f"{self.d.root}/disk.e1")
        self.fill(7)
        self.d.virsh("snapshot-create-as", "g", "e2", "--disk-only")
        self.d.virsh("snapshot-delete", "g", "e1")
        self.assertFalse(os.path.exists(f"{self.d.root}/disk.e1"))
        self.assertIn(f"backing file: {self.path}", image_tool("qemu-img", "info", self.source()))
        self.fill(8)
        self.d.virsh("snapshot-revert", "g", "e2")
        self.assertTrue(self.holds(7))
        self.d.virsh("snapshot-delete", "g", "e2")
        self.assertFalse(os.path.exists(f"{self.d.root}/disk.e2"))
        self.d.virsh("start", "g")
        self.assertEqual(self.d.state("g"), "running")

    def test_a_raw_disk_has_none_inside(self):
        raw = self.d.write("disk.raw", "\0" * 65536)
        self.d.define(guest_xml("r", devices=f"<disk type='file'><driver name='qemu' type='raw'/><source file='{raw}'/><target dev='vda'/></disk>"))
        self.assertIn("unsupported for storage type raw", self.d.virsh("snapshot-create", "r", fails=True))

    def test_checkpoints_record_writes_of_a_running_domain(self):
        self.assertIn("inactive domain", self.d.virsh("checkpoint-create-as", "g", "c0", fails=True))
        self.d.virsh("start", "g")
        self.d.virsh("checkpoint-create-as", "g", "c1", "--description", "words")
        self.d.virsh("checkpoint-create-as", "g", "c2")
        self.assertEqual(self.d.virsh("checkpoint-parent", "g", "c2").strip(), "c1")
        self.assertRegex(self.d.virsh("checkpoint-dumpxml", "g", "c1", "--size"), "bitmap='c1' size='0'")
        self.validate("domaincheckpoint", "checkpoint-dumpxml", "g", "c2", "--no-domain")
        self.assertEqual(re.findall(r"c\d", self.d.virsh("checkpoint-list", "g", "--topological", "--name")), ["c1", "c2"])
        self.d.virsh("checkpoint-delete", "g", "c1")
        self.assertIn("has no parent", self.d.virsh("checkpoint-parent", "g", "c2", fails=True))
        self.d.virsh("destroy", "g")
        self.assertIn("with 1 checkpoints", self.d.virsh("undefine", "g", fails=True))
        self.d.virsh("undefine", "g", "--checkpoints-metadata")


if __name__ == "__main__":
    unittest.main()
