"""Disks of running domains through virsh: snapshots, jobs, limits. And what python3-libvirt is told meanwhile."""

import subprocess
import unittest

import managed
from managed import Managed, guest_xml, wait_until

DISK = "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda'/></disk>"

# Prints the lifecycle events of one domain as they come, until its end.
LISTENER = """
import libvirt, sys, threading
libvirt.virEventRegisterDefaultImpl()
connection = libvirt.open(sys.argv[1])
ended = threading.Event()
def told(connection, domain, event, detail, _):
    print(event, detail, flush=True)
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        ended.set()
connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, told, None)
print("listening", flush=True)
while not ended.is_set():
    libvirt.virEventRunDefaultImpl()
"""


class DomainDisks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "qemu-img")
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)
        # One domain for all of them: they follow its disk.
        cls.path = f"{cls.d.root}/disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", cls.path, "8M"], check=True, timeout=60)
        cls.d.define(guest_xml("g", devices="<serial type='pty'/>" + DISK.format(path=cls.path)))
        cls.d.virsh("start", "g")

    def source(self):
        return next(line.split()[1] for line in self.d.virsh("domblklist", "g").splitlines() if line.strip().startswith("vda"))

    def test_a_snapshot_is_committed_back_and_the_disk_copied_away(self):
        self.d.virsh("snapshot-create-as", "g", "s1", "--disk-only", "--no-metadata")
        overlay = f"{self.d.root}/disk.s1"
        self.assertEqual(self.source(), overlay)
        info = subprocess.run(["qemu-img", "info", "-U", overlay], capture_output=True, text=True, timeout=60).stdout
        self.assertIn("backing file: " + self.path, info)
        self.d.virsh("blockcommit", "g", "vda", "--active", "--pivot")
        self.assertEqual(self.source(), self.path)
        copy = f"{self.d.root}/copy.qcow2"
        self.d.virsh("blockcopy", "g", "vda", copy, "--wait", "--pivot", "--transient-job")
        self.assertEqual(self.source(), copy)
        self.assertIn(copy, self.d.virsh("domblklist", "g", "--inactive"))

    def test_snapshots_have_records_and_deleting_one_merges_it(self):
        before = self.source()
        self.d.virsh("snapshot-create-as", "g", "first", "--disk-only", "--description", "words")
        self.d.virsh("snapshot-create-as", "g", "second", "--disk-only")
        self.assertEqual(self.d.virsh("snapshot-list", "g", "--name").split(), ["first", "second"])
        self.assertEqual(self.d.virsh("snapshot-parent", "g", "second").strip(), "first")
        self.assertIn("<description>words<", self.d.virsh("snapshot-dumpxml", "g", "first"))
        overlay = self.source()
        self.d.virsh("snapshot-delete", "g", "second")
        self.assertNotEqual(self.source(), overlay)
        self.d.virsh("snapshot-delete", "g", "first")
        self.assertEqual(self.source(), before)
        self.assertEqual(self.d.virsh("snapshot-list", "g", "--name").strip(), "")

    def test_limits_of_a_disk_are_read_back(self):
        self.d.virsh("blkdeviotune", "g", "vda", "--total-iops-sec", "100", "--live", "--config")
        self.assertRegex(self.d.virsh("blkdeviotune", "g", "vda"), r"total_iops_sec *: 100")
        self.assertIn("<total_iops_sec>100<", self.d.virsh("dumpxml", "--inactive", "g"))

    def test_the_screen_is_refused_by_name_where_there_is_none(self):
        self.assertIn("error", self.d.virsh("screenshot", "g", f"{self.d.root}/screen.png", fails=True))

    def test_events_come_in_the_order_that_clients_know(self):
        python = "/usr/bin/python3"  # Debian's, which has its modules
        if subprocess.run([python, "-c", "import libvirt"], stderr=subprocess.DEVNULL, timeout=60).returncode:
            self.skipTest("python3-libvirt is not installed")
        listener = subprocess.Popen([python, "-c", LISTENER, self.d.uri], stdout=subprocess.PIPE, text=True)
        self.addCleanup(listener.stdout.close)
        self.addCleanup(listener.wait)
        self.addCleanup(listener.kill)
        self.assertEqual(listener.stdout.readline().strip(), "listening")
        path = self.d.write("e.xml", guest_xml("e"))
        self.d.virsh("create", path)
        self.d.virsh("destroy", "e")
        heard = [listener.stdout.readline().strip() for _ in range(4)]
        self.assertEqual(heard, ["4 0", "2 0", "6 2", "5 1"])  # resumed, started; shut down by the host, stopped
        wait_until(lambda: "e" not in self.d.virsh("list", "--all", "--name").split(), "a transient domain is gone")

    def test_what_is_not_there_has_libvirts_words(self):
        self.assertIn("not supported by the connection driver", self.d.virsh("managedsave", "g", fails=True))
        self.assertIn("failed to get domain 'nobody'", self.d.virsh("start", "nobody", fails=True))
        self.assertIn("already active", self.d.virsh("start", "g", fails=True))


if __name__ == "__main__":
    unittest.main()
