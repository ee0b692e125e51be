"""Limits, dumps, TPMs and late devices of domains through virsh, looked up where the host keeps them."""

import glob
import os
import subprocess
import unittest

import managed
from managed import Managed, guest_xml, wait_until

CARD = "<interface type='ethernet'><mac address='52:54:00:22:22:22'/><model type='virtio'/></interface>"
DISK = "<disk type='file'><source file='{path}'/><target dev='{target}'/></disk>"
CD = "<disk type='file' device='cdrom'>{source}<target dev='hdc'/></disk>"


class DomainTuning(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("virsh", "tc", "unshare", "nsenter")
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            raise unittest.SkipTest("makes tap devices")
        cls.d = Managed(prefix=["unshare", "-n"])  # its taps are nobody else's
        cls.addClassCleanup(cls.d.close)
        cls.d.define(guest_xml("g", devices="<serial type='pty'/>" + CARD + CD.format(source="")))
        cls.d.virsh("start", "g")

    def group_file(self, name, part):
        """What the kernel has for a part of the VM; None where there is no such controller."""
        identity = self.d.virsh("domid", "g").strip()
        for top in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"):
            for path in glob.glob(f"{top}/atoll/{identity}-g-*/{part}/{name}"):
                with open(path) as file:
                    return file.read().strip()
        return None

    def test_quotas_reach_the_kernel_and_are_read_back(self):
        self.d.virsh("schedinfo", "g", "--live", "--set", "vcpu_quota=50000", "--set", "vcpu_period=200000", "--set", "emulator_quota=90000")
        told = dict(line.split(":") for line in self.d.virsh("schedinfo", "g").replace(" ", "").split())
        self.assertEqual((told["vcpu_quota"], told["vcpu_period"], told["emulator_quota"]), ("50000", "200000", "90000"))
        if (quota := self.group_file("cpu.cfs_quota_us", "vcpu0")) is not None:
            self.assertEqual((quota, self.group_file("cpu.cfs_period_us", "vcpu0")), ("50000", "200000"))
        elif (limits := self.group_file("cpu.max", "vcpu0")) is not None:
            self.assertEqual(limits, "50000 200000")
        self.d.virsh("schedinfo", "g", "--config", "--set", "iothread_quota=5000")
        self.assertIn("<iothread_quota>5000</iothread_quota>", self.d.virsh("dumpxml", "--inactive", "g"))
        self.assertIn("out of range [1000, 1000000]", self.d.virsh("schedinfo", "g", "--set", "vcpu_period=1", fails=True))

    def test_a_cards_bandwidth_is_shaped_while_it_runs(self):
        self.d.virsh("domiftune", "g", "52:54:00:22:22:22", "--inbound", "1000,1001,1002")  # not every kernel can police
        told = dict(line.split(":") for line in self.d.virsh("domiftune", "g", "52:54:00:22:22:22").replace(" ", "").split())
        self.assertEqual((told["inbound.average"], told["inbound.burst"]), ("1000", "1002"))
        tap = next(line.split()[0] for line in self.d.virsh("domiflist", "g").splitlines() if "52:54:00" in line)
        shaped = subprocess.run(["nsenter", "-t", str(self.d.process.pid), "-n", "tc", "class", "show", "dev", tap], capture_output=True,
                                text=True, timeout=60).stdout
        self.assertRegex(shaped, "htb .*rate 8192Kbit")
        self.d.virsh("domiftune", "g", tap, "--inbound", "0")
        self.assertNotIn("<bandwidth>", self.d.virsh("dumpxml", "g"))

    def test_the_memory_is_dumped_and_looked_at(self):
        core = f"{self.d.root}/core"
        self.d.virsh("dump", "g", core, "--memory-only")
        with open(core, "rb") as file:
            self.assertEqual(file.read(4), b"\x7fELF")
        self.assertGreater(os.path.getsize(core), 100 << 20)
        self.assertIn("Completed", self.d.virsh("domjobinfo", "g", "--completed"))
        self.assertEqual(self.d.state("g"), "running")
        words = self.d.virsh("dump", "g", core, "--memory-only", "--format", "kdump-zlib", fails=True)
        self.assertIn("unsupported dumpformat 'kdump-zlib'", words)

    def test_disks_of_one_bus_stand_in_order_and_bring_their_controller(self):
        for target in ("sdb", "vdb", "sda", "vda"):
            path = f"{self.d.root}/{target}.img"
            with open(path, "wb") as file:
                file.truncate(1 << 20)
            self.d.virsh("attach-device", "g", self.d.write("disk.xml", DISK.format(path=path, target=target)))
        targets = [line.split()[0] for line in self.d.virsh("domblklist", "g").splitlines()[2:] if line.strip()]
        self.assertEqual([t for t in targets if t.startswith("sd")], ["sda", "sdb"])
        self.assertEqual([t for t in targets if t.startswith("vd")], ["vda", "vdb"])
        self.assertIn("model='virtio-scsi'", self.d.virsh("dumpxml", "g"))

    def test_a_disk_attached_to_a_drive_is_its_medium(self):
        path = f"{self.d.root}/cd.iso"
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        self.d.virsh("attach-device", "g", self.d.write("cd.xml", CD.format(source=f"<source file='{path}'/>")))
        self.assertIn(path, self.d.virsh("domblklist", "g"))
        self.d.virsh("attach-device", "g", self.d.write("cd.xml", CD.format(source="")))
        self.assertNotIn(path, self.d.virsh("domblklist", "g"))

    def test_statistics_of_the_memory_may_be_asked_for_later(self):
        self.d.virsh("dommemstat", "g", "--period", "3", "--live")
        self.assertIn("<stats period='3'/>", self.d.virsh("dumpxml", "g"))

    def test_io_threads_come_run_where_they_are_told_and_go(self):
        self.d.virsh("iothreadadd", "g", "2", "--live", "--config")
        self.assertIn("an IOThread is already using iothread_id '2'", self.d.virsh("iothreadadd", "g", "2", fails=True))
        self.d.virsh("iothreadpin", "g", "2", "0")
        with open(f"{self.threads()['IO iothread2']}/status") as file:
            self.assertIn("Cpus_allowed_list:\t0\n", file.read())
        self.assertRegex(self.d.virsh("iothreadinfo", "g"), r"2 +0\n")
        path = f"{self.d.root}/io.raw"
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        disk = DISK.format(path=path, target="vdq").replace("<source", "<driver name='qemu' iothread='2'/><source")
        self.d.virsh("attach-device", "g", self.d.write("io.xml", disk))
        self.assertIn("it is being used by disk 'vdq'", self.d.virsh("iothreaddel", "g", "2", fails=True))
        self.d.virsh("iothreadadd", "g", "5")
        self.d.virsh("iothreaddel", "g", "5")
        self.assertNotIn("IO iothread5", self.threads())
        self.assertIn("cannot find IOThread '5'", self.d.virsh("iothreaddel", "g", "5", fails=True))

    def threads(self):
        """The VM's, by name."""
        found = {}
        task = f"/proc/{self.d.vm_pids()[0]}/task"
        for number in os.listdir(task):
            with open(f"{task}/{number}/comm") as file:
                found[file.read().strip()] = f"{task}/{number}"
        return found


class DomainTpm(unittest.TestCase):
    def test_a_tpm_lives_with_its_definition(self):
        managed.need("virsh", "swtpm", "virt-xml-validate")
        d = Managed()
        self.addCleanup(d.close)
        d.define(guest_xml("t", devices="<serial type='pty'/><tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>"))
        checked = subprocess.run(["virt-xml-validate", d.write("t.xml", d.virsh("dumpxml", "t")), "domain"], capture_output=True, timeout=60)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        d.virsh("start", "t")
        state = f"{d.root}/lib/swtpm/{d.virsh('domuuid', 't').strip()}"
        wait_until(lambda: os.path.exists(state + "/tpm2/tpm2-00.permall"), "the TPM has its state")
        d.virsh("destroy", "t")
        d.virsh("start", "t")
        d.virsh("destroy", "t")
        d.virsh("undefine", "t")
        self.assertFalse(os.path.exists(state))


if __name__ == "__main__":
    unittest.main()
