"""Debian's libvirtd with atoll-vmm as the emulator of its domains: what it asks before it trusts a program, and a VM's day by virsh.

Not part of every run (scripts/test-long has it): it takes libvirtd with its QEMU driver.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

import managed
from guest import BUILD, GUESTS, VMM
from libvirtd import Libvirtd
from managed import wait_until

IMG = BUILD + "/bin/atoll-img"
MORE_DISK = "<disk type='file'><driver name='qemu' type='raw'/><source file='{path}'/><target dev='vdb' bus='virtio'/></disk>"
MORE_CARD = "<interface type='user'><mac address='52:54:00:00:00:77'/><model type='virtio'/></interface>"


@unittest.skipUnless(os.geteuid() == 0, "needs a mount namespace")
class UnderLibvirtd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        managed.need("/usr/sbin/libvirtd", "virsh", "virt-install", "unshare")
        cls.daemon = Libvirtd()
        cls.addClassCleanup(cls.daemon.close)
        folder = tempfile.TemporaryDirectory(prefix="libvirtd-vm-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)

    def virsh(self, *words, fails=False):
        done = subprocess.run(["virsh", "-c", self.daemon.uri, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=managed.PATIENCE)
        self.assertEqual(done.returncode != 0, fails, f"virsh {words}\n{done.stdout}{done.stderr}\n{self.daemon.said()}")
        return done.stdout + done.stderr

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def image(self, name, *options):
        subprocess.run([IMG, "create", "-q", *options, str(self.folder / name), "64M"], check=True, timeout=60)
        return str(self.folder / name)

    def install(self, machine):
        """A domain as virt-install describes it, started, with its kernel's first words on the serial port."""
        disk = self.image(f"{machine}.qcow2", "-f", "qcow2")
        kernel = f"kernel={GUESTS}/vmlinuz,initrd={GUESTS}/initrd,kernel_args=console=ttyS0"
        done = subprocess.run(
            ["virt-install", "--connect", self.daemon.uri, "--virt-type", "qemu", "--machine", machine, "--name", machine, "--memory", "256",
             "--vcpus", "2", "--import", "--disk", f"path={disk},format=qcow2,bus=virtio", "--network", "user,model=virtio", "--graphics", "vnc",
             "--boot", f"emulator={VMM},{kernel}", "--osinfo", "generic", "--serial", f"file,path={self.folder}/{machine}.serial",
             "--channel", "unix,target_type=virtio,name=org.qemu.guest_agent.0", "--input", "tablet,bus=usb", "--rng", "/dev/urandom",
             "--memballoon", "virtio", "--noautoconsole", "--print-xml"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=managed.PATIENCE, env={**os.environ, "HOME": str(self.folder)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.virsh("define", self.write(f"{machine}.xml", done.stdout))
        self.virsh("start", machine)
        self.addCleanup(subprocess.run, ["virsh", "-c", self.daemon.uri, "destroy", machine], capture_output=True, timeout=managed.PATIENCE)
        wait_until(lambda: "Welcome to the Atoll guest" in self.serial(machine), "the guest has started")

    def serial(self, machine):
        path = self.folder / f"{machine}.serial"
        return path.read_text(errors="replace") if path.exists() else ""

    def test_capabilities_are_those_of_a_hypervisor(self):
        text = self.virsh("domcapabilities", "--emulatorbin", VMM, "--virttype", "qemu")
        for word in ("<value>virtio</value>", "<value>vnc</value>", "<value>pflash</value>", "<machine>pc-i440fx-7.2</machine>"):
            self.assertIn(word, text)

    def test_a_day_of_a_pc(self):
        self.install("pc")
        self.assertRegex(self.virsh("dominfo", "pc"), r"State: +running")
        self.assertRegex(self.virsh("domblkinfo", "pc", "vda"), r"Capacity: +67108864")
        self.assertIn("block.0.rd.reqs=", self.virsh("domstats", "pc"))
        self.virsh("screenshot", "pc", str(self.folder / "pc.ppm"))
        self.assertGreater((self.folder / "pc.ppm").stat().st_size, 1000)
        self.virsh("send-key", "pc", "KEY_A")
        self.virsh("suspend", "pc")
        self.assertIn("paused", self.virsh("domstate", "pc"))
        self.virsh("resume", "pc")
        self.virsh("shutdown", "pc")  # the stock guest does not heed the power button
        self.virsh("destroy", "pc")
        self.assertIn("shut off", self.virsh("domstate", "pc"))

    def test_a_q35_takes_and_loses_devices_and_snapshots(self):
        self.install("q35")
        disk = self.write("disk.xml", MORE_DISK.format(path=self.image("more.raw", "-f", "raw")))
        card = self.write("card.xml", MORE_CARD)
        for device, name in ((disk, "vdb"), (card, "52:54:00:00:00:77")):
            self.virsh("attach-device", "q35", device, "--live")
            self.assertIn(name, self.virsh("dumpxml", "q35"))
        self.virsh("detach-device", "q35", disk, "--live")
        wait_until(lambda: "vdb" not in self.virsh("domblklist", "q35"), "the disk is gone")
        over = self.image("over.qcow2", "-f", "qcow2", "-b", str(self.folder / "q35.qcow2"), "-F", "qcow2")
        self.virsh("snapshot-create-as", "q35", "one", "--disk-only", "--reuse-external", "--diskspec", f"vda,file={over}")
        self.assertIn("over.qcow2", self.virsh("domblklist", "q35"))
        self.virsh("setmem", "q35", "200M", "--live")
        self.virsh("destroy", "q35")
        self.assertIn("shut off", self.virsh("domstate", "q35"))


if __name__ == "__main__":
    unittest.main()
