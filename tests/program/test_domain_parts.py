"""Parts of domains that the guest or a client sees: NUMA cells, floppy drives, a watchdog that leads to a dump, the monitor's events."""

import glob
import os
import subprocess
import unittest

import managed
from guest import GUESTS
from managed import Managed, wait_until

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>256</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{guests}/vmlinuz{suffix}</kernel><initrd>{guests}/initrd{suffix}</initrd>
<cmdline>console=ttyS0 quiet panic=-1 atoll.run="{command}"</cmdline></os><features><acpi/>{features}</features>{cpu}
<devices><controller type='usb' model='none'/><serial type='file'><source path='{serial}'/></serial>{devices}</devices></domain>"""
CELLS = """<cpu mode='maximum'><numa><cell cpus='0' memory='131072'><distances><sibling id='1' value='20'/></distances></cell>
<cell cpus='1' memory='131072'/></numa></cpu>"""
FLOPPY = "<disk type='file' device='floppy'><source file='{path}'/><target dev='fda'/></disk>"


class DomainParts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh")
        cls.d = Managed()
        cls.addClassCleanup(cls.d.close)

    def start(self, name, command, suffix="", cpu="<cpu mode='maximum'/>", devices="", features=""):
        if not os.path.exists(f"{GUESTS}/vmlinuz{suffix}"):
            self.skipTest(f"no vmlinuz{suffix}")
        serial = self.d.write(f"{name}.serial", "")
        self.d.define(DOMAIN.format(name=name, guests=GUESTS, suffix=suffix, command=command, cpu=cpu, devices=devices, features=features, serial=serial))
        self.d.virsh("start", name)
        self.addCleanup(subprocess.run, ["virsh", "-c", self.d.uri, "destroy", name], capture_output=True, timeout=managed.PATIENCE)
        return serial

    def said(self, serial, text):
        def look():
            with open(serial, errors="replace") as file:
                said = file.read().replace("\r", "")
            return said if text in said else None
        return wait_until(look, f"the guest says {text!r}")

    def floppy(self, name, text):
        path = f"{self.d.root}/{name}"
        with open(path, "wb") as file:
            file.write(text)
            file.truncate(1474560)
        return path

    def test_the_guest_has_its_cells(self):
        serial = self.start("cells", "cat /sys/devices/system/node/node*/cpulist /sys/devices/system/node/node1/distance; sleep 1000", cpu=CELLS)
        self.said(serial, "0\n1\n20 10\n")

    def test_a_floppy_is_read_and_changed(self):
        first, second = self.floppy("a.img", b"first medium"), self.floppy("b.img", b"other medium")
        serial = self.start("floppy", "while true; do head -c 12 /dev/fd0; echo; sleep 1; done", "-drivers", devices=FLOPPY.format(path=first))
        self.said(serial, "first medium")
        self.d.virsh("change-media", "floppy", "fda", second, "--update")
        self.said(serial, "other medium")
        self.assertIn("cannot be detached", self.d.virsh("detach-disk", "floppy", "fda", fails=True))

    def test_a_watchdog_dumps_and_the_guest_goes_on(self):
        serial = self.start("dog", "watchdog -T 4 -t 3600 /dev/watchdog; while true; do echo alive; sleep 1; done", "-drivers",
                            devices="<watchdog model='i6300esb' action='dump'/>")
        folder = f"{self.d.root}/lib/dump"
        wait_until(lambda: os.path.isdir(folder) and any(name.startswith("dog-")
                   for name in os.listdir(folder)), "there is a dump")
        wait_until(lambda: self.d.state("dog") == "running", "the guest goes on")
        self.said(serial, "alive")

    def test_the_monitors_events_come_as_they_are_asked_for(self):
        self.start("told", "sleep 1000")
        self.start("silent", "sleep 1000")
        client = subprocess.Popen(["virsh", "-c", self.d.uri, "qemu-monitor-event", "told", "--event", "^res.*e$", "--regex", "--no-case",
                                   "--timeout", "60"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)

        def come_and_go():
            for name in ("silent", "told"):
                self.d.virsh("suspend", name)
                self.d.virsh("resume", name)
            return client.poll() is not None
        wait_until(come_and_go, "the event came")
        said = client.stdout.read()
        self.assertIn("event RESUME at ", said)
        self.assertIn("for domain 'told'", said)
        self.assertIn("failed to compile regex", self.d.virsh("qemu-monitor-event", "--event", "(", "--regex", "--timeout", "1", fails=True))

    def test_a_stored_device_goes_by_its_alias(self):
        path = self.floppy("c.img", b"")
        self.d.define(DOMAIN.format(name="stored", guests=GUESTS, suffix="", command="", cpu="", features="", serial="/dev/null",
                                    devices=f"<disk><source file='{path}'/><target dev='vda'/><alias name='ua-mine'/></disk>"))
        self.d.virsh("detach-device-alias", "stored", "ua-mine", "--config")
        self.assertNotIn("ua-mine", self.d.virsh("dumpxml", "stored"))
        self.assertIn("no device found with alias ua-mine", self.d.virsh("detach-device-alias", "stored", "ua-mine", "--config", fails=True))

    def test_a_port_is_logged_and_some_vcpus_are_not_there(self):
        log = f"{self.d.root}/port.log"
        self.d.define(DOMAIN.format(name="logged", guests=GUESTS, suffix="", command="echo cpus: $(nproc); sleep 1000", cpu="<cpu mode='maximum'/>",
                                    features="", serial="/dev/null", devices="").replace("<vcpu>2</vcpu>", "<vcpu current='1'>4</vcpu>")
                      .replace("<serial type='file'><source path='/dev/null'/>", f"<serial type='pty'><log file='{log}' append='off'/>"))
        self.d.virsh("start", "logged")
        self.addCleanup(subprocess.run, ["virsh", "-c", self.d.uri, "destroy", "logged"], capture_output=True, timeout=managed.PATIENCE)
        self.said(log, "cpus: 1")
        self.assertIn(f"<log file='{log}' append='off'/>", self.d.virsh("dumpxml", "logged").split("<console")[1])
        self.assertRegex(self.d.virsh("vcpucount", "logged"), r"maximum +live +4\ncurrent +config +1\ncurrent +live +1")

    def test_what_a_killed_daemon_left_of_a_start_goes(self):
        self.start("stays", "sleep 1000")
        groups = glob.glob(f"/sys/fs/cgroup/*/atoll/{self.d.virsh('domid', 'stays').strip()}-stays-*")
        self.d.kill()
        os.makedirs(f"{self.d.root}/run/vm/77-ghost")
        ghost = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(ghost.wait)
        self.addCleanup(ghost.kill)
        orphans = [os.path.join(os.path.dirname(path), f"77-ghost-{path.rsplit('-', 1)[1]}") for path in groups if "/blkio/" in path]
        for path in orphans:
            os.makedirs(path)
            with open(path + "/cgroup.procs", "w") as file:
                file.write(str(ghost.pid))
        self.d.start()
        self.assertFalse(os.path.exists(f"{self.d.root}/run/vm/77-ghost"))
        if orphans:
            wait_until(lambda: ghost.poll() is not None, "the VM that nobody knows of ends")
            self.assertFalse(os.path.exists(orphans[0]))
        self.assertEqual(self.d.state("stays"), "running")

    def test_hidden_kvm_hides_it(self):
        serial = self.start("hidden", "dmesg | grep -c -i kvm; echo done; sleep 1000", features="<kvm><hidden state='on'/></kvm>")
        self.said(serial, "done")
        self.assertIn("kvm=off", self.d.virsh("domxml-to-native", "qemu-argv", "--domain", "hidden"))

    def test_what_cannot_be_is_said_in_libvirts_words(self):
        self.start("strict", "sleep 1000", devices=f"<disk><source file='{self.floppy('d.img', b'')}'/><target dev='vda'/></disk>")
        for words, text in ((("snapshot-create-as", "strict", "a/b", "--disk-only"), "invalid snapshot name 'a/b'"),
                            (("snapshot-create-as", "strict", "s", "--quiesce"), "is required by flag 'VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE'"),
                            (("snapshot-create-as", "strict", "s", "--live", "--disk-only"), "only during full system snapshots"),
                            (("snapshot-create-as", "strict", "s", "--disk-only", "--memspec", "file=/x"), "memory state cannot be saved"),
                            (("snapshot-create-as", "strict", "s", "--disk-only", "--diskspec", "nosuch"), "no disk named 'nosuch'"),
                            (("blkdeviotune", "strict", "vda", "--total-bytes-sec", "5", "--read-bytes-sec", "5"), "total and read/write of bytes_sec"),
                            (("blkdeviotune", "strict", "vda", "--total-bytes-sec", "5", "--total-bytes-sec-max", "4"), "cannot be smaller than"),
                            (("blockcommit", "strict", "vda", "--top", "vda[9]"), "could not find backing store index '9'"),
                            (("blockpull", "strict", "vda", "--bandwidth", "8796093022208"), "bandwidth must be less than 8796093022207"),
                            (("blockcopy", "strict", "vda", "/x", "--granularity", "5", "--transient-job"), "granularity must be power of 2"),
                            (("domdirtyrate-calc", "strict", "--seconds", "0"), "please choose value within [1, 60]"),
                            (("domjobabort", "strict", "--postcopy"), "not outgoing migration in post-copy mode"),
                            (("domcapabilities", "--emulatorbin", "/nosuch"), "Cannot check QEMU binary /nosuch"),
                            (("numatune", "strict", "--nodeset", "x", "--config"), "Failed to parse bitmap 'x'"),
                            (("pool-define-as", "p", "gluster", "--source-host", "h", "--source-name", "v"), "missing backend for pool type 11 (gluster)")):
            with self.subTest(words=words):
                self.assertIn(text, self.d.virsh(*words, fails=True))


if __name__ == "__main__":
    unittest.main()
