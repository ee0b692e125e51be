"""Backups of running domains through virsh: into files and over NBD, whole and since a checkpoint."""

import os
import re
import signal
import subprocess
import unittest

import managed
from managed import Managed, guest_xml, wait_until

DISK = "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda'/></disk>"
CHECKPOINT = "<domaincheckpoint><name>{}</name></domaincheckpoint>"
PULL = """<domainbackup mode='pull'>{since}<server transport='unix' socket='{root}/nbd.sock'/>
<disks><disk name='vda' type='file'><scratch file='{root}/scratch'/></disk></disks></domainbackup>"""


def tool(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


class DomainBackup(unittest.TestCase):
    def setUp(self):
        managed.need("virsh", "qemu-img", "qemu-io", "nbdinfo", "virt-xml-validate")
        self.d = Managed()
        self.addCleanup(self.d.close)
        self.path = f"{self.d.root}/disk.qcow2"
        tool("qemu-img", "create", "-q", "-f", "qcow2", self.path, "8M")
        tool("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", self.path)
        self.d.define(guest_xml("g", devices="<serial type='pty'/>" + DISK.format(path=self.path), append="quiet"))
        self.d.virsh("start", "g")

    def begin(self, text, *more, **how):
        return self.d.virsh("backup-begin", "g", self.d.write("backup.xml", text), *more, **how)

    def guest_writes(self, byte, offset):
        """As the guest's driver would, through the VM's own node."""
        node = re.search(r"source file='[^']*disk.qcow2' index='(\d+)'", self.d.virsh("dumpxml", "g"))[1]
        self.d.virsh("qemu-monitor-command", "g", "--hmp", f"qemu-io libvirt-{node}-format \"write -P {byte} {offset} 64k\"")

    def ended(self):
        self.assertIn("no domain backup job present", wait_until(lambda: self.gone(), "the backup ends"))

    def gone(self):
        done = subprocess.run(["virsh", "-c", self.d.uri, "backup-dumpxml", "g"], capture_output=True, text=True, timeout=60)
        return done.returncode and done.stderr

    def holds(self, image, byte, offset):
        return "failed" not in tool("qemu-io", "-r", *(["-f", "raw"] if image.startswith("nbd") else []), "-c", f"read -P {byte} {offset} 64k", image)

    def test_a_whole_backup_is_a_file_beside_the_image(self):
        self.begin("<domainbackup/>")
        self.ended()
        copy = next(name for name in os.listdir(self.d.root) if name.startswith("disk.qcow2."))
        tool("qemu-img", "compare", "-U", self.path, f"{self.d.root}/{copy}")
        stats = self.d.virsh("domjobinfo", "g", "--completed")
        self.assertIn("Backup", stats)
        self.assertIn("8.000 MiB", stats)

    def test_an_incremental_backup_holds_what_was_written_since(self):
        self.d.virsh("checkpoint-create", "g", self.d.write("cp.xml", CHECKPOINT.format("one")))
        self.guest_writes(9, "2M")
        target = f"{self.d.root}/increment"
        self.begin(f"<domainbackup><incremental>one</incremental><disks><disk name='vda' type='file'><target file='{target}'/></disk></disks></domainbackup>")
        self.ended()
        self.assertTrue(self.holds(target, 9, "2M"))
        self.assertTrue(self.holds(target, 0, 0))  # what was there before is not in it

    def test_a_client_pulls_the_moment_of_the_beginning(self):
        self.d.virsh("checkpoint-create", "g", self.d.write("cp.xml", CHECKPOINT.format("one")))
        self.guest_writes(9, "2M")
        self.begin(PULL.format(root=self.d.root, since="<incremental>one</incremental>"), self.d.write("cp2.xml", CHECKPOINT.format("two")))
        self.guest_writes(5, 0)
        text = self.d.virsh("backup-dumpxml", "g")
        self.assertIn("exportname='vda'", text)
        checked = self.d.write("checked.xml", re.sub(r" index='\d+'", "", text))  # the schema does not know what libvirt shows
        done = subprocess.run(["virt-xml-validate", checked, "domainbackup"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        uri = f"nbd+unix:///vda?socket={self.d.root}/nbd.sock"
        self.assertTrue(self.holds(uri, 7, 0))
        self.assertTrue(self.holds(uri, 9, "2M"))
        self.assertRegex(tool("nbdinfo", "--map=qemu:dirty-bitmap:backup-vda", uri), r"2097152 +65536 +1 ")
        self.assertEqual(self.d.virsh("checkpoint-list", "g", "--name").split(), ["one", "two"])
        self.assertIn("held by a backup", self.begin(PULL.format(root=self.d.root, since=""), fails=True))
        self.d.virsh("domjobabort", "g")
        self.ended()
        self.assertFalse(os.path.lexists(f"{self.d.root}/nbd.sock"))
        self.assertFalse(os.path.exists(f"{self.d.root}/scratch"))
        self.assertTrue(self.holds_now(5))

    def holds_now(self, byte):
        node = re.search(r"source file='[^']*disk.qcow2' index='(\d+)'", self.d.virsh("dumpxml", "g"))[1]
        return "failed" not in self.d.virsh("qemu-monitor-command", "g", "--hmp", f"qemu-io libvirt-{node}-format \"read -P {byte} 0 64k\"")

    def test_a_backup_outlives_the_daemon_and_ends_with_the_vm(self):
        self.begin(PULL.format(root=self.d.root, since=""))
        self.d.kill(signal.SIGKILL)
        self.d.start()
        wait_until(lambda: self.d.state("g") == "running", "the daemon finds its VM")
        self.assertIn("<domainbackup mode='pull'>", self.d.virsh("backup-dumpxml", "g"))
        self.d.virsh("destroy", "g")
        self.assertFalse(os.path.lexists(f"{self.d.root}/nbd.sock"))
        self.assertFalse(os.path.exists(f"{self.d.root}/scratch"))

    def test_what_cannot_be_is_refused_and_leaves_nothing_behind(self):
        before = sorted(os.listdir(self.d.root))
        disk = "<domainbackup><disks><disk name='vda' type='file'><target file='{}'/></disk></disks></domainbackup>"
        for text, why in ((disk.format(self.path), "exists"), (disk.format("/nosuch/x"), "failed to create image file '/nosuch/x'"),
                          ("<domainbackup><incremental>never</incremental></domainbackup>", "Checkpoint 'never' for incremental backup of disk 'vda' not found"),
                          ("<domainbackup mode='pull'/>", "needs its <server>"), ("<domainbackup><disks><disk name='vdz'/></disks></domainbackup>", "no disk named 'vdz'")):
            with self.subTest(why=why):
                self.assertIn(why, self.begin(text, fails=True))
        os.unlink(f"{self.d.root}/backup.xml")
        self.assertEqual(sorted(os.listdir(self.d.root)), before)
        self.d.virsh("destroy", "g")
        self.assertIn("cannot perform disk backup for inactive domain", self.begin("<domainbackup/>", fails=True))


if __name__ == "__main__":
    unittest.main()
