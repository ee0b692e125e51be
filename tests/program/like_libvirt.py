"""The same virsh commands to Debian's libvirtd and to atolld: what they print is to be the same.

Not part of every run (scripts/test-long has it): it takes libvirtd with its QEMU driver. The commands are in virsh_commands.txt and
virsh_host_commands.txt; those behind "differs:" are known to answer otherwise, and why stands there.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import managed
from guest import GUESTS
from libvirtd import Libvirtd
from managed import Managed

COMMANDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "virsh_commands.txt")
HOST_COMMANDS = COMMANDS.replace("virsh_", "virsh_host_")
DEVICES = """<controller type='usb' model='piix3-uhci'/>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{root}/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><source file='{root}/cd.iso'/><target dev='hdc' bus='ide'/><readonly/></disk>
<interface type='user'><mac address='52:54:00:11:22:3{number}'/><model type='virtio'/></interface>
<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' port='-1'/><video><model type='vga'/></video>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"""
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>11111111-2222-3333-4444-55555555555{number}</uuid><memory unit='MiB'>128</memory>
<vcpu>1</vcpu><iothreads>1</iothreads><os><type arch='x86_64' machine='pc'>hvm</type><kernel>{guests}/vmlinuz</kernel>
<initrd>{guests}/initrd</initrd><cmdline>console=ttyS0</cmdline></os><features><acpi/></features><devices>{devices}</devices></domain>"""
class Side:
    """One of the two, with a folder of its own."""

    def __init__(self, uri):
        self.uri = uri
        self.root = tempfile.mkdtemp(prefix="side-")
        os.chmod(self.root, 0o777)
        self.fill()

    def fill(self):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.root + "/a.qcow2", "8M"], check=True, timeout=60)
        for name in ("cd.iso", "cd2.iso", "b.raw"):
            with open(f"{self.root}/{name}", "wb") as file:
                file.truncate(4 << 20)
        with open(f"{self.root}/dev.xml", "w") as file:
            file.write(f"<disk type='file'><source file='{self.root}/b.raw'/><target dev='vdc' bus='virtio'/></disk>")
        for number, name in enumerate(("on", "off")):
            devices = DEVICES.format(root=self.root, number=number)
            with open(f"{self.root}/{name}.xml", "w") as file:
                file.write(DOMAIN.format(name=name, number=number, guests=GUESTS, devices=devices))
            self.run(f"define {self.root}/{name}.xml")
        self.run("start on")

    def run(self, line):
        command = f"virsh -c '{self.uri}' {line.replace('{root}', self.root)}"
        done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=managed.PATIENCE)
        text = f"[{done.returncode}]\n{done.stdout}{done.stderr}".replace(self.root, "ROOT")
        text = re.sub(r"/dev/pts/\d+", "/dev/pts/N", text)
        text = re.sub(r"<emulator>.*</emulator>", "<emulator/>", text)
        text = re.sub(r"(?m)^-+$", "---", text)  # as wide as the table, which holds paths
        return re.sub(r"(?m)[ \t]+$", "", text)

    def close(self):
        for name in ("on", "off"):
            self.run(f"destroy {name}")
            self.run(f"undefine {name} --snapshots-metadata")
        shutil.rmtree(self.root, ignore_errors=True)


class HostSide(Side):
    """For networks, pools and the like: a folder of XML, no domains."""

    def fill(self):
        shutil.copytree(os.path.dirname(COMMANDS) + "/host_samples", self.root, dirs_exist_ok=True)
        for name in os.listdir(self.root):
            with open(f"{self.root}/{name}") as file:
                text = file.read()
            with open(f"{self.root}/{name}", "w") as file:
                file.write(text.replace("{root}", self.root))

    def close(self):
        for name in ("nat", "inside", "lan"):
            self.run(f"net-destroy {name}")
        for name in ("files", "more"):
            self.run(f"pool-destroy {name}")
        shutil.rmtree(self.root, ignore_errors=True)


class LikeLibvirt(unittest.TestCase):
    maxDiff = None

    def test_domains_answer_the_same(self):
        managed.need("qemu-system-x86_64")
        self.compare("-m", (), Side, COMMANDS)

    def test_networks_pools_and_devices_answer_the_same(self):
        self.compare("-mn", ("unshare", "-n"), HostSide, HOST_COMMANDS)

    def compare(self, namespaces, prefix, make_side, commands):
        managed.need("/usr/sbin/libvirtd", "virsh", "qemu-img", "unshare")
        with contextlib.ExitStack() as stack:
            libvirtd = Libvirtd(namespaces)
            stack.callback(libvirtd.close)
            atolld = Managed(prefix)
            stack.callback(atolld.close)
            sides = [make_side(libvirtd.uri), make_side(atolld.uri)]
            for side in sides:
                stack.callback(side.close)
            with open(commands) as file:
                lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
            for line in lines:
                known = line.startswith("differs:")
                answers = [side.run(line.removeprefix("differs:").strip()) for side in sides]
                with self.subTest(command=line):
                    if not known:
                        self.assertEqual(*answers)


if __name__ == "__main__":
    unittest.main()
